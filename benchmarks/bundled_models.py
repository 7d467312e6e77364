"""Makes a model that comes with roadseg: trains, chooses the scale of its images, trains on everything, packages.

    python -m benchmarks.bundled_models roadseg-nano -o benchmarks/results/roadseg_nano.json

1. `configs/bundled/NAME.yaml` is trained with one drive held out.
2. Those weights are scored on that drive at several scales; the best one is taken.
3. The same configuration is trained on every frame, and packaged into `roadseg/weights`.

What was done already is not done again: a training that was interrupted goes on from its last checkpoint when the same
command is given again. Needs CamVid and its 32-class frames in the data root (`ROADSEG_DATA`).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.machine import describe_machine
from roadseg.checkpoint import package_checkpoint
from roadseg.evaluation.evaluate import Evaluation, evaluate
from roadseg.evaluation.frames import ScoredFrames, open_scored
from roadseg.inference.bundled import BUNDLED_MODELS, WEIGHTS
from roadseg.inference.predictor import load_predictor
from roadseg.taxonomy import load_taxonomy

ROOT = Path(__file__).resolve().parents[1]
LICENCE = "research use only (trained on CamVid)"
SHORT_SIDES_PX = (None, 288, 360, 432, 504)
"""What is tried; None segments images at their own size."""


def fit(name: str, run: Path, *overrides: str) -> Path:
    """Train a bundled configuration, or go on with it; the checkpoint of its last step."""
    config = ROOT / "configs" / "bundled" / f"{name}.yaml"
    last = newest(run)
    if last is None or steps_of(last) < yaml.safe_load(config.read_text())["trainer"]["max_steps"]:
        command = [sys.executable, "-m", "roadseg", "fit", "-c", str(config), "--name", run.name, *overrides]
        resume = [] if last is None else ["--ckpt_path", str(last)]
        subprocess.run([*command, "--trainer.default_root_dir", str(run.parent), *resume], check=True, cwd=ROOT)
        last = newest(run)
    if last is None:
        raise SystemExit(f"the training left no checkpoint under {run}")
    return last


def newest(run: Path) -> Path | None:
    """The last checkpoint of a run's latest version that has one."""
    found = list(run.glob("version_*/checkpoints/last.ckpt"))
    return max(found, key=lambda path: int(re.sub(r"\D", "", path.parts[-3])), default=None)


def steps_of(checkpoint: Path) -> int:
    """Steps after which a checkpoint was written."""
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])


def choose_scale(checkpoint: Path, frames: ScoredFrames) -> tuple[int | None, dict[str, Any], Evaluation]:
    """The best scale, what each scored, and the best one's scores.

    The best has the highest mean of mIoU over merged labels, which all frames tell, and lane_marking IoU.
    """
    table, evaluations = {}, {}
    for short_side_px in SHORT_SIDES_PX:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.safetensors"
            package_checkpoint(checkpoint, model, short_side_px=short_side_px, half=True)
            evaluation = evaluate(load_predictor(model), frames)
        scores = evaluation.scores
        chosen_by = (scores["miou_merged"] + scores["iou"]["lane_marking"]) / 2
        table[str(short_side_px)] = {
            "miou": scores["miou"],
            "miou_merged": scores["miou_merged"],
            "lane_marking": scores["iou"]["lane_marking"],
            "chosen_by": chosen_by,
        }
        evaluations[short_side_px] = evaluation
        print(short_side_px, table[str(short_side_px)], flush=True)
    best = max(SHORT_SIDES_PX, key=lambda side: table[str(side)]["chosen_by"])
    return best, table, evaluations[best]


def main() -> None:
    """Train, choose, package, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BUNDLED_MODELS)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the training runs (default: runs)")
    parser.add_argument("--short-side-px", type=int, help="do not choose a scale: take this one (default: choose)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    report: dict[str, Any] = {"machine": describe_machine(), "config": f"configs/bundled/{args.name}.yaml"}
    short_side_px = args.short_side_px
    if short_side_px is None:
        held_out = fit(args.name, args.runs / f"{args.name}-held-out")
        frames = open_scored(ROOT / report["config"], "val", load_taxonomy("hdmap-camvid"))
        short_side_px, scales, evaluation = choose_scale(held_out, frames)
        report |= {"held_out": {"frames": len(frames), "scales": scales, "scores": evaluation.scores}}
    final = fit(args.name, args.runs / args.name, "--data.hold_out", "[]")
    target = WEIGHTS / f"{args.name}.safetensors"
    digest = package_checkpoint(final, target, short_side_px=short_side_px, weights_licence=LICENCE, half=True)
    report |= {"short_side_px": short_side_px, "sha256": digest, "bytes": target.stat().st_size}
    print(json.dumps(report, indent=1))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
