"""Expected calibration error against cases by hand, torchmetrics, and a plain computation."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from roadseg.metrics.calibration import count_calibration, expected_calibration_error
from roadseg.metrics.suite import MetricSuite
from tests.metrics.scenes import IGNORED, LANE, MERGED, PLAIN, POLE, ROAD, SKY, SURFACE, random_case


def ece_of(suite, *images):
    counts = sum(suite.count(*image)["calibration"] for image in images)
    return suite.scores({**suite.zero(), "calibration": counts})["ece"]


def image(confidence, truth, predicted):
    return np.array([predicted], np.uint8), np.array([truth], np.uint8), np.array([confidence], np.float32)


def test_a_case_done_by_hand():
    """Two bins: below one half 1 of 2 right at 0.25 and 0.375, above 1 of 2 right at 0.75 and 1."""
    suite = MetricSuite(PLAIN, calibration_bins=2)
    ece = ece_of(suite, image([0.25, 0.375, 0.75, 1.0], [ROAD, ROAD, SKY, SKY], [ROAD, SKY, SKY, ROAD]))
    assert ece == 2 / 4 * abs(1 / 2 - 0.3125) + 2 / 4 * abs(1 / 2 - 0.875)


def test_ends_belong_to_the_bin_below():
    counts = count_calibration(np.array([0, 0.25, 0.250001, 0.5, 1], np.float32), np.ones(5, bool), 4)
    assert counts[0].tolist() == [2, 2, 0, 1]


def test_any_class_of_the_label_is_right_and_ignored_pixels_are_left_out():
    suite = MetricSuite(MERGED)
    labels, classes = [SURFACE, SURFACE, SURFACE, IGNORED], [ROAD, LANE, POLE, ROAD]
    counts = suite.count(*image([0.5] * 4, labels, classes))["calibration"]
    assert counts.sum(1).tolist() == [3, 2, 1, 2**23]  # confidences 1.5


def test_agrees_with_torchmetrics():
    torch.manual_seed(0)
    logits, truth = torch.randn(1, 4, 40, 50) * 2, torch.randint(0, 4, (1, 40, 50))
    truth[0, :5] = IGNORED
    confidence, predicted = logits.softmax(1).max(1)
    expected = multiclass_calibration_error(logits, truth, 4, n_bins=15, norm="l1", ignore_index=IGNORED)
    arrays = (predicted[0].byte().numpy(), truth[0].byte().numpy(), confidence[0].numpy())
    assert ece_of(MetricSuite(PLAIN), arrays) == pytest.approx(float(expected), abs=1e-6)


def test_agrees_with_a_plain_computation_on_sets():
    predicted, truth = random_case(0)
    confidence = np.random.default_rng(0).random(truth.shape, np.float32)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for place, label in np.ndenumerate(truth):
        if label != IGNORED:
            value = float(confidence[place])
            right = int(predicted[place]) in MERGED.members[label]
            bins.setdefault(max(math.ceil(value * 15) - 1, 0), []).append((value, right))
    total = sum(map(len, bins.values()))
    expected = sum(abs(sum(r for _, r in rows) - math.fsum(v for v, _ in rows)) for rows in bins.values()) / total
    assert ece_of(MetricSuite(MERGED), (predicted, truth, confidence)) == pytest.approx(expected, abs=1e-7)


def test_sums_are_exact_where_floats_would_not_be():
    counts = np.zeros((4, 1), np.int64)
    counts[:, 0] = [2**53 + 2, 2**53, 2**53, 2**24]  # more confidences than float64 can count one by one
    assert expected_calibration_error(counts) == 1 / (2**53 + 2)


def test_half_precision_is_taken_as_it_is():
    confidence = np.array([[0.5, 0.75]], np.float16)
    mask = np.array([[ROAD, ROAD]], np.uint8)
    assert ece_of(MetricSuite(PLAIN), (mask, mask, confidence)) == 0.375


def test_nothing_counted_has_no_error():
    assert ece_of(MetricSuite(PLAIN), (np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))) is None


def test_rounding_past_one_is_no_mistake():
    mask = np.array([[ROAD]], np.uint8)
    assert ece_of(MetricSuite(PLAIN), (mask, mask, np.array([[1.0000001]], np.float32))) == 0


@pytest.mark.parametrize(
    ("confidence", "message"),
    [
        (np.array([[0.5, math.nan]], np.float32), "confidence has nan"),
        (np.array([[0.5, math.inf]], np.float32), "confidence has inf"),
        (np.array([[-math.inf, 0.5]], np.float32), "confidence has -inf"),
        (np.array([[0.5, 1.01]], np.float32), "confidence has 1.0[01].*from 0 to 1"),
        (np.array([[-0.1, 0.5]], np.float32), "confidence has -0.1"),
        (np.array([[50, 60]], np.uint8), r"confidence is uint8 of shape \(1, 2\)"),
        (np.array([0.5, 0.5], np.float32), r"confidence is float32 of shape \(2,\).*\(1, 2\)"),
    ],
)
def test_what_is_no_confidence_is_refused(confidence, message):
    mask = np.array([[ROAD, IGNORED]], np.uint8)
    with pytest.raises(ValueError, match=message):
        MetricSuite(PLAIN).count(np.zeros_like(mask), mask, confidence)
