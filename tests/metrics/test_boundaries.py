"""Boundary IoU and F1 against cases by hand and brute force over pixels, sets and ignored pixels."""

import math

import cv2
import numpy as np
import pytest
from scipy import ndimage

from roadseg.metrics.boundaries import band_width_px, boundary_band, contour
from roadseg.metrics.suite import MetricSuite
from tests.metrics.scenes import (
    IGNORED,
    MERGED,
    PLAIN,
    POLE,
    ROAD,
    SKY,
    TAXONOMY,
    predicted_region,
    random_case,
    region_of,
)

NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))


def brute_band(inside, said, width):
    """Inside pixels within `width` of a pixel that is said and not inside, or of the frame; chessboard distance."""
    band = np.zeros(inside.shape, bool)
    outside = np.pad(said & ~inside, width, constant_values=True)
    for y, x in zip(*np.nonzero(inside & said), strict=True):
        band[y, x] = outside[y : y + 2 * width + 1, x : x + 2 * width + 1].any()
    return band


def brute_contour(inside, said):
    edge = np.zeros(inside.shape, bool)
    for y, x in zip(*np.nonzero(inside & said), strict=True):
        for dy, dx in NEIGHBOURS:
            if 0 <= y + dy < inside.shape[0] and 0 <= x + dx < inside.shape[1]:
                edge[y, x] |= said[y + dy, x + dx] and not inside[y + dy, x + dx]
    return edge


def distance_to(mask):
    return ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, math.inf)


def brute_f1(own, other, said, tolerance):
    judged = own & (distance_to(~said) > tolerance)
    return int((judged & (distance_to(other) <= tolerance)).sum()), int(judged.sum())


@pytest.mark.parametrize("sets", [PLAIN, MERGED])
@pytest.mark.parametrize("seed", range(6))
def test_boundary_iou_agrees_with_brute_force(seed, sets):
    predicted, truth = random_case(seed, sets)
    suite = MetricSuite(sets, dilation_ratio=0.06)
    counts = suite.count(predicted, truth)["boundary_iou"]
    width = round(0.06 * math.hypot(*truth.shape))
    assert width == 2
    for region in range(len(sets)):
        inside, said = region_of(sets, region, truth)
        ours = predicted_region(sets, region, predicted, said)
        first, second = brute_band(inside, said, width), brute_band(ours, said, width)
        assert counts[region].tolist() == [(first & second).sum(), (first | second).sum()], sets.names[region]


@pytest.mark.parametrize("sets", [PLAIN, MERGED])
@pytest.mark.parametrize("seed", range(6))
def test_boundary_f1_agrees_with_brute_force(seed, sets):
    predicted, truth = random_case(seed, sets)
    counts = MetricSuite(sets).count(predicted, truth)["boundary_f1"]
    for region in range(len(sets)):
        inside, said = region_of(sets, region, truth)
        ours = brute_contour(predicted_region(sets, region, predicted, said), said)
        theirs = brute_contour(inside, said)
        for i, tolerance in enumerate((1, 2, 3)):
            expected = [*brute_f1(ours, theirs, said, tolerance), *brute_f1(theirs, ours, said, tolerance)]
            assert counts[region, i].tolist() == expected, (sets.names[region], tolerance)


def test_the_random_cases_ask_something():
    totals = sum(MetricSuite(MERGED).count(*random_case(seed))["boundary_f1"] for seed in range(6))
    assert (totals[:, :2] > 0).all()  # every region, merged ones too, has matched and judged contour pixels


@pytest.mark.parametrize("width", [1, 2, 5])
def test_the_band_is_that_of_iterated_erosion_of_the_padded_mask(width):
    """The published code erodes a mask with a border of zeros, 3 x 3, d times."""
    rng = np.random.default_rng(width)
    mask = (cv2.GaussianBlur(rng.random((40, 50)), (0, 0), 4) > 0.5).astype(np.uint8)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    assert np.array_equal(boundary_band(mask, width) & (mask == 1), (mask - eroded).astype(bool))


def test_the_width_is_a_share_of_the_diagonal_and_at_least_one():
    assert band_width_px(300, 400) == 10
    assert band_width_px(720, 960) == 24
    assert band_width_px(1, 1) == band_width_px(3, 4) == 1


def test_boundary_iou_of_a_square_that_is_one_off():
    """10 x 10 squares in 40 x 60, d = 1: rings of 36 pixels, one of them moved right by one."""
    truth, predicted = np.full((40, 60), SKY, np.uint8), np.full((40, 60), SKY, np.uint8)
    truth[10:20, 10:20] = POLE
    predicted[10:20, 11:21] = POLE
    suite = MetricSuite(PLAIN, dilation_ratio=0.01)
    # The rings share the two long sides, 9 pixels each.
    assert suite.count(predicted, truth)["boundary_iou"][POLE].tolist() == [18, 72 - 18]
    scores = suite.scores(suite.count(predicted, truth))
    assert scores["boundary_iou_per_class"]["pole"] == 18 / 54
    assert scores["boundary_iou_per_class"]["road"] is None
    assert scores["boundary_iou"] == (18 / 54 + scores["boundary_iou_per_class"]["sky"]) / 2


def test_boundary_f1_of_an_edge_two_pixels_off():
    """Sky above road, 20 columns: contours are whole rows. Truth's edge after row 7, the prediction's after row 9."""
    truth, predicted = np.full((16, 20), ROAD, np.uint8), np.full((16, 20), ROAD, np.uint8)
    truth[:8], predicted[:10] = SKY, SKY
    suite = MetricSuite(PLAIN)
    counts = suite.count(predicted, truth)
    assert counts["boundary_f1"][SKY].tolist() == [[0, 20, 0, 20], [20, 20, 20, 20], [20, 20, 20, 20]]
    scores = suite.scores(counts)
    assert scores["boundary_f1"] == {"1px": 0.0, "2px": 1.0, "3px": 1.0}
    assert scores["boundary_f1_per_class"]["sky"] == {"1px": 0.0, "2px": 1.0, "3px": 1.0}
    assert scores["boundary_f1_per_class"]["pole"] == {"1px": None, "2px": None, "3px": None}


def test_reach_is_euclidean():
    """A pixel one row and one column away is 1.41 px off: within 2, not within 1."""
    truth, predicted = np.full((9, 9), SKY, np.uint8), np.full((9, 9), SKY, np.uint8)
    truth[4, 4], predicted[5, 5] = POLE, POLE
    counts = MetricSuite(PLAIN).count(predicted, truth)["boundary_f1"]
    assert counts[POLE].tolist() == [[0, 1, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_precision_and_recall_are_told_apart():
    """Of two poles one is predicted and nothing else: all that is predicted is right, half of the truth is found."""
    truth = np.full((12, 30), SKY, np.uint8)
    truth[:, 5], truth[:, 20] = POLE, POLE
    predicted = truth.copy()
    predicted[:, 20] = SKY
    suite = MetricSuite(PLAIN)
    counts = suite.count(predicted, truth)
    assert counts["boundary_f1"][POLE, 0].tolist() == [12, 12, 12, 24]
    assert suite.scores(counts)["boundary_f1_per_class"]["pole"]["1px"] == pytest.approx(2 / 3)


def test_a_border_against_ignored_pixels_is_no_edge():
    truth = np.full((40, 60), ROAD, np.uint8)
    truth[:, 30:] = IGNORED
    regions = np.where(truth == IGNORED, np.uint8(255), np.uint8(0))
    assert (contour(regions) == 255).all()
    assert not boundary_band(regions, 2)[2:-2, 2:30].any()


def test_what_is_predicted_where_no_label_says_changes_nothing():
    suite, rng = MetricSuite(MERGED), np.random.default_rng(0)
    for seed in range(4):
        predicted, truth = random_case(seed)
        other = predicted.copy()
        ignored = truth == IGNORED
        other[ignored] = rng.integers(0, len(TAXONOMY), ignored.sum())
        first, second = suite.count(predicted, truth), suite.count(other, truth)
        assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_truth_itself_scores_one_with_ignored_pixels_too():
    for seed in range(4):
        _, truth = random_case(seed, PLAIN)
        suite = MetricSuite(PLAIN)
        scores = suite.scores(suite.count(np.where(truth == IGNORED, 0, truth).astype(np.uint8), truth))
        values = [scores["miou"], scores["boundary_iou"], *scores["boundary_f1"].values()]
        assert values == [1.0] * 5
        assert all(score in (1.0, None) for row in scores["thin"].values() for score in row.values())
