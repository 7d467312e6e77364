"""What coarse labels of another drive add to a few fine ones: lane markings on a drive that no training shows.

    python -m benchmarks.mixture --output benchmarks/results/mixture.json

Trains configs/camvid_mixture.yaml (coarse and fine frames, label sets) and the same with the fine frames alone, the
same number of steps, from three seeds each, and scores both on the fine frames of the held-out drive. Needs CamVid's
eleven classes and its 66 fine frames under $ROADSEG_DATA. Runs that are there already are not repeated.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

from roadseg.benching.machine import describe_machine

CONFIG = "configs/camvid_mixture.yaml"
RUNS = {
    "mixture": [],
    "fine alone": ["--data.datasets", "[{dataset: camvid32, weight: 2, short_side_px: 360}]"],
}


def main() -> None:
    """Train what is missing, and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/mixture.json"))
    parser.add_argument("--runs", type=Path, default=Path("runs/mixture"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    scores = {name: [score(train(name, seed, args.runs)) for seed in args.seeds] for name in RUNS}
    result = {
        "what": "IoU on the 50 fine frames of drive 0016E5, which is held out whole",
        "config": CONFIG,
        "seeds": args.seeds,
        "lane_marking": {name: [run["iou/lane_marking"] for run in runs] for name, runs in scores.items()},
        "mean": {name: mean_scores(runs) for name, runs in scores.items()},
        "machine": describe_machine(),
    }
    result["lane_marking_gain"] = difference(result["lane_marking"])
    args.output.write_text(json.dumps(result, indent=2) + "\n")
    print_table(result)


def train(name: str, seed: int, folder: Path) -> Path:
    """Train one run if it is not there; gives its metrics file."""
    run = f"{name.replace(' ', '-')}-{seed}"
    metrics = folder / run / "version_0" / "metrics.csv"
    if not (metrics.parent / "checkpoints" / "best.ckpt").is_file():
        command = [sys.executable, "-m", "roadseg", "fit", "-c", CONFIG, "--name", run, "--seed_everything", str(seed)]
        subprocess.run([*command, "--trainer.default_root_dir", str(folder), *RUNS[name]], check=True)
    return metrics


def score(metrics: Path) -> dict[str, float]:
    """The scores of the last validation of a run."""
    with metrics.open() as file:
        last = [row for row in csv.DictReader(file) if row.get("val/miou")][-1]
    return {key.removeprefix("val/"): float(value) for key, value in last.items() if key.startswith("val/") and value}


def mean_scores(runs: list[dict[str, float]]) -> dict[str, float]:
    """The mean over the seeds of every score."""
    return {
        key: statistics.mean(run[key] for run in runs) for key in sorted(runs[0]) if all(key in run for run in runs)
    }


def difference(lane_marking: dict[str, list[float]]) -> float:
    """How far the mixture's mean is ahead."""
    return statistics.mean(lane_marking["mixture"]) - statistics.mean(lane_marking["fine alone"])


def print_table(result: dict) -> None:
    """The means side by side."""
    names = list(RUNS)
    print(f"{'':24}" + "".join(f"{name:>12}" for name in names))
    for key in result["mean"][names[0]]:
        print(f"{key:24}" + "".join(f"{result['mean'][name].get(key, float('nan')):12.3f}" for name in names))
    print(f"lane_marking, by seed: {result['lane_marking']}; ahead by {result['lane_marking_gain']:.3f}")


if __name__ == "__main__":
    main()
