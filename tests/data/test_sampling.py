"""Shuffling and seeding: what must differ, what must repeat, and what every rank gets."""

from collections import Counter

import pytest

from roadseg.data.sampling import EpochSampler, SampleKey, UnpaddedSampler, derive_seed
from roadseg.errors import ConfigError


def keys(seed: int, epoch: int, length: int = 20, **place: int) -> list[SampleKey]:
    sampler = EpochSampler(length, seed, **place)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_an_epoch_repeats_and_differs_from_others():
    assert keys(0, 3) == keys(0, 3)
    for other in (keys(0, 4), keys(1, 3)):
        assert [k.frame for k in other] != [k.frame for k in keys(0, 3)]
        assert not {k.seed for k in other} & {k.seed for k in keys(0, 3)}


def test_an_epoch_reads_every_frame_once_from_a_seed_of_its_own():
    assert sorted(k.frame for k in keys(0, 0)) == list(range(20))
    assert len({k.seed for k in keys(0, 0)}) == 20


def test_ranks_share_the_frames_and_get_equally_many():
    ranks = [keys(0, 1, length=11, rank=r, world_size=3) for r in range(3)]
    assert [len(r) for r in ranks] == [3, 3, 3]
    assert max(Counter(k.frame for r in ranks for k in r).values()) == 1


def test_frames_left_over_are_not_the_same_in_every_epoch():
    read = [{k.frame for r in range(3) for k in keys(0, e, length=11, rank=r, world_size=3)} for e in range(10)]
    assert set.union(*read) == set(range(11)) and len({frozenset(r) for r in read}) > 1


@pytest.mark.parametrize(("length", "world_size"), [(101, 2), (5, 3), (4, 4), (7, 1)])
def test_evaluation_counts_every_frame_once(length, world_size):
    ranks = [list(UnpaddedSampler(length, r, world_size)) for r in range(world_size)]
    assert sorted(i for r in ranks for i in r) == list(range(length))
    assert [len(r) for r in ranks] == [len(UnpaddedSampler(length, r, world_size)) for r in range(world_size)]


@pytest.mark.parametrize("sampler", [lambda: EpochSampler(2, 0, 0, 3), lambda: UnpaddedSampler(2, 0, 3)])
def test_fewer_frames_than_processes_are_refused(sampler):
    with pytest.raises(ConfigError, match="2 frames cannot be shared by 3 processes; use at most 2"):
        sampler()


def test_derived_seeds_depend_on_every_part_and_their_order():
    seeds = {derive_seed(*parts) for parts in [(0, 1, 2), (0, 2, 1), (1, 1, 2), (0, 1), (0, 1, 3)]}
    assert len(seeds) == 5 and all(0 <= s < 2**32 for s in seeds)
