"""Which frames a process reads in an epoch, and from which seed each is augmented.

Everything random about a sample follows from (seed, epoch, place in the epoch), not from the state of any generator
that a worker process may have copied. So workers and epochs differ, a run that is resumed sees what it would have seen,
and neither depends on how many workers there are.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from roadseg.errors import ConfigError


class SampleKey(NamedTuple):
    """A frame to read, and the seed of its augmentation."""

    frame: int
    seed: int


class Part(NamedTuple):
    """What a dataset gives to an epoch.

    Attributes:
        frames: their number.
        weight: its share of an epoch's samples, relative to the other parts'; None is the number of frames.
        blocks: (n + 1,) ascending positions, from 0 to `frames`, between which frames lie together, as in one shard.
            They are read a few blocks at a time. None if they lie apart.
    """

    frames: int
    weight: float | None = None
    blocks: npt.NDArray[np.int64] | None = None


_MIXED_BLOCKS = 8
"""Blocks whose frames are shuffled together: fewer put frames of one drive side by side, more need a larger cache."""


def derive_seed(*parts: int) -> int:
    """A 32-bit seed that depends on every part and on their order."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


class EpochSampler(Sampler[SampleKey]):
    """Shuffled frames of one rank; every rank gets equally many, and the few left over rotate with the shuffle.

    A rank's frames are a piece of the epoch's order, so that ranks that read shards read different ones.

    Frames of several datasets lie one behind the other. With weights an epoch has as many samples as there are frames,
    and each dataset its share of them: it goes through its frames again and again, or through a part of them an epoch,
    each frame as often as any other.

    Lightning calls `set_epoch`, also when it resumes.

    Args:
        length: frames in all.
        seed: of the run.
        rank: of this process.
        world_size: processes that train together.
        parts: the datasets, `length` frames together; None is one.

    Raises:
        ConfigError: when there are fewer frames than processes.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        parts: Sequence[Part] | None = None,
    ) -> None:
        _check_length(length, world_size)
        self._length, self._seed, self._rank, self._world_size = length, seed, rank, world_size
        self._parts = list(parts or [Part(length)])
        self._counts = _apportion(length, [p.frames if p.weight is None else p.weight for p in self._parts])
        self.epoch = 0
        self._begun = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration belongs to."""
        self.epoch = epoch

    def skip(self, epoch: int, samples: int) -> None:
        """Begin an epoch behind the first samples of this rank: they were read before the run was interrupted."""
        self._begun = (epoch, samples)

    def __len__(self) -> int:
        """Frames of this rank in a whole epoch."""
        return self._length // self._world_size

    def __iter__(self) -> Iterator[SampleKey]:
        """The frames of this rank in this epoch."""
        order = self._order(self.epoch)
        first = self._begun[1] if self._begun[0] == self.epoch else 0
        for place in range(self._rank * len(self) + first, (self._rank + 1) * len(self)):
            yield SampleKey(int(order[place]), derive_seed(self._seed, self.epoch, place))

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """The frames of all ranks: which part each is of is shuffled, and each part gives its own in its own order."""
        turns = np.repeat(np.arange(len(self._parts)), self._counts)
        turns = np.random.default_rng(derive_seed(self._seed, epoch)).permutation(turns)
        order, start = np.zeros(self._length, np.int64), 0
        for number, (part, count) in enumerate(zip(self._parts, self._counts, strict=True)):
            drawn = _endless(part, epoch * count, count, derive_seed(self._seed, number))
            order[turns == number] = start + drawn
            start += part.frames
        return order


def _endless(part: Part, start: int, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Items start..start + count of an endless row of shuffles of the part's frames."""
    if count == 0:
        return np.zeros(0, np.int64)
    first, last = start // part.frames, (start + count - 1) // part.frames
    shuffles = [_shuffled(part, np.random.default_rng(derive_seed(seed, n))) for n in range(first, last + 1)]
    return np.concatenate(shuffles)[start - first * part.frames :][:count]


def _shuffled(part: Part, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    if part.blocks is None:
        return rng.permutation(part.frames)
    blocks = rng.permutation(len(part.blocks) - 1)
    groups = [blocks[i : i + _MIXED_BLOCKS] for i in range(0, len(blocks), _MIXED_BLOCKS)]
    inside = [[np.arange(part.blocks[b], part.blocks[b + 1]) for b in group] for group in groups]
    return np.concatenate([rng.permutation(np.concatenate(frames)) for frames in inside])


def _apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in the proportions of the weights that add up to `total`: by largest remainders."""
    exact = np.array(weights) / sum(weights) * total
    counts = np.floor(exact).astype(int)
    for part in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[part] += 1
    return counts.tolist()


class UnpaddedSampler(Sampler[int]):
    """Each frame once, on one rank. Samplers that pad with repeats would count some frames twice.

    Args:
        length: frames in the dataset.
        rank: of this process.
        world_size: processes that evaluate together.

    Raises:
        ConfigError: when there are fewer frames than processes; a rank without any would leave the others waiting.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        _check_length(length, world_size)
        self._indices = range(rank, length, world_size)

    def __len__(self) -> int:
        """Frames of this rank."""
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        """The frames of this rank, in order."""
        return iter(self._indices)


def _check_length(length: int, world_size: int) -> None:
    if length < world_size:
        raise ConfigError(f"{length} frames cannot be shared by {world_size} processes; use at most {length}")
