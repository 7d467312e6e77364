"""Who won the duel: `python -m benchmarks.duel.conclude -o benchmarks/duel/results.json`.

Of every model: its tuning trials, the scores of each seed on the drive that no final training saw, parameters,
multiply-accumulates and latency, all in OpenVINO, timed in turn. Of Twins against each peer: the difference with a
paired bootstrap interval, seed by seed; a difference counts as shown where every seed of the plan is there and every
interval leaves out 0. Intervals draw frames of one drive, which look alike: they are narrower than the truth.
A figure of the differences, differences.png, and settings and metrics of all trainings, logs/, go beside the output.
"""

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.duel.logs import keep_logs
from benchmarks.duel.plan import PLAN, RUNS, Duel, best_lr, folder_of, read_duel, trials
from benchmarks.training_runs import finished
from roadseg.benching.machine import describe_machine
from roadseg.evaluation.compare import Comparison, Score, compare
from roadseg.evaluation.cost import SizeSeen, measure_costs
from roadseg.evaluation.frames import ScoredFrames, open_scored
from roadseg.inference.predictor import Predictor, load_predictor
from roadseg.packaging import package_checkpoint
from roadseg.plots import draw_differences

OURS = "twins"
SCORES = (
    "miou_merged", "boundary_iou", "boundary_f1/1px", "boundary_f1/2px", "boundary_f1/3px",
    *(f"boundary_f1_per_class/{name}/2px" for name in ("barrier", "traffic_sign+traffic_light", "pole")),
    "thin/pole/recall", "thin/pole/precision", "thin/pole/cldice",
)  # fmt: skip
"""Beside the IoU of every class that the labels tell apart: means, and the classes whose edges the claim is about."""
SHORT_SIDE_PX = 360


def load_finished(duel: Duel, runs: Path, folder: Path, engine: str) -> dict[str, dict[int, Predictor]]:
    """Predictors of the final trainings that are finished, by model and seed.

    Args:
        duel: the plan.
        runs: folder of the trainings.
        folder: for the model files.
        engine: that runs them.
    """
    found: dict[str, dict[int, Predictor]] = {}
    for model in duel.models:
        lr = best_lr(trials(duel, model, runs))
        for seed in duel.final["seeds"] if lr else ():
            settings = duel.run(model, lr, seed)
            run = folder_of(settings, model, runs)
            if last := finished(settings, run):
                path = folder / f"{run.name}.safetensors"
                package_checkpoint(last, path, short_side_px=SHORT_SIDE_PX)
                found.setdefault(model, {})[seed] = load_predictor(path, engine=engine)
    return found


def duels(
    predictors: Mapping[str, Mapping[int, Predictor]], frames: ScoredFrames, replicates: int, seeds: int
) -> dict[str, Any]:
    """Differences of our model from each peer, by score and seed.

    Args:
        predictors: by model and seed.
        frames: that none was trained on.
        replicates: of the bootstrap.
        seeds: of the plan.
    """
    result = {}
    for peer, by_seed in predictors.items():
        shared = sorted(by_seed.keys() & predictors[OURS].keys())
        if peer == OURS or not shared:
            continue
        compared = {s: compare((by_seed[s], predictors[OURS][s]), frames, replicates, pictures=0) for s in shared}
        first = compared[shared[0]]
        scores = {
            name: summarise([_row(c.scores[name]) for c in compared.values()], seeds)
            for name in told(compared.values())
        }
        result[peer] = {"seeds": shared, "drawn": first.drawn, "groups": first.groups, "scores": scores}
    return result


def told(compared: Collection[Comparison]) -> list[str]:
    """The IoU of every class, and other scores, as far as the labels tell them in every comparison."""
    names = [name for name in next(iter(compared)).scores if name.startswith("iou/") or name in SCORES]
    return [n for n in names if all(math.isfinite(s) for c in compared for s in (c.scores[n].a, c.scores[n].b))]


def _row(score: Score) -> tuple[float, float, tuple[float, float]]:
    return score.a, score.b, score.difference_interval


def summarise(by_seed: Sequence[tuple[float, float, tuple[float, float]]], seeds: int) -> dict[str, Any]:
    """Of one score: both models' values, the differences, and whether every seed shows their sign.

    Args:
        by_seed: (the peer's, ours, interval of ours minus the peer's) of each seed.
        seeds: how many there must be.
    """
    intervals = [interval for *_, interval in by_seed]
    whole = len(intervals) == seeds
    ahead = whole and all(low > 0 for low, _ in intervals)
    behind = whole and all(high < 0 for _, high in intervals)
    return {
        "peer": [peer for peer, *_ in by_seed],
        "ours": [ours for _, ours, _ in by_seed],
        "differences": [ours - peer for peer, ours, _ in by_seed],
        "intervals": [list(interval) for interval in intervals],
        "shown": "ahead" if ahead else "behind" if behind else "no difference shown",
    }


def costs(predictors: Mapping[str, Mapping[int, Predictor]]) -> dict[str, Any]:
    """Parameters, multiply-accumulates and latency of each model at 480x360, timed in turn."""
    image = np.random.default_rng(0).integers(0, 256, (360, 480, 3), np.uint8)
    firsts = {model: next(iter(by_seed.values())) for model, by_seed in predictors.items()}
    measured = measure_costs([*firsts.values()], _OneImage(image), {image.shape[:2]: SizeSeen(1, 0)}, repeats=25)
    return {
        model: {"parameters": cost.parameters, "gmacs": cost.gmacs, "median_ms": 1e3 * cost.median_s}
        for model, cost in zip(firsts, measured, strict=True)
    }


class _OneImage:
    """Frames of which only one is read, for its size."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def read(self, index: int) -> "_OneImage":
        """The frame."""
        return self


def draw(report: Mapping[str, Any]) -> Figure:
    """Every score's differences and intervals, a panel for each peer."""
    return draw_differences(
        {
            f"{OURS} - {peer}": {
                name: list(zip(row["differences"], row["intervals"], strict=True))
                for name, row in found["scores"].items()
            }
            for peer, found in report["duels"].items()
        }
    )


def print_tables(report: Mapping[str, Any]) -> None:
    """Costs, then every score of every pair."""
    for model, cost in report["costs"].items():
        print(
            f"{model:28}{cost['parameters'] / 1e6:7.2f} M{cost['gmacs']:8.2f} GMAC{cost['median_ms']:8.1f} ms   "
            f"lr {report['tuning'][model]['chosen']:g} of {report['tuning'][model]['trials']}"
        )
    for peer, found in report["duels"].items():
        print(f"\n{OURS} against {peer}, seeds {found['seeds']}")
        for name, row in found["scores"].items():
            values = [statistics.mean(row[side]) if row[side] else float("nan") for side in ("ours", "peer")]
            print(f"{name:34}{values[0]:8.3f}{values[1]:8.3f}{values[0] - values[1]:+8.3f}  {row['shown']}")


def main() -> None:
    """Score what is finished, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, default=PLAN, help="default: benchmarks/duel/plan.yaml")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the trainings (default: runs/duel)")
    parser.add_argument("--engine", default="openvino", help="default: openvino")
    parser.add_argument("--replicates", type=int, default=1000, help="of the bootstrap (default: 1000)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    duel, runs = read_duel(args.plan), args.runs.resolve()
    with tempfile.TemporaryDirectory() as folder:
        predictors = load_finished(duel, runs, Path(folder), args.engine)
        if OURS not in predictors or len(predictors) < 2:
            raise SystemExit(
                f"no duel is finished under {runs} (there: {', '.join(predictors) or 'none'}); "
                f"train {OURS} and a peer with `python -m benchmarks.duel.train`"
            )
        first = next(iter(predictors[OURS].values()))
        settings = duel.run(OURS, 1.0, 0)
        frames = open_scored(_data_file(settings, Path(folder)), "val", first.taxonomy)
        tuned = {model: trials(duel, model, runs) for model in predictors}
        report = {
            "machine": describe_machine(),
            "engine": args.engine,
            "frames": len(frames),
            "tuning": {
                m: {"trials": {f"{lr:g}": s for lr, s in t.items()}, "chosen": best_lr(t)} for m, t in tuned.items()
            },
            "costs": costs(predictors),
            "duels": duels(predictors, frames, args.replicates, len(duel.final["seeds"])),
        }
    print_tables(report)
    if args.output:
        args.output.write_text(json.dumps(report, indent=1) + "\n")
        draw(report).savefig(args.output.with_name("differences.png"), dpi=80)
        keep_logs(duel, runs, args.output.parent / "logs")


def _data_file(settings: Mapping[str, Any], folder: Path) -> Path:
    """The data section of a training, as a file that scoring reads."""
    path = folder / "data.yaml"
    path.write_text(json.dumps({"data": settings["data"]}))  # JSON is YAML
    return path


if __name__ == "__main__":
    main()
