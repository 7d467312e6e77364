"""What of a second frame is pasted, and that nothing else changes."""

import numpy as np
import pytest

from roadseg.data.mixing import choose_half, choose_objects, paste


def test_a_random_half_of_the_ids_is_chosen_whole_and_never_the_ignored():
    mask = np.repeat([0, 3, 20, 254, 255], 8).astype(np.uint8).reshape(5, 8)
    chosen = [frozenset(np.unique(mask[choose_half(mask, np.random.default_rng(seed)) > 0])) for seed in range(200)]
    assert all(len(ids) == 2 and ids <= {0, 3, 20, 254} for ids in chosen)
    assert len(set(chosen)) == 6  # every pair
    where = choose_half(mask, np.random.default_rng(0))
    assert set(np.unique(where)) == {0, 255} and all(len(set(row)) == 1 for row in where)


def test_of_an_odd_number_the_larger_half_is_chosen_and_of_an_ignored_mask_nothing():
    assert (choose_half(np.full((4, 4), 6, np.uint8), np.random.default_rng(0)) == 255).all()
    assert not choose_half(np.full((4, 4), 255, np.uint8), np.random.default_rng(0)).any()


def test_objects_are_chosen_whole_each_with_even_odds_and_touching_classes_together():
    mask = np.zeros((20, 60), np.uint8)
    mask[5:15, 10] = 4  # a pole
    mask[2:5, 9:12] = 5  # and its sign
    mask[5:15, 30] = 4
    mask[3, 50], mask[4, 51] = 4, 4  # touch by a corner
    mask[18, :] = 255
    patterns = set()
    for seed in range(400):
        where = choose_objects(mask, [4, 5], np.random.default_rng(seed)) > 0
        assert set(np.unique(mask[where])) <= {4, 5}
        parts = [where[2:15, 9:12][mask[2:15, 9:12] > 0], where[5:15, 30], where[[3, 4], [50, 51]]]
        assert all(part.all() or not part.any() for part in parts)
        patterns.add(tuple(bool(part.all()) for part in parts))
    assert len(patterns) == 8
    assert not choose_objects(mask, [9], np.random.default_rng(0)).any()
    assert not choose_objects(np.full((4, 4), 255, np.uint8), [255], np.random.default_rng(0)).any()


@pytest.mark.parametrize("value", [1, 255])
def test_pasting_takes_image_and_mask_together_and_leaves_both_samples_alone(value):
    rng = np.random.default_rng(0)
    ours, theirs = ((rng.integers(0, 256, (9, 7, 3), np.uint8), rng.integers(0, 20, (9, 7), np.uint8)) for _ in "ab")
    kept = [a.copy() for a in (*ours, *theirs)]
    where = (rng.random((9, 7)) < 0.4).astype(np.uint8) * value
    image, mask = paste(ours, theirs, where)
    assert np.array_equal(image, np.where(where[..., None] > 0, theirs[0], ours[0]))
    assert np.array_equal(mask, np.where(where > 0, theirs[1], ours[1]))
    assert all(np.array_equal(a, b) for a, b in zip((*ours, *theirs), kept, strict=True))
