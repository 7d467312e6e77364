"""What stays of the duel's trainings: their settings and their losses and scores, without checkpoints."""

import shutil
from pathlib import Path

from benchmarks.duel.plan import Duel, best_lr, folder_of, trials
from benchmarks.training_runs import finished


def keep_logs(duel: Duel, runs: Path, folder: Path) -> list[Path]:
    """Copy settings (RUN.yaml) and metrics (RUN.csv) of every finished training of the plan.

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
        of_model = [duel.trial(model, lr) for lr in duel.tuning["lr"]]
        if lr := best_lr(trials(duel, model, runs)):
            of_model += [duel.run(model, lr, seed) for seed in duel.final["seeds"]]
        for settings in of_model:
            run = folder_of(settings, model, runs)
            if last := finished(settings, run):
                kept += [
                    Path(shutil.copy(source, folder / f"{run.name}{source.suffix}"))
                    for source in (run.with_name(f"{run.name}.yaml"), last.parents[1] / "metrics.csv")
                ]
    return kept
