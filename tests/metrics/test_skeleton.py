"""Skeletons: hand-drawn cases, and what thinning must keep, on every small mask there is."""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import KDTree

from roadseg.metrics.skeleton import skeletonise
from roadseg.metrics.thin import count_thin

EIGHT = np.ones((3, 3), int)


def drawn(*rows):
    return np.array([[c == "#" for c in row] for row in rows])


def parts_and_holes(mask):
    """8-connected parts, and 4-connected parts of what is around them."""
    return ndimage.label(mask, EIGHT)[1], ndimage.label(~np.pad(mask, 1))[1]


def may_still_go(skeleton):
    """Pixels that could be taken off without joining, cutting or ending anything: recounted by labelling 3 x 3."""
    padded, found = np.pad(skeleton, 1), []
    for row, column in zip(*np.nonzero(skeleton), strict=True):
        before = padded[row : row + 3, column : column + 3]
        after = before.copy()
        after[1, 1] = False
        if after.sum() >= 2 and ndimage.label(after, EIGHT)[1] == 1 and not before[[0, 1, 1, 2], [1, 0, 2, 1]].all():
            found.append((int(row), int(column)))
    return found


def test_a_bar_becomes_its_middle_line():
    skeleton = skeletonise(np.ones((5, 15), bool))
    assert skeleton[2, 3:12].all() and skeleton.sum(0).max() == 1


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
def test_a_long_bar_of_any_width_becomes_one_pixel_wide(width):
    upright = skeletonise(np.pad(np.ones((40, width), bool), 3))
    assert (upright.sum(1) <= 1).all()
    rows = np.flatnonzero(upright.any(1))
    assert rows[-1] - rows[0] + 1 == rows.size >= 40 - width
    middle = np.argmax(upright[10:36], axis=1) - 3
    assert np.ptp(middle) == 0 and abs(middle[0] - (width - 1) / 2) <= 0.5


def test_thin_lines_stay_as_they_are():
    lines = drawn("#......", ".#....#", "..#..#.", "...##..", ".......", "#####..")
    assert np.array_equal(skeletonise(lines), lines)


def test_a_ring_keeps_its_hole():
    mask = np.ones((9, 9), bool)
    mask[4, 4] = False
    skeleton = skeletonise(mask)
    assert parts_and_holes(skeleton) == (1, 2) and 4 < skeleton.sum() < 30


def test_small_blobs_do_not_vanish():
    for height in range(1, 5):
        for width in range(1, 5):
            assert skeletonise(np.ones((height, width), bool)).any(), (height, width)


def test_an_empty_mask_has_no_skeleton():
    assert not skeletonise(np.zeros((4, 6), bool)).any() and skeletonise(np.zeros((0, 0), bool)).shape == (0, 0)


def test_every_mask_of_four_by_four_keeps_its_parts_and_holes():
    """All 65536, side by side; OpenCV counts, so that parts are known cell by cell."""
    bits = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
    cells = np.pad(bits.reshape(256, 256, 4, 4).astype(bool), ((0, 0), (0, 0), (1, 1), (1, 1)))
    sheet = cells.transpose(0, 2, 1, 3).reshape(256 * 6, 256 * 6)
    skeleton = skeletonise(sheet)
    assert not (skeleton & ~sheet).any()
    for mask, connectivity in ((lambda a: a, 8), (lambda a: ~a, 4)):
        before, after = (
            cv2.connectedComponents(mask(a).astype(np.uint8), connectivity=connectivity) for a in (sheet, skeleton)
        )
        assert before[0] == after[0]
        # A part that survives keeps its place, so the labels pair off one to one.
        both = (before[1] > 0) & (after[1] > 0)
        pairs = np.unique(before[1][both].astype(np.int64) << 32 | after[1][both])
        assert pairs.size == before[0] - 1 and np.unique(pairs >> 32).size == pairs.size


@pytest.mark.parametrize("seed", range(6))
def test_random_masks_keep_their_parts_and_holes_and_are_thin(seed):
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.random((60, 70)), (0, 0), 0.5 + seed)
    mask = smooth > np.median(smooth)
    skeleton = skeletonise(mask)
    assert not (skeleton & ~mask).any()
    assert parts_and_holes(skeleton) == parts_and_holes(mask)
    assert may_still_go(skeleton) == []
    assert np.array_equal(skeletonise(skeleton), skeleton)


def test_the_frame_counts_as_outside():
    whole = np.ones((7, 21), bool)
    assert np.array_equal(skeletonise(whole), skeletonise(np.pad(whole, 5))[5:-5, 5:-5])


CURVES = {
    "slanting line": np.stack([np.linspace(15, 95, 4000), np.linspace(12, 140, 4000)], 1),
    "steep line": np.stack([np.linspace(12, 98, 4000), np.linspace(70, 81, 4000)], 1),
    "wave": np.stack([55 + 25 * np.sin(np.linspace(0, 6, 6000)), np.linspace(14, 140, 6000)], 1),
    "circle": np.stack([55 + 38.3 * np.sin(np.linspace(0, 7, 6000)), 75 + 38.3 * np.cos(np.linspace(0, 7, 6000))], 1),
}
SHAPE = (112, 152)


def ribbon(curve, width):
    """Pixels whose middle lies within half the width of a curve of (row, column) points."""
    grid = np.stack(np.indices(SHAPE), -1).reshape(-1, 2)
    return (KDTree(curve).query(grid)[0] <= width / 2).reshape(SHAPE)


@pytest.mark.parametrize("width", [3, 9])
@pytest.mark.parametrize("name", CURVES)
def test_the_skeleton_of_a_ribbon_is_the_curve_along_its_middle(name, width):
    """Known from geometry: on the curve within a pixel, all along it but for half the width at its ends."""
    curve = CURVES[name]
    skeleton = np.argwhere(skeletonise(ribbon(curve, width)))
    assert KDTree(curve).query(skeleton)[0].max() <= 1.2
    inner = (
        curve
        if name == "circle"
        else curve[np.minimum(*(np.linalg.norm(curve - e, axis=1) for e in curve[[0, -1]])) > width]
    )
    assert KDTree(skeleton).query(inner)[0].max() <= 1.2


@pytest.mark.parametrize("name", ["slanting line", "steep line"])
def test_recall_and_precision_are_the_shares_of_a_lines_length(name):
    """Known from geometry, whatever the widths."""
    curve = CURVES[name]
    whole, first, last = curve, curve[: len(curve) * 7 // 10], curve[len(curve) * 3 // 10 :]
    for truth, drawn, shares in ((whole, first, (0.7, 1)), (last, first, (4 / 7, 4 / 7)), (first, whole, (1, 0.7))):
        found, length, right, drawn_length = count_thin(ribbon(drawn, 6.5), ribbon(truth, 4.5))
        # Where a ribbon and its skeleton end is known to half the width of each.
        assert (found, right) == pytest.approx((shares[0] * length, shares[1] * drawn_length), abs=(6.5 + 4.5) / 2)
