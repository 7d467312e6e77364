"""What each part of a network and its recipe is worth: one change a row, all else equal, for as many pixels.

    python -m benchmarks.ablation -o benchmarks/results/ablation.json
    python -m benchmarks.ablation --rows paper "narrow decoder" --seeds 0 1

Rows are in `benchmarks/ablation.yaml`: settings that all share, a row that the others are compared with, and what each
of the others changes. Every run is validated on a drive that it has not seen, with averaged weights, after its last
step. A run that was interrupted goes on when the command is given again, and one that is there is not repeated; the
report holds every run that is finished.

A row's gain is the mean over the seeds that it shares with the row that it is compared with. The spread is the standard
deviation s of a seed's score, pooled over all rows with several seeds. A gain over n seeds counts where it is larger
than t s sqrt(2 / n), which chance alone exceeds once in twenty; t is Student's for as many degrees of freedom as s has.
Many rows are compared, so that some count by chance, and those that are compared with one row share its luck.
"""

import argparse
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.training_runs import (
    ROOT,
    check_keys,
    digest,
    finished,
    fit,
    last_scores,
    read_settings,
    read_yaml,
    varied,
)
from roadseg.benching.machine import describe_machine

PLAN = ROOT / "benchmarks" / "ablation.yaml"
SCORES = ("miou_merged", "miou", "iou/lane_marking", "iou/pole", "iou/traffic_sign+traffic_light", "iou/barrier")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the line.
        settings: of its trainings, but the seed.
        against: the row that it is compared with; None for the first.
        why: what is asked.
    """

    name: str
    settings: Mapping[str, Any]
    against: str | None
    why: str


def read_plan(path: Path) -> list[Row]:
    """Rows of a plan.

    Args:
        path: YAML with `config` (beside configs/), `common` changes and `rows`: name, `why`, `changes` and `against`,
            a row before it, whose changes hold too.

    Raises:
        SystemExit: when a key is unknown or missing, a row is compared with none that stands before it or changes
            nothing of it, or two have one name.
    """
    plan = read_yaml(path)
    check_keys(path, "the plan", plan, {"config", "common", "rows"})
    base = varied(read_settings(ROOT / plan["config"]), plan["common"])
    rows: dict[str, Row] = {}
    for entry in plan["rows"]:
        check_keys(path, f"row {entry.get('name')!r}", entry, {"name", "why"}, {"against", "changes"})
        name, against = entry["name"], entry.get("against")
        if name in rows or (against is not None and against not in rows):
            raise SystemExit(f"{path}: row '{name}' is there twice, or 'against' ({against}) is no row before it")
        before = rows[against].settings if against else base
        rows[name] = Row(name, varied(before, entry.get("changes", {})), against, entry["why"])
        if against and rows[name].settings == before:
            raise SystemExit(f"{path}: row '{name}' changes nothing of row '{against}'")
    return list(rows.values())


def run_of(row: Row, seed: int, runs: Path) -> tuple[dict[str, Any], Path]:
    """Settings of one training, and its folder."""
    settings = {**row.settings, "seed_everything": seed}
    return settings, runs / f"{row.name.replace(' ', '-')}-{seed}-{digest(settings)}"


def seeds_of(row: Row, runs: Path) -> list[int]:
    """Seeds of a row's trainings that have a folder, sorted."""
    named = re.compile(re.escape(row.name.replace(" ", "-")) + r"-(\d+)-[0-9a-f]{8}")
    found = {int(match[1]) for folder in runs.glob("*/") if (match := named.fullmatch(folder.name))}
    return sorted(seed for seed in found if run_of(row, seed, runs)[1].is_dir())


def scores_of(row: Row, seed: int, runs: Path) -> dict[str, float] | None:
    """Scores of a training that has made all its steps."""
    last = finished(*run_of(row, seed, runs))
    return {name: value for name, value in last_scores(last).items() if name in SCORES} if last else None


@dataclass(frozen=True)
class Spread:
    """How far apart seeds are.

    Attributes:
        deviation: standard deviation of a seed's score.
        freedom: degrees of freedom that it was estimated with.
    """

    deviation: float
    freedom: int


def spread(by_row: Sequence[Sequence[float]]) -> Spread | None:
    """The spread of a seed's score, pooled over rows; None where no row has two seeds.

    Args:
        by_row: scores of the seeds of each row.
    """
    several = [scores for scores in by_row if len(scores) > 1]
    freedom = sum(len(scores) - 1 for scores in several)
    if not freedom:
        return None
    squares = sum(statistics.variance(scores) * (len(scores) - 1) for scores in several)
    return Spread(math.sqrt(squares / freedom), freedom)


def report(rows: Sequence[Row], runs: Path) -> dict[str, Any]:
    """Scores of what is finished, and what each row gains.

    Args:
        rows: of the plan.
        runs: folder of the trainings.
    """
    scored = {row.name: {seed: s for seed in seeds_of(row, runs) if (s := scores_of(row, seed, runs))} for row in rows}
    spreads = {
        name: spread([[seed[name] for seed in by_seed.values()] for by_seed in scored.values()]) for name in SCORES
    }
    table = [_line(row, scored, spreads) for row in rows if scored[row.name]]
    return {"spread_of_a_seed": {name: s and asdict(s) for name, s in spreads.items()}, "rows": table}


def counts(gain: float, spread_of_a_seed: Spread | None, seeds: int) -> bool | None:
    """Whether a mean gain over seeds is larger than what chance brings once in twenty; None where that is unknown."""
    if spread_of_a_seed is None:
        return None
    t = float(stats.t.ppf(0.975, spread_of_a_seed.freedom))
    return abs(gain) > t * spread_of_a_seed.deviation * math.sqrt(2 / seeds)


def _line(
    row: Row, scored: Mapping[str, Mapping[int, Mapping[str, float]]], spreads: Mapping[str, Spread | None]
) -> dict[str, Any]:
    mine, theirs = scored[row.name], scored.get(row.against or "", {})
    shared = sorted(mine.keys() & theirs.keys())
    gains = {
        name: statistics.mean(mine[seed][name] - theirs[seed][name] for seed in shared) for name in SCORES if shared
    }
    return {
        "name": row.name,
        "why": row.why,
        "against": row.against,
        "by_seed": {str(seed): scores for seed, scores in mine.items()},
        "mean": {name: statistics.mean(scores[name] for scores in mine.values()) for name in SCORES},
        "gain": gains,
        "counts": {name: counts(gain, spreads[name], len(shared)) for name, gain in gains.items()},
        "seeds_of_the_gain": shared,
    }


def print_table(result: Mapping[str, Any]) -> None:
    """Means and gains, one row a line."""
    print(f"{'':34}{'seeds':>6}" + "".join(f"{name.removeprefix('iou/')[:14]:>22}" for name in SCORES))
    for row in result["rows"]:
        cells = [
            f"{row['mean'][name]:.3f}"
            + (f" ({row['gain'][name]:+.3f}{'*' if row['counts'][name] else ''})" if row["gain"] else "")
            for name in SCORES
        ]
        print(f"{row['name']:34}{len(row['by_seed']):>6}" + "".join(f"{cell:>22}" for cell in cells))
    known = {name: f"{found['deviation']:.3f}" for name, found in result["spread_of_a_seed"].items() if found}
    print(f"* counts; spread of a seed: {known or 'unknown, no row has two seeds'}")


def main() -> None:
    """Train what is missing, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, default=PLAN, help="the rows (default: benchmarks/ablation.yaml)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "ablation", help="folder of the trainings")
    parser.add_argument("--rows", nargs="*", help="rows that are trained (default: all; none: only report)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds that are trained (default: 0)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    rows, runs = read_plan(args.plan), args.runs.resolve()
    names = [row.name for row in rows]
    if min(args.seeds) < 0:
        raise SystemExit(f"--seeds holds {min(args.seeds)}; use whole numbers from 0")
    if unknown := sorted(set(args.rows or ()) - set(names)):
        raise SystemExit(f"no row {', '.join(map(repr, unknown))} in {args.plan}; it has {', '.join(map(repr, names))}")
    for seed in args.seeds:
        for row in rows:
            if args.rows is None or row.name in args.rows:
                fit(*run_of(row, seed, runs))
    result = {"machine": describe_machine(), **report(rows, runs)}
    print_table(result)
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
