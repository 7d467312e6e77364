"""What `roadseg compare` prints and writes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from roadseg.errors import plural
from roadseg.evaluation.compare import LEAST_DRIVES, Comparison, Score
from roadseg.evaluation.cost import Cost
from roadseg.evaluation.figures import csv_bytes, shown, text_table
from roadseg.evaluation.frames import ScoredFrames
from roadseg.evaluation.output import json_bytes
from roadseg.evaluation.report import FORMAT_VERSION, rows_text
from roadseg.evaluation.seen import Seen
from roadseg.metrics.scoring import plain
from roadseg.provenance import software_versions

_ONLY_WRITTEN = ("boundary_f1_per_class/", "row_iou/iou/")
"""Scores that are in the files and not in the printed table, which is long without them."""
_ENDS = ("a_low", "a_high", "b_low", "b_high", "difference_low", "difference_high")


def compare_text(comparison: Comparison, costs: Sequence[Cost]) -> str:
    """The scores that at least one model has, a star where the difference's interval leaves 0 out; and the cost."""
    rows = [["", "A", "95 %", "B", "95 %", "B - A", "95 %", ""]]
    for name, score in comparison.scores.items():
        if not name.startswith(_ONLY_WRITTEN) and (score.a == score.a or score.b == score.b):
            rows.append(_row(name, score))
    note = (
        f"95 % intervals: Poisson bootstrap, {comparison.replicates} replicates of {_drawn(comparison)}, the same for "
        "A and B; * marks differences whose interval leaves 0 out"
    )
    by_rows = [f"{side}: {rows_text(nested)}" for side, nested in zip("AB", comparison.nested, strict=True)]
    return "\n".join([text_table(rows), "", note, "", *by_rows, "", cost_text(costs)])


def _drawn(comparison: Comparison) -> str:
    """What the intervals come from, and how far they reach: frames of few drives say little of other drives."""
    if comparison.drawn == "drives":
        return plural(comparison.groups, "drive")
    drives = len(comparison.drives)
    reach = "says nothing of new drives" if drives == 1 else "say little of new drives"
    few = f"; fewer than {LEAST_DRIVES} frames: only a hint" if comparison.groups < LEAST_DRIVES else ""
    return f"{plural(comparison.groups, 'frame')} of {plural(drives, 'drive')} ({reach}{few})"


def cost_text(costs: Sequence[Cost]) -> str:
    """Parameters, multiply-accumulates and latency of both models."""
    height, width = costs[0].size
    rows = [["", "A", "B"]]
    rows.append(["parameters (M)", *(f"{cost.parameters / 1e6:.2f}" for cost in costs)])
    rows.append([f"GMACs at {width}x{height}", *(f"{cost.gmacs:.2f}" for cost in costs)])
    rows.append(["latency, median (ms)", *(f"{1e3 * cost.median_s:.1f}" for cost in costs)])
    quartiles = ["{:.1f} to {:.1f}".format(*(1e3 * s for s in cost.quartiles_s)) for cost in costs]
    rows.append([f"quartiles of {costs[0].repeats} runs (ms)", *quartiles])
    return text_table(rows)


def compare_files(
    models: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
    frames: ScoredFrames,
    comparison: Comparison,
    costs: Sequence[Cost],
    seen: Sequence[Seen],
) -> dict[str, bytes]:
    """compare.json and compare.csv.

    Args:
        models: facts of A and B, see `roadseg.evaluation.report.model_facts`.
        data: see `roadseg.evaluation.frames.data_facts`.
        frames: that were compared.
        comparison: what was found.
        costs: of A and B.
        seen: how many of the frames A and B were trained on.

    Returns:
        File name -> content.
    """
    rows = [_plain_row(name, score) for name, score in comparison.scores.items()]
    document = {
        "format_version": FORMAT_VERSION,
        "command": "compare",
        "models": {"a": dict(models[0]), "b": dict(models[1])},
        "data": dict(data),
        "seen_in_training": {"a": seen[0].verdict, "b": seen[1].verdict},
        "software": software_versions(),
        "drives": dict(comparison.drives),
        "bootstrap": {
            "drawn": comparison.drawn,
            "groups": comparison.groups,
            "replicates": comparison.replicates,
            "level": 0.95,
        },
        "scores": {row["score"]: {k: v for k, v in row.items() if k != "score"} for row in rows},
        "nested": {"a": dict(comparison.nested[0]), "b": dict(comparison.nested[1])},
        "cost": {"a": asdict(costs[0]), "b": asdict(costs[1])},
        "differing": [{"frame": frames.name(index), "share": share} for index, share in comparison.differing],
    }
    return {
        "compare.json": json_bytes(document),
        "compare.csv": csv_bytes([list(rows[0]), *(list(row.values()) for row in rows)]),
    }


def _row(name: str, score: Score) -> list[str]:
    low, high = score.difference_interval
    apart = "*" if low > 0 or high < 0 else ""
    return [
        name,
        shown(score.a, 3),
        _shown_interval(score.a_interval),
        shown(score.b, 3),
        _shown_interval(score.b_interval),
        "-" if score.difference != score.difference else f"{score.difference:+.3f}",
        _shown_interval(score.difference_interval, "+.3f"),
        apart,
    ]


def _shown_interval(ends: tuple[float, float], form: str = ".3f") -> str:
    return "-" if ends[0] != ends[0] else f"{ends[0]:{form}} .. {ends[1]:{form}}"


def _plain_row(name: str, score: Score) -> dict[str, Any]:
    ends = (*score.a_interval, *score.b_interval, *score.difference_interval)
    values = {"a": score.a, "b": score.b, "difference": score.difference, **dict(zip(_ENDS, ends, strict=True))}
    return {"score": name, **{key: plain(value) for key, value in values.items()}}
