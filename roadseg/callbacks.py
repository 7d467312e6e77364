"""Lightning callbacks: averaged weights, and masks written by `predict`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, WeightAveraging
from torch import Tensor

from roadseg.errors import ConfigError
from roadseg.inference.result import encode_mask, write_whole


class RampedEMA(WeightAveraging):
    """Exponential moving average of the weights; the averaged ones are validated, saved and packaged.

    The decay after n updates is min(decay, (1 + n) / (10 + n)). A constant decay of 0.999 would keep 28 % of the random
    start after 1,260 steps.

    Args:
        decay: final decay, 0 up to 1; 0 averages nothing.

    Raises:
        ConfigError: when decay is out of range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"ema.decay is {decay}; use a value from 0 up to, but not, 1")
        super().__init__(use_buffers=True, multi_avg_fn=ramped_average(decay))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to where the network trains; it is made before the network has got there."""
        assert self._average_model is not None  # made by setup
        self._average_model.to(pl_module.device)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take up the average again when training goes on; elsewhere a checkpoint's weights are the averaged ones."""
        if trainer.training:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def ramped_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """The averaging step of `RampedEMA`, as `torch.optim.swa_utils.AveragedModel` calls it.

    Args:
        decay: final decay.

    Returns:
        A function of averaged tensors (changed in place), current tensors and the number of updates so far.
    """

    @torch.no_grad()
    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        n = int(num_averaged)
        if averaged[0].is_floating_point():
            # The average stays in float32 where the network trains in bfloat16.
            same_type = [c.to(a.dtype) for a, c in zip(averaged, current, strict=True)]
            torch._foreach_lerp_(list(averaged), same_type, 1 - min(decay, (1 + n) / (10 + n)))
        else:  # counters, such as batch norm's
            torch._foreach_copy_(list(averaged), list(current))

    return average


class MaskWriter(BasePredictionWriter):
    """Writes the masks of `predict` as palette PNGs.

    Args:
        output_dir: folder for the masks, each under its image's file name.

    Raises:
        ConfigError: when two images have one file name, so that one mask would overwrite the other.
    """

    def __init__(self, output_dir: str = "masks") -> None:
        super().__init__(write_interval="batch")
        self.output_dir = Path(output_dir)
        self._written: dict[Path, str] = {}

    def write_on_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, prediction: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Write the masks of one batch."""
        for mask, name in zip(prediction["mask"], prediction["name"], strict=True):
            target = self.output_dir / f"{Path(name).stem}.png"
            if self._written.setdefault(target, name) != name:
                raise ConfigError(
                    f"{name} and {self._written[target]} would both be written to {target}; predict them apart"
                )
            write_whole(target, encode_mask(mask.cpu().numpy(), pl_module.taxonomy))
