"""What the duel's trainings are: settings from the plan, and which of them are finished."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.training_runs import ROOT, check_keys, digest, finished, last_scores, read_settings, read_yaml, varied

PLAN = ROOT / "benchmarks" / "duel" / "plan.yaml"
RUNS = ROOT / "runs" / "duel"
CHOSEN_BY = "miou_merged"
"""The score by which a learning rate is chosen: all frames tell it."""


@dataclass(frozen=True)
class Duel:
    """The plan.

    Attributes:
        base: settings that all trainings share.
        models: name to settings of the network.
        tuning: hold_out, seed, steps, how many of them at half size (coarse_steps), and lr, a list.
        final: hold_out, seeds, steps and coarse_steps.
        pairs: models whose difference is reported.
        primary: scores that decide.
    """

    base: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    tuning: Mapping[str, Any]
    final: Mapping[str, Any]
    pairs: Sequence[tuple[str, str]]
    primary: Sequence[str]

    def trial(self, model: str, lr: float) -> dict[str, Any]:
        """Settings of a tuning trial."""
        return self._settings(model, lr, self.tuning["seed"], self.tuning)

    def run(self, model: str, lr: float, seed: int) -> dict[str, Any]:
        """Settings of a final training."""
        return self._settings(model, lr, seed, self.final)

    def _settings(self, model: str, lr: float, seed: int, budget: Mapping[str, Any]) -> dict[str, Any]:
        steps = budget["steps"]
        return varied(
            self.base,
            {
                "seed_everything": seed,
                "trainer": {"max_steps": steps, "val_check_interval": steps},
                "model": {**self.models[model], "lr": lr, "coarse_steps": budget["coarse_steps"]},
                "data": {"hold_out": budget["hold_out"]},
            },
        )


def read_duel(path: Path = PLAN) -> Duel:
    """The plan of a file.

    Raises:
        SystemExit: when a key is unknown or missing, or a pair has a model that is not there.
    """
    plan = read_yaml(path)
    check_keys(path, "the plan", plan, {"recipe", "common", "models", "tuning", "final", "pairs", "primary"})
    check_keys(path, "tuning", plan["tuning"], {"hold_out", "seed", "steps", "coarse_steps", "lr"})
    check_keys(path, "final", plan["final"], {"hold_out", "seeds", "steps", "coarse_steps"})
    base = varied(read_settings(ROOT / plan["recipe"]), plan["common"])
    for part in ("backbone", "decoder", "lr"):  # a model that does not name its own would silently have another's
        base["model"].pop(part, None)
    pairs = [tuple(pair) for pair in plan["pairs"]]
    for name in (name for pair in pairs for name in pair):
        if name not in plan["models"]:
            raise SystemExit(f"{path}: pairs has '{name}'; models has {', '.join(plan['models'])}")
    return Duel(base, plan["models"], plan["tuning"], plan["final"], pairs, plan["primary"])


def folder_of(settings: Mapping[str, Any], model: str, runs: Path) -> Path:
    """Folder of a training."""
    held_out = "-".join(settings["data"]["hold_out"])
    name = f"{model}-{held_out}-lr{settings['model']['lr']:g}-seed{settings['seed_everything']}"
    return runs / f"{name}-{digest(settings)}"


def trials(duel: Duel, model: str, runs: Path) -> dict[float, float | None]:
    """Score of each learning rate that was tried: None where the trial is not finished, NaN where it diverged."""
    return {lr: _score_of(duel.trial(model, lr), model, runs) for lr in duel.tuning["lr"]}


def divergence_mark(run: Path) -> Path:
    """The file that says that a trial diverged."""
    return run.with_name(f"{run.name}.diverged")


def _score_of(trial: Mapping[str, Any], model: str, runs: Path) -> float | None:
    run = folder_of(trial, model, runs)
    if divergence_mark(run).exists():
        return math.nan
    last = finished(trial, run)
    return last_scores(last)[CHOSEN_BY] if last else None


def best_lr(scores: Mapping[float, float | None]) -> float | None:
    """The learning rate with the highest score; None while a trial is missing, and where all diverged (are NaN)."""
    told = {lr: score for lr, score in scores.items() if score is not None}
    trained = {lr: score for lr, score in told.items() if not math.isnan(score)}
    return max(trained, key=trained.__getitem__) if trained and len(told) == len(scores) else None


def final_runs(duel: Duel, model: str, runs: Path) -> dict[int, dict[str, Any]]:
    """Settings of a model's final trainings by seed; none before its learning rate is known."""
    lr = best_lr(trials(duel, model, runs))
    return {} if lr is None else {seed: duel.run(model, lr, seed) for seed in duel.final["seeds"]}


def at_an_end(lr: float, duel: Duel) -> bool:
    """Whether a learning rate is the plan's lowest or highest, beyond which a better one may lie."""
    return lr in (min(duel.tuning["lr"]), max(duel.tuning["lr"]))
