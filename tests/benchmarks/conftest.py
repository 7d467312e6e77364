"""What tests of trainings share."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from benchmarks import training_runs
from tests.benchmarks.fake_runs import write_checkpoint


@pytest.fixture
def started(monkeypatch):
    """The training commands that were started; each leaves a finished checkpoint in a version of its own."""
    commands = []

    def run(command, cwd):
        commands.append(command)
        steps = yaml.safe_load(Path(command[command.index("-c") + 1]).read_text())["trainer"]["max_steps"]
        folder = Path(command[command.index("--trainer.default_root_dir") + 1])
        write_checkpoint(folder / command[command.index("--name") + 1], 10 + len(commands), steps)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(training_runs.subprocess, "run", run)
    return commands
