"""Models of random weights, on which networks are measured that nobody has trained."""

import numpy as np

from benchmarks.random_model import write_random_model
from roadseg.benching.work import scenes
from roadseg.inference.predictor import load_predictor


def test_they_do_not_say_one_class_everywhere(tmp_path):
    """Any two engines would agree on that."""
    path = tmp_path / "random.safetensors"
    digest = write_random_model(path, "twins_svt_nano", "linear_concat", 19)
    predictor = load_predictor(path, engine="torch", device="cpu")
    shares = np.bincount(predictor(scenes((64, 96), 1)[0]).mask.ravel(), minlength=19) / (64 * 96)
    assert (shares > 0.02).sum() >= 4
    assert digest == predictor.digest == write_random_model(path, "twins_svt_nano", "linear_concat", 19)
    assert digest != write_random_model(path, "twins_svt_nano", "linear_concat", 19, seed=1)
