"""Tunes and trains one model of the duel: `python -m benchmarks.duel.train MODEL`.

Each learning rate of the plan is tried on one drive, the best is trained from every seed with another drive held out.
What is done already is not done again, and what was interrupted goes on.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.duel.plan import (
    PLAN,
    RUNS,
    at_an_end,
    best_lr,
    divergence_mark,
    final_runs,
    folder_of,
    read_duel,
    trials,
)
from benchmarks.training_runs import fit
from roadseg.errors import DivergenceError


def train(model: str, plan: Path = PLAN, runs: Path = RUNS, seeds: int | None = None) -> None:
    """Make every training of a model.

    Args:
        model: a name of the plan.
        plan: the file.
        runs: folder of the trainings.
        seeds: so many of the plan's seeds; None makes all.

    Raises:
        SystemExit: when the plan has no such model or not so many seeds, or a training fails.
    """
    duel = read_duel(plan)
    if model not in duel.models:
        raise SystemExit(f"no model '{model}' in {plan}; it has {', '.join(duel.models)}")
    if seeds is not None and not 1 <= seeds <= len(duel.final["seeds"]):
        raise SystemExit(f"--seeds is {seeds}; use 1 to {len(duel.final['seeds'])}, the seeds of {plan}")
    for lr in duel.tuning["lr"]:
        settings = duel.trial(model, lr)
        _try(settings, folder_of(settings, model, runs))
    scores = trials(duel, model, runs)
    chosen = best_lr(scores)
    if chosen is None:
        raise SystemExit(
            f"{model} diverged at every learning rate ({', '.join(f'{lr:g}' for lr in scores)}); try lower"
        )
    beyond = ", at the end of what was tried: a better one may lie beyond" if at_an_end(chosen, duel) else ""
    print(f"{model}: {scores}; learning rate {chosen:g}{beyond}", flush=True)
    for settings in list(final_runs(duel, model, runs).values())[:seeds]:
        fit(settings, folder_of(settings, model, runs))


def _try(settings: Mapping[str, Any], run: Path) -> None:
    """Make a trial; one that diverges is a bad learning rate, not the end of the search."""
    if divergence_mark(run).exists():
        return
    try:
        fit(settings, run)
    except SystemExit as ended:
        if ended.code != DivergenceError.exit_status:
            raise
        divergence_mark(run).touch()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a name of the plan, for example twins")
    parser.add_argument("--plan", type=Path, default=PLAN, help="default: benchmarks/duel/plan.yaml")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the trainings (default: runs/duel)")
    parser.add_argument("--seeds", type=int, help="train so many of the plan's seeds (default: all)")
    args = parser.parse_args()
    train(args.model, args.plan, args.runs.resolve(), args.seeds)


if __name__ == "__main__":
    main()
