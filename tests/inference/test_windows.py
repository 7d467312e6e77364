"""Windows: where they lie, and blending against a float64 mean over the whole image."""

import threading
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from roadseg.inference.windows import Region, blend_windows, blending_weights, window_starts

SIZES = [(1, 1), (64, 64), (65, 64), (64, 200), (97, 131), (128, 96), (200, 65), (161, 193)]


def blended(size, window, overlap, run):
    return np.concatenate([band.copy() for band in blend_windows(size, window, overlap, run)], axis=1)


def bump(start, window, length):
    """A raised cosine over a window, level from its middle to an edge that is the image's."""
    across = 0.01 + 0.99 * (1 - np.cos(2 * np.pi * (np.arange(window) + 0.5) / window)) / 2
    half = np.arange(window) < window / 2
    return np.where((start == 0) & half | (start + window == length) & ~half, 1, across)


@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("window", [64, 96, 256, 1024])
def test_windows_cover_every_length_without_reaching_beyond_it(window, overlap):
    step = max(32, int(window * (1 - overlap)) // 32 * 32)
    for length in [
        1,
        window - 1,
        window,
        window + 1,
        window + 31,
        window + step,
        window + step + 1,
        3 * window + 7,
        9999,
    ]:
        starts = window_starts(length, window, overlap)
        if length <= window:
            assert starts == [0]
            continue
        assert starts[0] == 0 and starts[-1] == length - window, "all are inside, and both edges are reached"
        assert all(start % 32 == 0 for start in starts[:-1])
        steps = np.diff(starts)
        assert (steps > 0).all() and steps.max() <= step, "none is twice, and neighbours overlap as asked"
        assert len(starts) == 1 + -(-(length - window) // step), "as few as possible"


def test_steps_are_even_and_not_one_sliver_at_the_end():
    # Steps of 768 would leave a last one of 8: the windows are spread instead.
    assert window_starts(1024 + 768 * 2 + 8, 1024, 0.25) == [0, 544, 1056, 1544]


@pytest.mark.parametrize(("length", "window", "overlap"), [(64, 64, 0.5), (65, 64, 0.5), (500, 64, 0), (999, 96, 0.9)])
def test_weights_are_positive_smooth_and_add_up_to_one(length, window, overlap):
    starts = window_starts(length, window, overlap)
    weights = blending_weights(starts, window)
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        assert weight.min() > 0 and weight.dtype == np.float32
        total[start : start + window] += weight
    assert np.abs(total - 1).max() < 1e-6
    if overlap >= 0.5 and len(starts) > 1:  # between neighbours that overlap by half the weight moves slowly
        assert max(np.abs(np.diff(weight)).max() for weight in weights) < 0.11


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 0.25, 0.7])
def test_the_same_from_every_window_is_the_same_blended(size, overlap):
    values = np.float32([3.25, -1e4, 1e-7])
    result = blended(size, (64, 96), overlap, lambda r: np.tile(values[:, None, None], (1, r.height, r.width)))
    assert result.shape == (3, *size)
    assert np.allclose(result, values[:, None, None], rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("window", "overlap"), [((64, 64), 0.25), ((64, 96), 0.6), ((96, 64), 0), ((192, 64), 0.9)])
def test_blending_is_the_weighted_mean_over_the_whole_image(size, window, overlap):
    regions, given = [], []

    def run(region):
        rng = np.random.default_rng(abs(hash(region)))
        regions.append(region)
        given.append(rng.normal(0, 9, (4, region.height, region.width)).astype(np.float32))
        return given[-1]

    result = blended(size, window, overlap, run)
    weighted, weights = np.zeros((4, *size)), np.zeros(size)
    for region, logits in zip(regions, given, strict=True):
        bumps = [bump(*place) for place in zip(region[:2], region[2:], size, strict=True)]
        place = slice(region.top, region.top + region.height), slice(region.left, region.left + region.width)
        weighted[:, *place] += logits * np.outer(*bumps)
        weights[place] += np.outer(*bumps)
    assert weights.min() > 0
    assert np.abs(result - weighted / weights).max() < 1e-5
    assert {r[2:] for r in regions} == {(min(window[0], size[0]), min(window[1], size[1]))}, "all of one size"


def test_a_function_of_the_place_alone_is_given_back():
    rows, columns = np.mgrid[:150, :170].astype(np.float32)
    picture = np.stack([rows, columns, np.sin(rows * columns)])
    run = lambda r: picture[:, r.top : r.top + r.height, r.left : r.left + r.width]  # noqa: E731
    kept = picture.copy()
    assert np.allclose(blended((150, 170), (64, 64), 0.3, run), picture, rtol=1e-5, atol=1e-5)
    assert np.array_equal(picture, kept), "the engine's arrays are left as they were"


def test_no_seam_shows_between_windows_that_disagree():
    # Windows that add an offset each: blended, it changes slowly; laid side by side it would jump by up to 2.
    def run(region):
        return np.full((1, region.height, region.width), (region.top // 32 + region.left // 32) % 3, np.float32)

    smooth = blended((256, 256), (128, 128), 0.5, run)[0]
    assert max(np.abs(np.diff(smooth, axis=a)).max() for a in (0, 1)) < 0.2
    assert ndimage.maximum_filter(smooth, 3).max() <= 2


def test_one_window_gives_its_logits_bit_by_bit():
    logits = np.random.default_rng(0).normal(size=(3, 50, 60)).astype(np.float32)
    seen = []
    result = list(blend_windows((50, 60), (64, 96), 0.25, lambda region: seen.append(region) or logits))
    assert seen == [Region(0, 0, 50, 60)] and len(result) == 1 and result[0] is logits


def test_memory_is_that_of_a_band_however_high_the_image_is():
    def peak(height):
        tracemalloc.start()
        for _ in blend_windows((height, 512), (64, 128), 0.25, lambda r: np.ones((8, r.height, r.width), np.float32)):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    band = 8 * 64 * 512 * 4
    assert peak(1000) < 1.5 * band
    assert peak(4000) - peak(1000) < 0.1 * band


def test_bands_come_as_soon_as_no_window_can_change_them():
    ran = []

    def run(region):
        ran.append(region.top)
        return np.ones((1, region.height, region.width), np.float32)

    seen = [(band.shape[1], max(ran)) for band in blend_windows((64 + 48 * 2, 64), (64, 64), 0.25, run)]
    assert [rows for rows, _ in seen] == [32, 32, 32, 64][-len(seen) :] and [top for _, top in seen] == sorted(set(ran))
    assert sum(rows for rows, _ in seen) == 160


def test_threads_do_not_share_bands():
    def run(value):
        return lambda r: np.full((2, r.height, r.width), value, np.float32)

    results = {}

    def work(value):
        results[value] = blended((300, 200), (64, 64), 0.5, run(value))

    threads = [threading.Thread(target=work, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.allclose(results[value], value) for value in range(6))
