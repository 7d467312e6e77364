"""The tiny classification run that these tests drive through the command line."""

import logging
import sys
from pathlib import Path

import pytest
import yaml

from roadseg.cli import lightning_main
from tests.classification.pictures import write_pictures

TINY = {
    "task": "classification",
    "trainer": {
        "max_epochs": 6,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "precision": "32-true",
        "log_every_n_steps": 1,
    },
    "model": {"backbone": "twins_svt_nano", "drop_path_rate": 0.1, "lr": 1.0e-3, "warmup_epochs": 1},
    "data": {
        "dataset": "colours",
        "image_size": 64,
        "total_batch_size": 12,
        "eval_batch_size": 4,
        "num_workers": 0,
        "rand_augment": None,
        "colour_jitter": 0.1,
    },
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A data root with three classes of coloured pictures: 36 to train, 15 to validate."""
    return write_pictures(tmp_path / "data")


@pytest.fixture
def run(pictures, tmp_path, monkeypatch):
    """Runs the training command in an empty folder, on the pictures; gives its exit status."""
    (tmp_path / "work").mkdir()
    return _runner(tmp_path / "work", pictures, monkeypatch)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder in which one run has ended, and its data root; no test changes that run."""
    root = write_pictures(tmp_path_factory.mktemp("data"))
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        assert _runner(folder, root, patch)("fit") == 0
    return folder, root


@pytest.fixture
def after(trained, monkeypatch):
    """Runs further commands in the folder of the run that has ended; gives their exit status."""
    folder, root = trained
    return _runner(folder, root, monkeypatch)


def _runner(folder, root, monkeypatch):
    monkeypatch.setenv("ROADSEG_DATA", str(root))
    monkeypatch.chdir(folder)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.setattr(sys, "argv", ["lightning"])
    # Lightning's log handler keeps the standard error of the test that imported it first, which is closed by now.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    return lambda command, *arguments: lightning_main([command, "-c", "tiny.yaml", *map(str, arguments)])
