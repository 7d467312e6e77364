"""Finishing against PyTorch's interpolation, argmax and softmax in float64."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from roadseg.inference import finishing
from roadseg.inference.finishing import decide, finish, interpolation_rows, resize_logits

SIZES = [(1, 1), (1, 7), (5, 1), (2, 3), (16, 24), (37, 53), (40, 90)]


def exact(logits, size):
    """Interpolated logits, the classes in order, and their probabilities, in float64."""
    full = F.interpolate(torch.tensor(logits, dtype=torch.float64)[None], size, mode="bilinear", align_corners=False)[0]
    return full.numpy(), full.softmax(0).sort(0, descending=True).values.numpy()


def cut(logits, rows, seed=0):
    """Bands of uneven heights, each destroyed once the next is asked for, as the windows' are."""
    rng, top = np.random.default_rng(seed), 0
    while top < logits.shape[1]:
        band = logits[:, top : top + int(rng.integers(1, rows + 1))].copy()
        top += band.shape[1]
        yield band
        band[:] = np.nan


def assert_is_argmax(mask, full):
    chosen = np.take_along_axis(full, mask[None].astype(int), axis=0)[0]
    assert (full.max(0) - chosen).max() < 1e-4, "float32 may decide otherwise only where two classes are level"
    clear = np.sort(full, axis=0)
    clear = clear[-1] - clear[-2] > 1e-3
    assert np.array_equal(mask[clear], full.argmax(0)[clear]) and clear.mean() > 0.9


@pytest.mark.parametrize("working", SIZES)
@pytest.mark.parametrize("size", SIZES)
def test_mask_and_confidences_are_those_of_torch(working, size):
    logits = np.random.default_rng(1).normal(0, 4, (5, *working)).astype(np.float32)
    full, probabilities = exact(logits, size)
    mask, confidence = finish([logits], working, size, "probability")
    assert mask.dtype == np.uint8 and confidence.dtype == np.float32 and mask.shape == confidence.shape == size
    assert_is_argmax(mask, full)
    assert np.abs(confidence - probabilities[0]).max() < 5e-5
    again, margin = finish(cut(logits, 9), working, size, "margin")
    assert np.array_equal(again, mask), "the heights of the bands do not matter"
    assert np.abs(margin - (probabilities[0] - probabilities[1])).max() < 5e-5
    alone, none = finish(cut(logits, 70, seed=3), working, size)
    assert np.array_equal(alone, mask) and none is None


@pytest.mark.parametrize(
    ("working", "size"), [((90, 120), (360, 480)), ((100, 70), (437, 301)), ((150, 300), (75, 90))]
)
def test_larger_images_in_many_slabs_and_chunks(working, size, monkeypatch):
    monkeypatch.setattr(finishing, "_CHUNK_VALUES", 2**14)
    logits = resize_logits(np.random.default_rng(1).normal(0, 6, (14, 9, 12)).astype(np.float32), working)
    full, probabilities = exact(logits, size)
    mask, confidence = finish(cut(logits, 50), working, size, "probability")
    assert_is_argmax(mask, full)
    assert np.abs(confidence - probabilities[0]).max() < 1e-4
    assert len(np.unique(mask)) > 5


@pytest.mark.parametrize("working", SIZES)
@pytest.mark.parametrize("size", [*SIZES, (32, 48), (8, 12), (120, 31)])
def test_resized_logits_are_those_of_torch(working, size):
    logits = np.random.default_rng(2).normal(0, 4, (3, *working)).astype(np.float32)
    assert np.abs(resize_logits(logits, size) - exact(logits, size)[0]).max() < 2e-5
    assert (
        np.abs(resize_logits(logits[::-1, :, ::-1], size) - exact(logits[::-1, :, ::-1].copy(), size)[0]).max() < 2e-5
    )


def test_interpolated_rows_stay_inside_and_in_order():
    for length, wanted in [(1, 9), (9, 1), (360, 1080), (360, 4320), (7, 7), (1000, 37), (337, 1013)]:
        first, second, weights = interpolation_rows(length, wanted)
        assert first.min() >= 0 and second.max() <= length - 1 and (np.diff(second) >= 0).all()
        assert ((second - first == 1) | (weights == 0) | (first == length - 1)).all()
        assert weights.min() >= 0 and weights.max() < 1


def test_many_classes_and_levels_are_decided_as_argmax_does():
    logits = np.random.default_rng(3).integers(-2, 3, (255, 33, 41)).astype(np.float32)  # full of ties
    mask, confidence = finish([logits], (33, 41), (33, 41), "margin")
    assert np.array_equal(mask, logits.argmax(0)) and (confidence == 0).all()
    alone, sure = finish([logits[:1]], (33, 41), (50, 60), "margin")
    assert (alone == 0).all() and (sure == 1).all(), "a single class is certain"


def test_extreme_logits_neither_overflow_nor_lose_their_order():
    logits = np.float32([[3e38, -3e38, 0, 1e-30], [-3e38, -2.9e38, 88.8, 0], [0, -3.1e38, 1000, -1e-30]]).reshape(
        3, 1, 4
    )
    with np.errstate(over="ignore"):  # the distance between the ends of float32 is infinite, and e to minus that is 0
        for kind in ("probability", "margin"):
            mask, confidence = finish([logits], (1, 4), (1, 4), kind)
            assert mask.tolist() == [[0, 1, 2, 0]]
            assert np.allclose(confidence[0, :3], 1) and np.isfinite(confidence).all()
    assert abs(confidence[0, 3]) < 1e-7


def test_the_logits_are_left_as_they_are():
    logits = np.random.default_rng(4).normal(size=(3, 9, 8)).astype(np.float32)
    logits.flags.writeable = False
    for size in ((9, 8), (20, 8), (9, 30), (4, 4)):
        finish([logits], (9, 8), size, "margin")
    mask = np.empty((9, 8), np.uint8)
    decide(logits, mask, None, None)
    assert np.array_equal(mask, logits.argmax(0))


@pytest.mark.parametrize("heights", [[], [5], [5, 6]])
def test_bands_that_do_not_add_up_are_refused(heights):
    with pytest.raises(ValueError, match=rf"the bands of logits have {sum(heights)} rows, not 10"):
        finish((np.zeros((2, rows, 4), np.float32) for rows in heights), (10, 4), (20, 8))


def test_memory_beside_the_result_is_small_and_does_not_grow_with_the_image():
    def peak(height):
        band = np.zeros((14, 64, 100), np.float32)
        tracemalloc.start()
        finish((band for _ in range(height // 64)), (height, 100), (4 * height, 400), "probability")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most - 5 * 16 * height * 100  # mask and confidence

    low, high = peak(320), peak(1280)
    assert low < 8 * 2**20 and high - low < 2**19
