"""Averaged weights by hand, and masks written by `predict`."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim.swa_utils import AveragedModel

from roadseg.callbacks import MaskWriter, RampedEMA, ramped_average
from roadseg.errors import ConfigError
from roadseg.task import SegmentationTask
from roadseg.taxonomy import load_taxonomy


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def move_to(self, value: int) -> "Tiny":
        self.weight.data.fill_(float(value))
        self.seen.fill_(value)
        return self


def averaged(decay: float) -> AveragedModel:
    return AveragedModel(Tiny(), multi_avg_fn=ramped_average(decay), use_buffers=True)


def averaged_after(decay: float, steps: int) -> list[float]:
    average, model, values = averaged(decay), Tiny(), []
    for step in range(1, steps + 1):
        average.update_parameters(model.move_to(step))
        values.append(average.module.weight.item())
        assert average.module.seen.item() == step, "counters are copied, not averaged"
    return values


def test_the_decay_ramps_up_as_documented():
    expected, average = [], 0.0
    for n in range(20):
        decay = min(0.6, (1 + n) / (10 + n))
        average = float(n + 1) if n == 0 else decay * average + (1 - decay) * (n + 1)
        expected.append(average)
    assert averaged_after(0.6, 20) == pytest.approx(expected, rel=1e-12)


def test_the_random_start_is_forgotten():
    average, model = averaged(0.999), Tiny()
    average.update_parameters(model)  # the first update copies the start, which is 0
    for _ in range(1260):
        average.update_parameters(model.move_to(1))
    assert 1 - average.module.weight.item() < 1e-6


def test_decay_zero_follows_the_weights():
    assert averaged_after(0.0, 5) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_the_average_follows_the_network_to_its_device():
    """Lightning makes it while the network is still on the CPU; every update would then copy across."""
    task = SegmentationTask(load_taxonomy("camvid11"), "resnet18", decoder_options={"width": 8})
    callback = RampedEMA()
    callback.setup(None, task, "fit")
    task.to("meta")
    callback.on_fit_start(None, task)
    assert {p.device.type for p in callback._average_model.parameters()} == {"meta"}


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_named(decay):
    with pytest.raises(ConfigError, match=f"ema.decay is {decay}"):
        RampedEMA(decay)


class Task:
    taxonomy = load_taxonomy("camvid11")


def test_predicted_masks_are_written_under_their_images_names(tmp_path):
    writer, mask = MaskWriter(str(tmp_path)), torch.arange(6, dtype=torch.uint8).view(1, 2, 3)
    writer.write_on_batch_end(None, Task(), {"mask": mask, "name": ["drive/a.jpg"]})
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), mask[0].numpy())
    with pytest.raises(ConfigError, match=r"night/a.png and drive/a.jpg would both be written to"):
        writer.write_on_batch_end(None, Task(), {"mask": mask, "name": ["night/a.png"]})
