"""Windows: where they lie, what they contain, and that image and mask are cut alike."""

import cv2
import numpy as np
import pytest

from roadseg.data.crops import Window, choose_window, find_pixel, fit_image, fit_mask

CROP = (64, 96)


def slow_sample(image: np.ndarray, mask: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """A sample, pixel by pixel: bilinear or mean over areas of the whole image, and the nearest pixel of the mask."""
    sample, ids = np.empty((*CROP, 3)), np.full(CROP, 255, np.uint8)
    sample[:] = (124, 116, 104)
    rows, columns = window.rows, window.columns
    zoom = (rows.length / rows.size, columns.length / columns.size)
    image = image.astype(float)
    for y in range(rows.size):
        for x in range(columns.size):
            centre = rows.start + (y + 0.5) * zoom[0], columns.start + (x + 0.5) * zoom[1]
            place = rows.offset + y, columns.offset + x
            ids[place] = mask[int(centre[0]), int(centre[1])]
            if min(zoom) >= 1:
                weights = [
                    area_weights(c - z / 2, c + z / 2, n) for c, z, n in zip(centre, zoom, mask.shape, strict=True)
                ]
            else:
                weights = [linear_weights(c - 0.5, n) for c, n in zip(centre, mask.shape, strict=True)]
            sample[place] = np.einsum("i,j,ijc->c", *weights, image)
    return sample, ids


def area_weights(low: float, high: float, count: int) -> np.ndarray:
    pixels = np.arange(count)
    return np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None) / (high - low)


def linear_weights(at: float, count: int) -> np.ndarray:
    at = min(max(at, 0.0), count - 1.0)
    return np.clip(1 - np.abs(np.arange(count) - at), 0, None)


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(height)
    mask = cv2.resize(
        rng.integers(0, 9, (max(1, height // 12), max(1, width // 12)), dtype=np.uint8),
        (width, height),
        interpolation=0,
    )
    noise = rng.integers(0, 30, (height, width))
    return np.stack([mask * 25, 200 - mask * 20, noise], -1).astype(np.uint8), mask


@pytest.mark.parametrize("size", [(120, 150), (64, 96), (40, 300), (8, 8), (1, 1)])
@pytest.mark.parametrize("scale", [0.5, 0.77, 1.0, 1.9])
def test_a_sample_is_what_slow_resampling_of_the_whole_frame_gives(size, scale):
    image, mask = scene(*size)
    rng = np.random.default_rng(3)
    window = choose_window(size, scale, CROP, rng)
    whole = Window(window.rows, window.columns)
    ours, ids = fit_image(whole.cut(image), whole, CROP), fit_mask(whole.cut(mask), whole, CROP)
    slow, slow_ids = slow_sample(image, mask, whole)
    assert ours.shape == (*CROP, 3) and ids.shape == CROP and ours.dtype == ids.dtype == np.uint8
    assert (ids == slow_ids).mean() > 0.99
    # At the edge of an enlarged window, its own pixels are repeated where the whole frame has others.
    difference = np.abs(ours - slow)
    assert difference.mean() < 0.6 and np.quantile(difference, 0.97) <= 1.5


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_image_shows_the_same_window(reduction):
    size = (8 * 70 + 3, 8 * 100 + 5)
    image, _ = scene(*size)
    window = choose_window(size, 1 / reduction, (64, 64), np.random.default_rng(1))
    assert window.reduction == reduction and all(side % reduction == 0 for side in window.box)
    padded = np.pad(image, ((0, -size[0] % reduction), (0, -size[1] % reduction), (0, 0)), mode="edge").astype(float)
    reduced = (
        padded.reshape(-(-size[0] // reduction), reduction, -1, reduction, 3).mean((1, 3)).round().astype(np.uint8)
    )
    small = fit_image(window.cut(reduced, reduction), window, (64, 64)).astype(int)
    full = fit_image(window.cut(image), window, (64, 64)).astype(int)
    assert np.abs(small - full).max() <= 1


@pytest.mark.parametrize("scale", np.linspace(0.05, 2.2, 44).round(3).tolist())
@pytest.mark.parametrize("size", [(2160, 3840), (361, 477), (7, 9)])
def test_reduced_decoding_never_loses_resolution(size, scale):
    window = choose_window(size, scale, CROP, np.random.default_rng(0))
    for span in (window.rows, window.columns):
        assert span.start % window.reduction == 0 and span.length % window.reduction == 0
        if window.reduction > 1:
            assert span.length // window.reduction >= span.size
    assert window.reduction == 1 or window.reduction * scale <= 1
    assert (
        min(size) < 8 or window.reduction * 2 * scale > 1 or window.reduction == 8 or min(size) < window.reduction * 2
    )
    top, left, bottom, right = window.box
    assert 0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]


def test_windows_lie_uniformly():
    rng = np.random.default_rng(7)
    starts = [choose_window((100, 120), 1.0, CROP, rng) for _ in range(7400)]
    counts = np.bincount([w.rows.start for w in starts], minlength=37)
    assert len(counts) == 37 and set(np.bincount([w.columns.start for w in starts]).nonzero()[0]) == set(range(25))
    assert ((counts - 200) ** 2 / 200).sum() < 68  # chi-square of 36 degrees of freedom, p = 0.001


def test_a_small_frame_is_shown_whole_at_a_uniform_place():
    rng = np.random.default_rng(2)
    windows = [choose_window((30, 200), 1.0, CROP, rng) for _ in range(3500)]
    assert {(w.rows.start, w.rows.length, w.rows.size) for w in windows} == {(0, 30, 30)}
    counts = np.bincount([w.rows.offset for w in windows])
    assert len(counts) == 35 and ((counts - 100) ** 2 / 100).sum() < 65
    mask = fit_mask(windows[0].cut(np.full((30, 200), 7, np.uint8)), windows[0], CROP)
    assert (mask == 7).sum() == 30 * 96 and (mask == 255).sum() == 34 * 96


@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("pixel", [(0, 0), (299, 399), (150, 3), (160, 200)])
def test_a_window_around_a_pixel_contains_it_anywhere(scale, pixel):
    rng = np.random.default_rng(5)
    windows = [choose_window((300, 400), scale, CROP, rng, pixel) for _ in range(300)]
    for top, left, bottom, right in (w.box for w in windows):
        assert top <= pixel[0] < bottom and left <= pixel[1] < right and bottom <= 300 and right <= 400
    if pixel == (160, 200):
        offsets = np.array([160 - w.rows.start for w in windows]) / windows[0].rows.length
        if scale >= 1:  # there the window may lie on all sides of the pixel
            assert abs(offsets.mean() - 0.5) < 0.06 and offsets.min() < 0.06 and offsets.max() > 0.94


def test_a_pixel_of_a_class_that_is_there_is_found_uniformly():
    mask = np.zeros((40, 50), np.uint8)
    mask[10, 5:15], mask[30:34, 40] = 3, 9
    rng = np.random.default_rng(0)
    found = [find_pixel(mask, [3, 9, 12], rng) for _ in range(2000)]
    classes = [mask[p] for p in found]
    assert set(classes) == {3, 9} and abs(np.mean(np.array(classes) == 3) - 0.5) < 0.04  # not by area
    counts = np.bincount([x for (y, x) in found if y == 10])[5:]
    assert len(counts) == 10 and counts.min() > 60 and counts.max() < 150
    assert find_pixel(mask, [12], rng) is None
