"""Engines that take the time and give the masks that a test says."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from roadseg.benching import bench
from roadseg.errors import EngineError
from roadseg.inference.package import read_model_file


@dataclass
class FakeEngine:
    """Gives class 0, but class 1 in a share of the first image's rows; may fail from a run on."""

    name: str
    precision: str = "f32"
    device: str = "cpu"
    special_sizes: int = 0
    batches: bool = True
    streams: int = 1
    wrong_rows: int = 0
    fails_at: int | None = None
    runs: list = field(default_factory=list)

    def run(self, images, outputs, *, rescale=True):
        self.runs.append((images.shape, tuple(outputs)))
        if self.fails_at is not None and len(self.runs) >= self.fails_at:
            raise MemoryError("bad allocation\nin line 7")
        mask = np.zeros(images.shape[:3], np.uint8)
        mask[0, : self.wrong_rows] = 1
        return {"mask": mask}


@pytest.fixture
def engines(monkeypatch, model_file):
    """Name of an engine -> the fake that stands for it; others are not installed. No processes, no real masks."""
    made = {}
    header = read_model_file(model_file).header

    def open_runner(runner):
        if runner.engine not in made:
            raise EngineError(f"the {runner.engine} engine is not installed")
        return SimpleNamespace(engine=made[runner.engine], header=header, digest="d" * 64)

    def masks(model, others, images):
        return {pair: np.zeros(batch.shape[:3], np.uint8) for pair, batch in images.items()}

    monkeypatch.setattr(bench, "open_runner", open_runner)
    monkeypatch.setattr(bench, "reference_masks", masks)
    monkeypatch.setattr(bench, "network_cost", lambda header, size: (10, size[0] * size[1]))
    monkeypatch.setattr(bench.Workspace, "ready", lambda self, runner: runner)
    return made
