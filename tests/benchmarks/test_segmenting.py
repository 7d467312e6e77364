"""What `benchmarks.segmenting` counts to the network, and what not."""

import time

import numpy as np
import pytest

from benchmarks import segmenting
from roadseg.inference.package import read_model_file
from roadseg.inference.predictor import Predictor

SLOW_S = 0.05


class SlowEngine:
    """Takes the time that it is told."""

    name, device, precision, special_sizes, batches, streams = "slow", "cpu", "f32", 0, True, 1

    def __init__(self, classes):
        self.classes = classes

    def run(self, images, outputs, *, rescale=True):
        time.sleep(SLOW_S)
        found = {
            "mask": np.zeros(images.shape[:3], np.uint8),
            "confidence": np.ones(images.shape[:3], np.float32),
            "logits": np.zeros((len(images), self.classes, *images.shape[1:3]), np.float32),
        }
        return {name: found[name] for name in outputs}


@pytest.fixture
def predictor(model_file):
    header = read_model_file(model_file).header
    return Predictor(SlowEngine(len(header.taxonomy)), header, "d" * 64)


def test_the_parts_of_a_frame_sum_to_the_whole_and_the_network_is_the_engine(predictor):
    found = segmenting.one_frame(predictor, segmenting.jpeg(0, (48, 64)))
    assert found["network_s"] >= SLOW_S
    assert sum(found[part] for part in segmenting.PARTS) == pytest.approx(found["total_s"])
    assert found["outside_share"] == pytest.approx(1 - found["network_s"] / found["total_s"])
    assert 0 < found["png_kib"] < 10


def test_the_first_frame_of_each_is_thrown_away(predictor, monkeypatch):
    totals = iter([9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    monkeypatch.setattr(segmenting, "one_frame", lambda predictor, data: {"total_s": next(totals)})
    found = segmenting.outside_the_network({"a": predictor, "b": predictor}, b"", 3)
    assert found == {"a": {"total_s": 3.0}, "b": {"total_s": 4.0}}


def test_a_folder_takes_at_least_as_long_as_the_network(predictor, tmp_path):
    row = segmenting.throughput(predictor, tmp_path, (48, 64), 3, 1)
    assert row["frames"] == 3 and 0 < row["files_images_per_s"] <= 1 / SLOW_S
    assert row["ratio"] == pytest.approx(row["files_images_per_s"] / row["memory_images_per_s"])
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 3
