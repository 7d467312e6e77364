"""What two models cost: parameters, multiply-accumulates, and seconds on the same engine."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from roadseg.evaluation.frames import ScoredFrames
from roadseg.inference.package import ModelHeader
from roadseg.inference.predictor import Predictor
from roadseg.inference.torch_engine import working_size
from roadseg.models.complexity import count_macs, count_parameters
from roadseg.models.zoo import build_model

WARM_UPS = 2
REPEATS = 15
LONGEST_S = 30.0
LEAST_REPEATS = 3


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
    times = interleaved_times([partial(predictor, image) for predictor in pair], repeats)
    costs = []
    for predictor, taken in zip(pair, times, strict=True):
        parameters, macs = network_cost(predictor.header, size)
        low, median, high = np.quantile(taken, [0.25, 0.5, 0.75]).tolist()
        costs.append(Cost(parameters, macs / 1e9, size, median, (low, high), len(taken)))
    return costs


def median_size(sizes: Mapping[tuple[int, int], int]) -> tuple[int, int]:
    """The (H, W) that the frame in the middle has, of all frames in order of their pixels."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    up_to = np.cumsum([sizes[size] for size in ordered])
    return ordered[int(np.searchsorted(up_to, (up_to[-1] + 1) // 2))]


def network_cost(header: ModelHeader, size: tuple[int, int]) -> tuple[int, int]:
    """Parameters and multiply-accumulates of a model file's network for an image of (H, W) px, without running it."""
    architecture = header.architecture
    with torch.device("meta"):
        network = build_model(
            architecture.backbone,
            architecture.decoder,
            architecture.num_classes,
            backbone_options=architecture.backbone_options,
            **architecture.options,
        )
    return count_parameters(network), count_macs(network, working_size(size, header.short_side_px))


def interleaved_times(
    runs: Sequence[Callable[[], object]], repeats: int = REPEATS, longest_s: float = LONGEST_S
) -> list[list[float]]:
    """Seconds of each run, all in turn, after warming up: a slow spell of the machine then hits all alike.

    Args:
        runs: functions without arguments.
        repeats: how often each runs.
        longest_s: no round begins after this time once each has run three times.
    """
    for _ in range(WARM_UPS):
        for run in runs:
            run()
    taken: list[list[float]] = [[] for _ in runs]
    begun = time.perf_counter()
    for done in range(repeats):
        if done >= LEAST_REPEATS and time.perf_counter() - begun > longest_s:
            break
        for own, run in zip(taken, runs, strict=True):
            start = time.perf_counter()
            run()
            own.append(time.perf_counter() - start)
    return taken
