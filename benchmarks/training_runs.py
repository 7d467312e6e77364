"""Trainings that benchmarks start, and that the same command goes on with after an interruption."""

import copy
import csv
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
PRECISION = "32-true"
"""Of every training, so that one that goes on elsewhere is still the same one; the default depends on the machine."""


def read_settings(config: Path) -> dict[str, Any]:
    """Settings of a configuration, those of its data, which it may name by a file, among them.

    Args:
        config: YAML file of `roadseg fit`.

    Raises:
        SystemExit: when a file is missing, or is no YAML or no mapping.
    """
    settings = read_yaml(config)
    if isinstance(settings["data"], str):
        settings["data"] = read_yaml(config.parent / settings["data"])
    return settings


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a file.

    Raises:
        SystemExit: when the file is missing, or is no YAML or no mapping.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SystemExit(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise SystemExit(f"{path} holds no mapping of names to values, but {type(found).__name__}")
    return found


def varied(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of settings with some changed; a mapping changes what it names, everything else is replaced.

    Args:
        settings: from `read_settings`.
        changes: in the same shape; None takes a setting away.
    """
    result = copy.deepcopy(dict(settings))
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = varied(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result


def check_keys(
    path: Path, what: str, given: Mapping[str, Any], needed: Collection[str], allowed: Collection[str] = ()
) -> None:
    """Check that a part of a plan has the keys that are read, and no others.

    Raises:
        SystemExit: naming the first that is missing or unknown; a misspelt one would silently change nothing.
    """
    for name in given:
        if name not in (*needed, *allowed):
            raise SystemExit(f"{path}: {what} has '{name}'; known: {', '.join(sorted({*needed, *allowed}))}")
    for name in sorted(needed):
        if name not in given:
            raise SystemExit(f"{path}: {what} has no '{name}'")


def digest(settings: Any) -> str:
    """Eight letters that differ where settings do."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def fit(settings: Mapping[str, Any], run: Path) -> Path:
    """Train, or go on with a training that was interrupted.

    Args:
        settings: of `roadseg fit`; they are kept beside the run, as RUN.yaml.
        run: folder of the training.

    Returns:
        The checkpoint of its last step.

    Raises:
        SystemExit: with the training's own status where it failed.
    """
    if finished(settings, run) is None:
        last = newest(run)
        run.parent.mkdir(parents=True, exist_ok=True)
        config = run.with_name(f"{run.name}.yaml")
        config.write_text(yaml.safe_dump(dict(settings), sort_keys=False))
        command = [sys.executable, "-m", "roadseg", "fit", "-c", str(config), "--name", run.name]
        command += ["--trainer.default_root_dir", str(run.parent), "--trainer.precision", PRECISION]
        command += ["--ckpt_path", str(last)] if last else []
        if status := subprocess.run(command, cwd=ROOT).returncode:  # it has said why
            raise SystemExit(status)
    last = newest(run)
    if last is None:
        raise SystemExit(f"the training left no checkpoint under {run}")
    return last


def finished(settings: Mapping[str, Any], run: Path) -> Path | None:
    """The last checkpoint of a training that has made all its steps, or None; arguments as of `fit`."""
    last = newest(run)
    return last if last is not None and steps_of(last) >= settings["trainer"]["max_steps"] else None


def newest(run: Path) -> Path | None:
    """The last checkpoint of a run's latest version that has one."""
    return next(reversed(in_versions(run, "checkpoints/last.ckpt")), None)


def in_versions(run: Path, name: str) -> list[Path]:
    """A file of each of a run's versions that has it, the latest version's last."""
    found = [(int(re.sub(r"\D", "", version.name)), version / name) for version in run.glob("version_*")]
    return [path for _, path in sorted(found) if path.exists()]


def steps_of(checkpoint: Path) -> int:
    """Steps after which a checkpoint was written."""
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])


def last_scores(checkpoint: Path) -> dict[str, float]:
    """Scores of the last validation of the run that wrote a checkpoint, without their prefix "val/"."""
    with (checkpoint.parents[1] / "metrics.csv").open() as file:
        last = [row for row in csv.DictReader(file) if row.get("val/miou")][-1]
    return {
        name.removeprefix("val/"): float(value) for name, value in last.items() if name.startswith("val/") and value
    }
