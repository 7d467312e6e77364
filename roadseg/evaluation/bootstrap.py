"""Confidence intervals of scores that are computed from sums of counts.

The bootstrap draws groups of frames (drives, or single frames) with replacement. In one pass and in memory that does
not grow with the frames this is its Poisson form (Chamandy, Muralidharan, Najmi and Naidu, Estimating Uncertainty for
Massive Data Streams, 2012): in each replicate every group counts k times, k drawn from a Poisson distribution of mean
1. Models that are scored on the same frames get the same k, so that what makes a frame hard for both drops out of their
difference.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Counts = Mapping[str, npt.NDArray]
"""Additive counts of one frame, as `roadseg.metrics.suite.MetricSuite.count` gives them."""

LARGEST_BYTES = 2**30
LEAST_REPLICATES = 100


class PoissonBootstrap:
    """Sums of counts in each replicate.

    Args:
        zero: counts of no frame, which say the layout.
        models: how many are scored on the same frames.
        replicates: sums that are kept; fewer, but at least 100, where they would take more than 1 GiB.
        seed: of the weights.
    """

    def __init__(self, zero: Counts, models: int, replicates: int, seed: int) -> None:
        self._layout = {key: (array.shape, array.dtype) for key, array in zero.items()}
        self._size = sum(array.size for array in zero.values())
        fitting = LARGEST_BYTES // max(1, 8 * models * self._size)
        self.replicates = min(replicates, max(LEAST_REPLICATES, fitting))
        """How many there are."""
        self._seed = seed
        # float64 holds integers exactly up to 2^53, more than any split has pixels.
        self._sums = np.zeros((self.replicates, models, self._size))
        self._pending = np.zeros((models, self._size))
        self._group: int | None = None

    def add(self, group: int, counts: Sequence[Counts]) -> None:
        """Count a frame.

        Args:
            group: number of what is drawn; frames of one group are drawn together, in whatever order they come.
            counts: of each model.
        """
        if group != self._group:
            self._flush()
            self._group = group
        for model, own in enumerate(counts):
            self._pending[model] += np.concatenate([np.ravel(own[key]) for key in self._layout])

    def replicate(self, index: int, model: int) -> dict[str, npt.NDArray]:
        """The counts of a model, summed over the frames as replicate `index` draws them."""
        self._flush()
        flat, start, counts = self._sums[index, model], 0, {}
        for key, (shape, dtype) in self._layout.items():
            size = int(np.prod(shape))
            counts[key] = flat[start : start + size].reshape(shape).astype(dtype)
            start += size
        return counts

    def _flush(self) -> None:
        """Add the group that is complete so far to the replicates, as often as each draws it."""
        if self._group is None:
            return
        drawn = group_weights(self._seed, self._group, self.replicates)
        for index in np.flatnonzero(drawn):
            self._sums[index] += drawn[index] * self._pending
        self._pending[:] = 0
        self._group = None


def group_weights(seed: int, group: int, replicates: int) -> npt.NDArray[np.int64]:
    """(replicates,) how often each replicate draws a group; the same whenever the group comes up again."""
    return np.random.default_rng((seed, group)).poisson(1.0, replicates)


def interval(values: npt.NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of a score over the replicates.

    Args:
        values: (replicates,) NaN where a replicate cannot tell it, because it drew no frame with the class.
        level: share of the replicates inside.

    Returns:
        Lower and upper end; NaN when fewer than half of the replicates can tell it.
    """
    told = values[~np.isnan(values)]
    if 2 * len(told) < len(values):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(told, [tail, 1 - tail])
    return float(low), float(high)
