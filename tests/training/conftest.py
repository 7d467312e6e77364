"""The tiny training run that these tests drive through the command line."""

import logging
import sys
from pathlib import Path

import pytest
import yaml

from roadseg.cli import lightning_main

TINY = {
    "trainer": {
        "max_epochs": 2,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "precision": "32-true",
        "log_every_n_steps": 1,
    },
    "model": {
        "backbone": "twins_svt_nano",
        "decoder_options": {"width": 16},
        "drop_path_rate": 0.2,
        "lr": 1.0e-3,
        "decoder_lr_multiple": 2.0,
        "warmup_steps": 2,
    },
    "data": {"dataset": "camvid", "batch_size": 2, "crop_size": [32, 48], "num_workers": 0},
}


@pytest.fixture
def run(camvid_root, tmp_path, monkeypatch):
    """Runs the training command in an empty folder, on the tiny CamVid; gives its exit status."""
    monkeypatch.setenv("ROADSEG_DATA", str(camvid_root))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.setattr(sys, "argv", ["lightning"])
    # Lightning's log handler keeps the standard error of the test that imported it first, which is closed by now.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    return lambda command, *arguments: lightning_main([command, "-c", "tiny.yaml", *map(str, arguments)])
