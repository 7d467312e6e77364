"""Shuffling and seeding: what must differ, what must repeat, and what every rank gets."""

from collections import Counter

import numpy as np
import pytest

from roadseg.data.sampling import EpochSampler, Part, SampleKey, UnpaddedSampler, derive_seed
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


def weighted(epoch: int, **place: int) -> list[SampleKey]:
    """Four frames of weight 3 before sixteen of weight 1."""
    sampler = EpochSampler(20, 0, parts=[Part(4, 3.0), Part(16, 1.0)], **place)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_datasets_get_their_share_of_an_epoch():
    counts = Counter(k.frame < 4 for k in weighted(0))
    assert counts == {True: 15, False: 5}


def test_a_weighted_epoch_has_no_two_equal_seeds_though_frames_repeat():
    keys = weighted(0)
    assert len({k.frame for k in keys}) < 20 and len({k.seed for k in keys}) == 20
    assert keys == weighted(0) and keys != weighted(1)


def test_over_epochs_every_frame_of_a_dataset_is_read_equally_often():
    """16 epochs: 240 samples of 4 frames, 80 of 16."""
    read = Counter(k.frame for epoch in range(16) for k in weighted(epoch))
    assert {read[f] for f in range(4)} == {60} and {read[f] for f in range(4, 20)} == {5}


def test_ranks_share_a_weighted_epoch():
    whole = sorted(weighted(2))
    assert sorted(k for r in range(4) for k in weighted(2, rank=r, world_size=4)) == whole


def test_an_epoch_that_was_interrupted_goes_on_where_it_stopped():
    sampler = EpochSampler(20, 0, rank=1, world_size=2)
    sampler.set_epoch(3)
    whole = list(sampler)
    sampler.skip(3, 6)
    assert list(sampler) == whole[6:] and len(sampler) == 10
    sampler.set_epoch(4)
    assert len(list(sampler)) == 10


@pytest.mark.parametrize(("frames", "shares"), [((1, 1, 1), (1, 1, 1)), ((10, 3), (0.001, 1)), ((7, 9, 4), (1, 2, 4))])
def test_shares_add_up_to_the_epoch(frames, shares):
    total = sum(frames)
    keys = list(EpochSampler(total, 0, parts=[Part(f, s) for f, s in zip(frames, shares, strict=True)]))
    assert len(keys) == total and {k.frame for k in keys} <= set(range(total))


BLOCKS = np.array([0, 10, 25, 30, 60, 75, 80, 100, 130, 140, 160, 180, 200])
"""Twelve shards of 200 frames."""


def shards_read(keys: list[SampleKey]) -> list[int]:
    return [int(np.searchsorted(BLOCKS, key.frame, side="right")) - 1 for key in keys]


def test_frames_of_shards_are_read_a_few_shards_at_a_time_and_every_one_once():
    sampler = EpochSampler(200, 0, parts=[Part(200, blocks=BLOCKS)])
    keys = list(sampler)
    assert sorted(k.frame for k in keys) == list(range(200))
    shards = shards_read(keys)
    first, last = set(shards), {}
    for place, shard in enumerate(shards):
        last[shard] = place
    begun = {shard: shards.index(shard) for shard in first}
    open_at_once = max(sum(begun[s] <= place <= last[s] for s in first) for place in range(200))
    assert open_at_once == 8
    assert len({tuple(shards_read(list(sampler)))} | {tuple(shards)}) == 1
    sampler.set_epoch(1)
    assert shards_read(list(sampler)) != shards


def test_ranks_read_different_shards_but_where_their_pieces_meet():
    ranks = [EpochSampler(200, 0, r, 2, parts=[Part(200, blocks=BLOCKS)]) for r in range(2)]
    frames = [{k.frame for k in rank} for rank in ranks]
    assert len(frames[0]) == len(frames[1]) == 100 and not frames[0] & frames[1]


def test_shards_among_other_datasets_keep_their_order():
    parts = [Part(50), Part(200, blocks=BLOCKS)]
    alone = [k.frame for k in EpochSampler(200, 0, parts=[parts[1]])]
    mixed = [k.frame for k in EpochSampler(250, 0, parts=parts)]
    assert sorted(mixed) == list(range(250))
    inside = [f - 50 for f in mixed if f >= 50]
    groups = [frozenset(shards_read([SampleKey(f, 0) for f in inside[i : i + 20]])) for i in (0, 100, 180)]
    assert all(len(group) <= 8 for group in groups) and sorted(inside) == sorted(alone)
