"""Makes a model that comes with roadseg: trains, chooses the scale of its images, trains on everything, packages.

    python -m benchmarks.bundled_models roadseg-nano -o benchmarks/results/roadseg_nano.json

1. `configs/bundled/NAME.yaml` is trained with one drive held out.
2. Those weights are scored on that drive at several scales; the smallest that is about as good as the best is taken.
3. The same configuration is trained on every frame, and packaged into `roadseg/weights`.
4. What was packaged is scored on CamVid's usual validation split, by `evaluate` and by plain numpy. It was trained on
   these frames: that is a figure to check an installation by, not one of quality.

`--scale-of OTHER` leaves 1 and 2 out and takes the scale of another bundled model: for a peer that shall see the same
images. Then there are no figures on unseen frames; all scores on that drive are kept, which it was trained on.

What was done already is not done again: a training that was interrupted goes on from its last checkpoint when the same
command is given again. Runs carry a digest of their configuration in their names, so that another recipe starts anew.
Needs CamVid and its 32-class frames in the data root (`ROADSEG_DATA`).
"""

import argparse
import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.training_runs import ROOT, digest, fit, read_settings, varied
from roadseg.benching.machine import describe_machine
from roadseg.data.root import data_root
from roadseg.evaluation.evaluate import evaluate
from roadseg.evaluation.frames import ScoredFrames, open_scored
from roadseg.inference.bundled import BUNDLED_MODELS, WEIGHTS, model_path
from roadseg.inference.package import read_model_file
from roadseg.inference.predictor import Predictor, load_predictor
from roadseg.packaging import package_checkpoint
from roadseg.taxonomy import load_taxonomy

LICENCE = "research use only (trained on CamVid)"
SHORT_SIDES_PX = (None, 288, 360, 432, 504)
"""What is tried; None segments images at their own size."""

WORTH = 0.005
"""What a larger scale has to score more: its time grows with the square of the side."""

ELEVEN = {
    "sky": ["sky"], "building": ["building", "wall"], "pole": ["pole"], "road": ["road", "lane_marking"],
    "pavement": ["sidewalk"], "tree": ["vegetation"], "sign_symbol": ["traffic_sign", "traffic_light"],
    "fence": ["barrier"], "car": ["vehicle"], "pedestrian": ["person"], "bicyclist": ["two_wheeler"],
}  # fmt: skip
"""CamVid's eleven classes in the order of their indices, and the classes of hdmap-camvid that each holds."""


def settings_of(name: str) -> dict[str, Any]:
    """Settings of a bundled configuration, with those of its data."""
    return read_settings(ROOT / "configs" / "bundled" / f"{name}.yaml")


def train(name: str, runs: Path, *, hold_out: bool) -> Path:
    """Train a bundled configuration, or go on with it; the checkpoint of its last step.

    Args:
        name: of the model.
        runs: folder of the trainings.
        hold_out: whether the configuration's drive is held out; otherwise every frame is trained on.
    """
    settings = settings_of(name)
    run = runs / f"{name}-{digest(settings)}{'-held-out' if hold_out else ''}"
    return fit(settings if hold_out else varied(settings, {"data": {"hold_out": []}}), run)


def choose_scale(checkpoint: Path, frames: ScoredFrames) -> dict[str, Any]:
    """What each scale scores, the one that is chosen, and all scores of that.

    Judged by the mean of mIoU over merged labels, which all frames tell, and lane_marking IoU; see `smallest_good`. The
    choice is kept beside the checkpoint.
    """
    kept = checkpoint.with_name("scales.json")
    if kept.exists() and (found := json.loads(kept.read_text()))["checkpoint"] == sha256(checkpoint):
        return found
    table, scores = {}, {}
    for short_side_px in SHORT_SIDES_PX:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.safetensors"
            package_checkpoint(checkpoint, model, short_side_px=short_side_px, half=True)
            scores[short_side_px] = scored = evaluate(load_predictor(model), frames).scores
        row = {
            "miou": scored["miou"],
            "miou_merged": scored["miou_merged"],
            "lane_marking": scored["iou"]["lane_marking"],
        }
        table[str(short_side_px)] = row | {"chosen_by": (row["miou_merged"] + row["lane_marking"]) / 2}
        print(short_side_px, table[str(short_side_px)], flush=True)
    chosen = smallest_good({side: table[str(side)]["chosen_by"] for side in SHORT_SIDES_PX})
    choice = {"short_side_px": chosen, "scales": table, "scores": scores[chosen], "checkpoint": sha256(checkpoint)}
    kept.write_text(json.dumps(choice))
    return choice


def smallest_good(values: Mapping[int | None, float]) -> int | None:
    """The smallest short side whose value is within `WORTH` of the best; images at their own size are the largest.

    Args:
        values: by short side in px; None stands for images at their own size.
    """
    least = max(values.values()) - WORTH
    return min((side for side, value in values.items() if value >= least), key=lambda side: side or math.inf)


def sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def own_miou(predictor: Predictor) -> float:
    """Mean IoU over CamVid's eleven classes on its validation split, in numpy alone."""
    eleven = np.array(
        [next(i for i, members in enumerate(ELEVEN.values()) if c.name in members) for c in predictor.taxonomy.classes]
    )
    hits, union = np.zeros(len(ELEVEN)), np.zeros(len(ELEVEN))
    for image in sorted((data_root() / "camvid" / "val").iterdir()):
        truth = np.asarray(Image.open(data_root() / "camvid" / "valannot" / f"{image.stem}.png"))
        mask, labelled = eleven[predictor(image).mask], truth < len(ELEVEN)
        for c in range(len(ELEVEN)):
            hits[c] += ((mask == c) & (truth == c)).sum()
            union[c] += (((mask == c) & labelled) | (truth == c)).sum()
    return float((hits / union).mean())


def drive_of(name: str) -> ScoredFrames:
    """Frames of the drive that a configuration holds out."""
    return open_scored(ROOT / "configs" / "bundled" / f"{name}.yaml", "val", load_taxonomy("hdmap-camvid"))


def score_held_out(name: str, runs: Path) -> dict[str, Any]:
    """Train with a drive held out; the scale that is best on that drive, and the scores there."""
    frames = drive_of(name)
    choice = choose_scale(train(name, runs, hold_out=True), frames)
    return {"frames": len(frames), "datasets": frames.datasets(), **choice}


def score_seen(name: str) -> dict[str, float]:
    """Mean IoU of the packaged model on CamVid's usual validation frames, by `evaluate` and by numpy."""
    predictor = load_predictor(name)
    frames = open_scored(ROOT / "configs" / "data" / "camvid.yaml", "val", predictor.taxonomy)
    return {"roadseg eval": evaluate(predictor, frames).scores["miou_merged"], "numpy": own_miou(predictor)}


def main() -> None:
    """Train, choose, package, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BUNDLED_MODELS)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the training runs (default: runs)")
    parser.add_argument("--scale-of", choices=BUNDLED_MODELS, help="take this model's scale; train none held out")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    config, runs = f"configs/bundled/{args.name}.yaml", args.runs.resolve()
    held_out = None if args.scale_of else score_held_out(args.name, runs)
    side = held_out["short_side_px"] if held_out else read_model_file(model_path(args.scale_of)).header.short_side_px
    final = train(args.name, runs, hold_out=False)
    target = WEIGHTS / f"{args.name}.safetensors"
    digest = package_checkpoint(final, target, short_side_px=side, weights_licence=LICENCE, half=True)
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "config": config,
        "held_out": held_out,
        "short_side_px": side,
        "sha256": digest,
        "bytes": target.stat().st_size,
        "usual_val_that_was_trained_on": score_seen(args.name),
    }
    if held_out is None:  # there are class figures of frames that it has seen, and no others
        report["drive_that_was_trained_on"] = evaluate(load_predictor(args.name), drive_of(args.name)).scores
    print(json.dumps(report, indent=1))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
