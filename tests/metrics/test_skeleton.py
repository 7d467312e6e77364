"""Skeletons: hand-drawn cases, and what thinning must keep, on every small mask there is."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from roadseg.metrics.skeleton import skeletonise

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
