"""Which frames a process reads in an epoch, and from which seed each is augmented.

Everything random about a sample follows from (seed, epoch, frame). So workers and epochs differ, a run that is resumed
sees what it would have seen, and neither depends on how many workers there are: not on the state of any generator that
a worker process may have copied.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from roadseg.errors import ConfigError


class SampleKey(NamedTuple):
    """A frame to read, and the seed of its augmentation."""

    frame: int
    seed: int


def derive_seed(*parts: int) -> int:
    """A 32-bit seed that depends on every part and on their order."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


class EpochSampler(Sampler[SampleKey]):
    """Shuffled frames of one rank; every rank gets equally many, and the few left over rotate with the shuffle.

    Lightning calls `set_epoch`, also when it resumes.

    Args:
        length: frames in the dataset.
        seed: of the run.
        rank: of this process.
        world_size: processes that train together.

    Raises:
        ConfigError: when there are fewer frames than processes.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        _check_length(length, world_size)
        self._length, self._seed, self._rank, self._world_size = length, seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration belongs to."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Frames of this rank."""
        return self._length // self._world_size

    def __iter__(self) -> Iterator[SampleKey]:
        """The frames of this rank in this epoch."""
        order = np.random.default_rng(derive_seed(self._seed, self.epoch)).permutation(self._length)
        for index in order[self._rank :: self._world_size][: len(self)].tolist():
            yield SampleKey(index, derive_seed(self._seed, self.epoch, index))


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
