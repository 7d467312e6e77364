"""What two models cost: parameters, multiply-accumulates, and seconds on the same engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from roadseg.benching.timing import interleaved_times, summarise
from roadseg.benching.work import network_cost
from roadseg.evaluation.frames import ScoredFrames
from roadseg.inference.predictor import Predictor

REPEATS = 15
LONGEST_S = 30.0
"""No round of timing begins after it."""


class SizeSeen(NamedTuple):
    """Which frames have a size.

    Attributes:
        frames: how many.
        first: index of the first one.
    """

    frames: int
    first: int


@dataclass(frozen=True)
class Cost:
    """Of one model.

    Attributes:
        parameters: numbers that are learned.
        gmacs: 10^9 multiply-accumulates for one image of `size`, at the model's inference scale.
        size: (H, W) of the image in px.
        median_s: seconds from image to mask.
        quartiles_s: a quarter of the runs took less than the first, a quarter more than the second.
        repeats: runs that were measured.
    """

    parameters: int
    gmacs: float
    size: tuple[int, int]
    median_s: float
    quartiles_s: tuple[float, float]
    repeats: int


def measure_costs(
    pair: Sequence[Predictor], frames: ScoredFrames, sizes: Mapping[tuple[int, int], SizeSeen], repeats: int = REPEATS
) -> list[Cost]:
    """The cost of each model at the frames' median size, timed in turn after warming up.

    Args:
        pair: the models.
        frames: the first one of the median size is what is segmented.
        sizes: (H, W) -> which frames have it.
        repeats: runs of each that are timed.

    Raises:
        DataError: when that frame cannot be read.
    """
    size = median_size({size: seen.frames for size, seen in sizes.items()})
    image = frames.read(sizes[size].first).image
    times = interleaved_times([partial(predictor, image) for predictor in pair], repeats, longest_s=LONGEST_S)
    costs = []
    for predictor, taken in zip(pair, times, strict=True):
        parameters, macs = network_cost(predictor.header, size)
        spread = summarise(taken)
        quartiles = (spread.low_s, spread.high_s)
        costs.append(Cost(parameters, macs / 1e9, size, spread.median_s, quartiles, spread.repeats))
    return costs


def median_size(sizes: Mapping[tuple[int, int], int]) -> tuple[int, int]:
    """The (H, W) that the frame in the middle has, of all frames in order of their pixels."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    up_to = np.cumsum([sizes[size] for size in ordered])
    return ordered[int(np.searchsorted(up_to, (up_to[-1] + 1) // 2))]
