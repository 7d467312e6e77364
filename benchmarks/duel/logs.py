"""What stays of the duel's trainings: their settings and their losses and scores, without checkpoints."""

import csv
import shutil
from pathlib import Path

from benchmarks.duel.plan import Duel, divergence_mark, final_runs, folder_of
from benchmarks.training_runs import finished, in_versions


def keep_logs(duel: Duel, runs: Path, folder: Path) -> list[Path]:
    """Copy settings (RUN.yaml) and metrics (RUN.csv) of every training of the plan that is finished or diverged.

    Args:
        duel: the plan.
        runs: folder of the trainings.
        folder: to copy to; it is made. What other plans left there stays.

    Returns:
        The copies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for model in duel.models:
        tried = [duel.trial(model, lr) for lr in duel.tuning["lr"]]
        for settings in [*tried, *final_runs(duel, model, runs).values()]:
            run = folder_of(settings, model, runs)
            if finished(settings, run) or divergence_mark(run).exists():
                kept.append(Path(shutil.copy(run.with_name(f"{run.name}.yaml"), folder)))
                kept.append(_join_metrics(run, folder / f"{run.name}.csv"))
    return kept


def _join_metrics(run: Path, path: Path) -> Path:
    """Metrics of all versions of a run in one file: a training that was interrupted and went on has several.

    Steps behind its last checkpoint were made twice, and are there twice.
    """
    rows = []
    for version in in_versions(run, "metrics.csv"):
        with version.open() as file:
            rows += list(csv.DictReader(file))
    names = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
