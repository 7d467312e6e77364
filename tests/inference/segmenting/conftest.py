"""Frames on disk, and a predictor that takes no time."""

import numpy as np
import pytest
from PIL import Image

from roadseg.inference.package import read_model_file
from roadseg.inference.predictor import Predictor
from tests.inference.fake_engine import FakeEngine


def photo(path, seed=0, size=(40, 50)):
    """Write an image of smooth colours, which masks of several classes come from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def drive(tmp_path):
    for seed, name in enumerate(("a.png", "night/a.jpg", "night/b.png")):
        photo(tmp_path / "drive" / name, seed)
    return tmp_path / "drive"


@pytest.fixture
def predictor(model_file):
    return Predictor(FakeEngine(11), read_model_file(model_file).header, "d" * 64)
