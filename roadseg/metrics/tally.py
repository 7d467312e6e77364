"""Sums of counts, over images and processes."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed

Counts = dict[str, npt.NDArray[np.int64]]
"""Additive counts by name, as `roadseg.metrics.suite.MetricSuite.count` gives them."""


class Tally:
    """Adds up the counts of images, exactly, in int64.

    It is a plain object, not a module, for the reason that `ConfusionMatrix` gives.

    Args:
        zero: counts of no image; a process that gets none must know their shapes too.
    """

    def __init__(self, zero: Mapping[str, npt.NDArray[np.int64]]) -> None:
        self._counts: Counts = {name: np.array(values, np.int64) for name, values in zero.items()}

    def add(self, counts: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """Add the counts of an image, or of several.

        Raises:
            ValueError: when they are not of the names, shapes and type that this tally began with.
        """
        expected, given = _shapes(self._counts), _shapes(counts)
        if given != expected:
            differing = sorted(name for name in expected | given if expected.get(name) != given.get(name))
            raise ValueError(
                f"counts differ from the tally's in {', '.join(differing)}: "
                f"{[given.get(name) for name in differing]} instead of {[expected.get(name) for name in differing]}; "
                "count and add with one MetricSuite"
            )
        for name, values in counts.items():
            self._counts[name] += values

    def summed(self) -> Counts:
        """Counts of all processes together. Collective: every process calls it."""
        flat = torch.from_numpy(np.concatenate([values.ravel() for values in self._counts.values()]))
        sums, start, result = sum_over_processes(flat).numpy(), 0, {}
        for name, values in self._counts.items():
            result[name] = sums[start : start + values.size].reshape(values.shape)
            start += values.size
        return result


def sum_over_processes(counts: Tensor) -> Tensor:
    """Sum of the processes' tensors, of one shape and type, on the CPU. Collective: every process calls it."""
    counts = counts.clone()
    if distributed.is_available() and distributed.is_initialized():
        device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
        counts = counts.to(device)
        distributed.all_reduce(counts)
    return counts.cpu()


def _shapes(counts: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, str]:
    return {name: f"{values.dtype}{list(values.shape)}" for name, values in counts.items()}
