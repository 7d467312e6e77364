"""Who won the duel: `python -m benchmarks.duel.conclude -o benchmarks/duel/results.json`.

Of every model: its tuning trials, the scores of each seed on the drive that no final training saw, parameters,
multiply-accumulates and latency, all in OpenVINO, timed in turn. Of each pair of the plan: the difference with a
paired bootstrap interval, seed by seed; a difference counts as shown where every seed of the plan is there and every
interval leaves out 0 on the same side. Intervals draw frames of one drive, which look alike: they are narrower than
the truth. `miou_merged` is over all that the labels of that drive tell apart; boundary IoU and F1 are means over the
classes that they name alone (docs/metrics.md), without groups such as road and lane markings.

A figure of the differences, differences.png, and settings and metrics of all trainings, logs/, go beside the output.
"""

import argparse
import json
import math
import os
import re
import statistics
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.duel.logs import keep_logs
from benchmarks.duel.plan import PLAN, RUNS, Duel, at_an_end, best_lr, final_runs, folder_of, read_duel, trials
from benchmarks.training_runs import finished
from roadseg.benching.machine import describe_machine
from roadseg.evaluation.compare import Comparison, Score, compare
from roadseg.evaluation.cost import SizeSeen, measure_costs
from roadseg.evaluation.frames import ScoredFrames, open_scored
from roadseg.inference.converted import CACHE_VARIABLE
from roadseg.inference.predictor import Predictor, load_predictor
from roadseg.packaging import package_checkpoint
from roadseg.plots import ScoreIntervals, draw_intervals
from roadseg.taxonomy import Taxonomy

SCORES = (
    "miou_merged", "boundary_iou", "boundary_f1/1px", "boundary_f1/2px", "boundary_f1/3px",
    "thin/pole/recall", "thin/pole/precision", "thin/pole/cldice",
)  # fmt: skip
OF_CLASSES = re.compile(r"iou/.*|boundary_f1_per_class/.*/2px")
"""Beside them: IoU and edges of every class, and of every group of classes, that the labels tell apart."""
SHORT_SIDE_PX = 360
REPEATS = 25


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
        for seed, settings in final_runs(duel, model, runs).items():
            run = folder_of(settings, model, runs)
            if last := finished(settings, run):
                path = folder / f"{run.name}.safetensors"
                package_checkpoint(last, path, short_side_px=SHORT_SIDE_PX)
                found.setdefault(model, {})[seed] = load_predictor(path, engine=engine)
    return found


def conclude(duel: Duel, runs: Path, folder: Path, engine: str, replicates: int) -> dict[str, Any]:
    """The report of what is finished.

    Args:
        duel: the plan.
        runs: folder of the trainings.
        folder: for files that are not kept.
        engine: that runs the models.
        replicates: of the bootstrap.

    Raises:
        SystemExit: when no pair has a seed of both models.
    """
    predictors = load_finished(duel, runs, folder, engine)
    frames = open_scored(_data_file(duel, folder), "val", taxonomy_of(predictors)) if predictors else None
    pairs = compare_pairs(duel, predictors, frames, replicates) if frames else []
    if not frames or not pairs:
        raise SystemExit(
            f"no pair is finished under {runs} (there: {', '.join(predictors) or 'none'}); train both models of one "
            f"({'; '.join(' and '.join(pair) for pair in duel.pairs)}) with `python -m benchmarks.duel.train`"
        )
    return {
        "machine": describe_machine(),
        "engine": engine,
        "frames": len(frames),
        "primary": list(duel.primary),
        "tuning": {model: tuning_of(duel, model, runs) for model in predictors},
        "costs": costs(predictors, frames),
        "pairs": pairs,
    }


def tuning_of(duel: Duel, model: str, runs: Path) -> dict[str, Any]:
    """Scores of a model's trials, None where one diverged, and the learning rate that was chosen."""
    scores = trials(duel, model, runs)
    chosen = best_lr(scores)
    assert chosen is not None, "final trainings follow the trials"
    told = {f"{lr:g}": None if score is None or math.isnan(score) else score for lr, score in scores.items()}
    return {"trials": told, "chosen": chosen, "at_an_end": at_an_end(chosen, duel)}


def taxonomy_of(predictors: Mapping[str, Mapping[int, Predictor]]) -> Taxonomy:
    """The classes that all have."""
    return next(iter(next(iter(predictors.values())).values())).taxonomy


def compare_pairs(
    duel: Duel, predictors: Mapping[str, Mapping[int, Predictor]], frames: ScoredFrames, replicates: int
) -> list[dict[str, Any]]:
    """Differences within each pair of the plan of which both models have a finished seed in common.

    Args:
        duel: the plan.
        predictors: by model and seed.
        frames: that none was trained on.
        replicates: of the bootstrap.
    """
    result = []
    for first, second in duel.pairs:
        shared = sorted(predictors.get(first, {}).keys() & predictors.get(second, {}).keys())
        if shared:
            found = [
                compare((predictors[second][s], predictors[first][s]), frames, replicates, pictures=0) for s in shared
            ]
            rows = {name: summarise([c.scores[name] for c in found], len(duel.final["seeds"])) for name in told(found)}
            groups = {"drawn": found[0].drawn, "groups": found[0].groups}
            result.append({"models": [first, second], "seeds": shared, **groups, "scores": rows})
    return result


def told(compared: Collection[Comparison]) -> list[str]:
    """Scores of the classes, and others, as far as the labels tell them in every comparison."""
    names = [name for name in next(iter(compared)).scores if OF_CLASSES.fullmatch(name) or name in SCORES]
    return [name for name in names if all(math.isfinite(end) for c in compared for end in _figures(c.scores[name]))]


def _figures(score: Score) -> tuple[float, ...]:
    return score.a, score.b, *score.difference_interval


def summarise(by_seed: Sequence[Score], seeds: int) -> dict[str, Any]:
    """Of one score: both models' values, the first's minus the second's, and whether every seed shows the sign.

    Args:
        by_seed: the comparison of each seed, the pair's second model as a.
        seeds: how many there must be.
    """
    intervals = [score.difference_interval for score in by_seed]
    whole = len(intervals) == seeds
    ahead = whole and all(low > 0 for low, _ in intervals)
    behind = whole and all(high < 0 for _, high in intervals)
    return {
        "values": [[score.b for score in by_seed], [score.a for score in by_seed]],
        "differences": [score.difference for score in by_seed],
        "intervals": [list(interval) for interval in intervals],
        "shown": "ahead" if ahead else "behind" if behind else None,
    }


def costs(predictors: Mapping[str, Mapping[int, Predictor]], frames: ScoredFrames) -> dict[str, Any]:
    """Parameters, multiply-accumulates and latency of each model for the first frame, timed in turn."""
    size = {frames.read(0).image.shape[:2]: SizeSeen(len(frames), 0)}
    measured = measure_costs([next(iter(by_seed.values())) for by_seed in predictors.values()], frames, size, REPEATS)
    return {model: asdict(cost) for model, cost in zip(predictors, measured, strict=True)}


def draw(report: Mapping[str, Any]) -> Figure:
    """Every score's differences and intervals, a panel for each pair."""
    return draw_intervals(
        {
            " - ".join(pair["models"]): {
                name: ScoreIntervals(row["differences"], row["intervals"], row["shown"])
                for name, row in pair["scores"].items()
            }
            for pair in report["pairs"]
        },
        "difference of the scores; right of 0 the first model has the higher one",
    )


def print_tables(report: Mapping[str, Any]) -> None:
    """Costs, then every score of every pair: means over the seeds, the seeds' spread, and what is shown."""
    for model, cost in report["costs"].items():
        print(
            f"{model:28}{cost['parameters'] / 1e6:7.2f} M{cost['gmacs']:8.2f} GMAC{1e3 * cost['median_s']:8.1f} ms   "
            f"lr {report['tuning'][model]['chosen']:g} of {report['tuning'][model]['trials']}"
        )
    for pair in report["pairs"]:
        print(f"\n{' against '.join(pair['models'])}, seeds {pair['seeds']}")
        for name, row in pair["scores"].items():
            sides = "".join(f"{statistics.mean(v):8.3f} ({min(v):.3f} to {max(v):.3f})" for v in row["values"])
            mark = "*" if name in report["primary"] else " "
            print(f"{mark} {name:50}{sides}{statistics.mean(row['differences']):+8.3f}  {row['shown'] or '-'}")


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
    with own_cache() as folder:
        report = conclude(duel, runs, folder, args.engine, args.replicates)
    print_tables(report)
    if args.output:
        args.output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
        draw(report).savefig(args.output.with_name("differences.png"), dpi=80)
        keep_logs(duel, runs, args.output.parent / "logs")


@contextmanager
def own_cache() -> Iterator[Path]:
    """A folder for what is converted meanwhile, then removed: nobody will load these models again."""
    before = os.environ.get(CACHE_VARIABLE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ[CACHE_VARIABLE]
            os.environ.update({} if before is None else {CACHE_VARIABLE: before})


def _data_file(duel: Duel, folder: Path) -> Path:
    """The data section of the final trainings, as a file that scoring reads."""
    path = folder / "data.yaml"
    data = duel.run(next(iter(duel.models)), 1.0, duel.final["seeds"][0])["data"]
    path.write_text(json.dumps({"data": data}))  # JSON is YAML
    return path


if __name__ == "__main__":
    main()
