"""Fixtures of the inference tests."""

from pathlib import Path

import pytest

import roadseg.inference.bundled
from roadseg.inference import licence
from tests.inference.test_package import rewrite

TERMS = "research use only (trained on CamVid)"


@pytest.fixture
def bundled(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundled roadseg-nano of random weights, in a folder of its own; and nobody was told a licence yet."""
    folder = tmp_path / "installed" / "weights"
    folder.mkdir(parents=True)
    monkeypatch.setattr(roadseg.inference.bundled, "WEIGHTS", folder)
    monkeypatch.setattr(licence, "_told", set())
    return rewrite(model_file, folder / "roadseg-nano.safetensors", header={"weights_licence": TERMS})
