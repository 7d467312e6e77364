"""What `roadseg eval` prints and writes."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roadseg.evaluation.confusion_figure import confusion_png, confusion_rows
from roadseg.evaluation.evaluate import Evaluation
from roadseg.evaluation.figures import band_names, csv_bytes, flatten, shown, text_table
from roadseg.evaluation.frames import ScoredFrames
from roadseg.evaluation.output import json_bytes
from roadseg.evaluation.seen import Seen
from roadseg.inference.predictor import Predictor
from roadseg.metrics.scoring import plain
from roadseg.provenance import software_versions

FORMAT_VERSION = 1
_ROAD = "road"
_COLUMNS = (
    ("IoU", "iou", "iou/{}"),
    ("bIoU", "boundary_iou", "boundary_iou_per_class/{}"),
    ("F1 1px", "boundary_f1_1px", "boundary_f1_per_class/{}/1px"),
    ("2px", "boundary_f1_2px", "boundary_f1_per_class/{}/2px"),
    ("3px", "boundary_f1_3px", "boundary_f1_per_class/{}/3px"),
    ("thin recall", "thin_recall", "thin/{}/recall"),
    ("precision", "thin_precision", "thin/{}/precision"),
    ("clDice", "thin_cldice", "thin/{}/cldice"),
)
"""Heading in the printed table, name in the CSV, and place in the flattened scores, {} being the class."""


def model_facts(name: str, predictor: Predictor) -> dict[str, Any]:
    """What was scored and how it ran, in plain values."""
    header = predictor.header
    return {
        "name": Path(name).name,
        "digest": predictor.digest,
        "backbone": header.architecture.backbone,
        "decoder": header.architecture.decoder,
        "taxonomy": {"name": header.taxonomy.name, "version": header.taxonomy.version},
        "short_side_px": header.short_side_px,
        "engine": predictor.engine.name,
        "precision": predictor.engine.precision,
        "device": predictor.engine.device.partition(":")[0],
    }


def class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """For each label: name, pixels, share of the labelled pixels, and its scores, None where there are none."""
    pixels = evaluation.confusion.sum(1).tolist()
    scores = flatten(evaluation.scores)
    total = max(1, sum(pixels))
    return [
        {
            "class": name,
            "pixels": count,
            "share": count / total,
            **{column: plain(scores.get(place.format(name), math.nan)) for _, column, place in _COLUMNS},
        }
        for name, count in zip(evaluation.label_sets.names, pixels, strict=True)
    ]


def eval_text(evaluation: Evaluation) -> str:
    """The table of classes, and the scores over all of them."""
    rows = [["class", "share", *(heading for heading, _, _ in _COLUMNS)]]
    for row in class_rows(evaluation):
        if row["pixels"] or row["iou"] is not None:
            scores = [shown(row[column]) for _, column, _ in _COLUMNS]
            rows.append([row["class"], f"{row['share']:.2%}" if row["pixels"] else "-", *scores])
    overall = [f"{name:<16} {value}" for name, value in _overall(evaluation.scores)]
    return "\n".join([text_table(rows), "", *overall, "", rows_text(evaluation.scores)])


def eval_files(
    model: Mapping[str, Any],
    predictor: Predictor,
    data: Mapping[str, Any],
    frames: ScoredFrames,
    evaluation: Evaluation,
    seen: Seen,
) -> dict[str, bytes]:
    """scores.json, scores.csv, confusion.csv and confusion.png.

    Args:
        model: see `model_facts`.
        predictor: the model.
        data: see `roadseg.evaluation.frames.data_facts`.
        frames: that were scored.
        evaluation: what was found.
        seen: how many of the frames the model was trained on.

    Returns:
        File name -> content.
    """
    rows = class_rows(evaluation)
    document = {
        "format_version": FORMAT_VERSION,
        "command": "eval",
        "model": dict(model),
        "weights_licence": predictor.header.weights_licence,
        "data": dict(data),
        "seen_in_training": seen.verdict,
        "software": software_versions(),
        "scores": dict(evaluation.scores),
        "classes": rows,
        "worst": [{"frame": frames.name(index), "miou": miou} for index, miou in evaluation.worst],
    }
    title = f"{model['name']} on {data['config']}, {data['split']}: {data['frames']} frames"
    return {
        "scores.json": json_bytes(document),
        "scores.csv": csv_bytes([list(rows[0]), *(list(row.values()) for row in rows)]),
        "confusion.csv": csv_bytes(confusion_rows(evaluation.confusion, evaluation.label_sets)),
        "confusion.png": confusion_png(evaluation.confusion, evaluation.label_sets, title),
    }


def rows_text(scores: Mapping[str, Any]) -> str:
    """IoU in each band of image rows, top to bottom: the mean over what its labels hold, road, and thin classes."""
    bands = scores["row_iou"]
    rows = [["IoU by image rows", *band_names(bands["rows"])], ["mean", *(shown(value, 3) for value in bands["miou"])]]
    for name, values in bands["iou"].items():
        wanted = any(part in scores["thin"] or part.lower() == _ROAD for part in name.split("+"))
        if wanted and any(value is not None for value in values):
            rows.append([name, *(shown(value, 3) for value in values)])
    return text_table(rows)


def _overall(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    by_tolerance = ", ".join(f"{shown(value)} at {size}" for size, value in scores["boundary_f1"].items())
    merged = f"{shown(scores['miou_merged'])}  (classes that the labels do not tell apart count as one)"
    return [
        ("mIoU", shown(scores["miou"])),
        *([] if scores["miou_merged"] is None else [("mIoU, merged", merged)]),
        ("boundary IoU", shown(scores["boundary_iou"])),
        ("boundary F1", by_tolerance),
        ("accuracy", shown(scores["accuracy"])),
        ("ECE", shown(scores["ece"])),
    ]
