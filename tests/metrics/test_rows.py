"""Scores by band of image rows."""

import numpy as np
import pytest

from roadseg.metrics.rows import row_bands
from roadseg.metrics.suite import MetricSuite
from tests.metrics.scenes import IGNORED, LANE, MERGED, PLAIN, POLE, ROAD, SKY, SURFACE, random_case


@pytest.mark.parametrize(("height", "bands"), [(10, 10), (23, 10), (720, 10), (7, 10), (1, 3), (64, 1)])
def test_each_row_is_in_the_band_of_its_share_of_the_height(height, bands):
    band_of = np.full(height, -1)
    for band, rows in enumerate(row_bands(height, bands)):
        assert (band_of[rows] == -1).all()
        band_of[rows] = band
    assert band_of.tolist() == [i * bands // height for i in range(height)]


def test_scores_of_bands_done_by_hand():
    """Four rows, two bands: above all is right, below one column of four is taken for sky."""
    truth = np.full((4, 4), ROAD, np.uint8)
    truth[0] = SKY
    predicted = truth.copy()
    predicted[2:, 0] = SKY
    suite = MetricSuite(PLAIN, row_bands=2)
    rows = suite.scores(suite.count(predicted, truth))["row_iou"]
    assert rows["rows"] == [[0, 0.5], [0.5, 1]]
    assert rows["iou"]["road"] == [1, 6 / 8] and rows["iou"]["sky"] == [1, 0] and rows["iou"]["pole"] == [None, None]
    assert rows["miou"] == [1, 6 / 8], "the sky that is not there lowers road, and is no zero of its own"


def test_a_bands_mean_is_over_what_its_labels_hold():
    """Above 6 of 8 road pixels are found, for two of which a pole and a sky stand; below is merged surface."""
    truth = np.full((4, 4), ROAD, np.uint8)
    truth[2:] = SURFACE
    truth[3] = SKY
    predicted = np.where(truth == SKY, SKY, ROAD).astype(np.uint8)
    predicted[0, 0], predicted[1, 1], predicted[2, 2], predicted[3, 3] = POLE, SKY, LANE, POLE
    suite = MetricSuite(MERGED, row_bands=2)
    rows = suite.scores(suite.count(predicted, truth))["row_iou"]
    assert rows["miou"] == [6 / 8, (4 / 4 + 3 / 4) / 2]
    assert rows["iou"]["road"] == [6 / 8, None] and rows["iou"]["pole"] == [0, 0]


def test_a_band_without_labels_has_no_mean():
    truth = np.full((4, 3), ROAD, np.uint8)
    truth[:2] = IGNORED
    suite = MetricSuite(PLAIN, row_bands=2)
    assert suite.scores(suite.count(np.full_like(truth, ROAD), truth))["row_iou"]["miou"] == [None, 1]


def test_bands_count_as_the_rows_do_one_by_one():
    predicted, truth = random_case(3)
    counts = MetricSuite(MERGED, row_bands=5).count(predicted, truth)
    expected = np.zeros_like(counts["rows"])
    for (y, x), label in np.ndenumerate(truth):
        if label != 255:
            expected[y * 5 // len(truth), label, predicted[y, x]] += 1
    assert np.array_equal(counts["rows"], expected)
    assert np.array_equal(counts["confusion"], expected.sum(0))


def test_an_image_with_fewer_rows_than_bands_leaves_bands_without_score():
    suite = MetricSuite(PLAIN, row_bands=4)
    mask = np.array([[ROAD], [SKY]], np.uint8)
    assert suite.scores(suite.count(mask, mask))["row_iou"]["miou"] == [1, None, 1, None]
