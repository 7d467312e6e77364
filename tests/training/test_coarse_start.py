"""The first steps at half size: what the network is given, when it stops, and what is refused."""

import numpy as np
import pytest
import torch

from roadseg.coarse_start import check_steps_left, halve
from roadseg.errors import ConfigError
from roadseg.task import SegmentationTask
from roadseg.taxonomy import load_taxonomy


@pytest.mark.parametrize("size", [(8, 12), (7, 13), (2, 2)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_pixels_are_means_of_four_and_labels_are_picked(size, dtype):
    torch.manual_seed(0)
    image, mask = torch.randint(0, 256, (2, 3, *size)).to(dtype), torch.randint(0, 20, (2, *size))
    halved, labels = halve(image, mask)
    height, width = size[0] // 2, size[1] // 2
    fours = image.numpy()[..., : 2 * height, : 2 * width].astype(np.float64).reshape(2, 3, height, 2, width, 2)
    np.testing.assert_allclose(halved.numpy(), fours.mean((3, 5)), rtol=1e-6)
    assert halved.dtype == torch.float32 and labels.dtype == mask.dtype
    assert all(
        labels[b, y, x] == mask[b, 2 * y + 1, 2 * x + 1] for b in (0, 1) for y in range(height) for x in range(width)
    )


def test_steps_up_to_the_setting_see_half_the_size(monkeypatch):
    task = SegmentationTask(load_taxonomy("hdmap-camvid"), backbone="twins_svt_nano", coarse_steps=2)
    sizes, step = [], 0
    monkeypatch.setattr(SegmentationTask, "global_step", property(lambda self: step))
    monkeypatch.setattr(task, "log", lambda *a, **k: None)
    monkeypatch.setattr(task, "log_dict", lambda *a, **k: None)
    task._trainer = type("T", (), {"log_every_n_steps": 10, "optimizers": [torch.optim.SGD(task.parameters(), 0.1)]})()
    original = task._features
    task._features = lambda image: sizes.append(tuple(image.shape[-2:])) or original(image)
    batch = {
        "image": torch.zeros(2, 3, 64, 96, dtype=torch.uint8),
        "mask": torch.zeros(2, 64, 96).long(),
        "name": ["a"] * 2,
    }
    for step in range(4):
        assert torch.isfinite(task.training_step(batch, step))
    assert sizes == [(32, 48), (32, 48), (64, 96), (64, 96)]
    assert task.recipe["coarse_steps"] == 2


@pytest.mark.parametrize("value", [-1, 2.5, True, "100"])
def test_what_is_no_number_of_steps_is_refused(value):
    with pytest.raises(ConfigError, match="model.coarse_steps is .*; use a whole number of steps, 0 for none"):
        SegmentationTask(load_taxonomy("hdmap-camvid"), backbone="twins_svt_nano", coarse_steps=value)


@pytest.mark.parametrize(("coarse", "total"), [(100, 100), (101, 100)])
def test_a_run_that_never_reaches_full_size_is_refused(coarse, total):
    with pytest.raises(ConfigError, match=f"coarse_steps is {coarse}, and the run has {total} steps: none would be at"):
        check_steps_left(coarse, total)
    assert check_steps_left(0, 1) is None and check_steps_left(99, 100) is None
