"""The confusion matrix against a hand-made case and torchmetrics."""

import math

import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from roadseg.metrics.confusion import ConfusionMatrix, iou_per_class, miou, pixel_accuracy


def test_scores_of_a_case_done_by_hand():
    # truth 0 0 0 1 1 ignored, prediction 0 0 1 1 0 2; class 2 of four is never the truth where it counts.
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([0, 0, 1, 1, 0, 2]), torch.tensor([0, 0, 0, 1, 1, 255]))
    counts = matrix.summed()
    assert counts[:2, :2].tolist() == [[2, 1], [1, 1]] and counts.sum() == 5
    iou = iou_per_class(counts)
    assert iou[:2].tolist() == [2 / 4, 1 / 3] and iou[2:].isnan().all()
    assert miou(counts) == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert pixel_accuracy(counts) == 3 / 5


def test_a_class_that_is_only_predicted_counts_as_zero():
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([0, 2]), torch.tensor([0, 0]))
    assert iou_per_class(matrix.summed())[2] == 0
    assert miou(matrix.summed()) == 0.25


def test_the_score_is_of_the_split_not_a_mean_of_batches():
    batches = [(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1])), (torch.tensor([1, 0]), torch.tensor([1, 1]))]
    whole, mean = ConfusionMatrix(2), []
    for predicted, truth in batches:
        one = ConfusionMatrix(2)
        one.update(predicted, truth)
        whole.update(predicted, truth)
        mean.append(miou(one.summed()))
    # class 0: 3 hits, union 5; class 1: 1 hit, union 3.
    assert miou(whole.summed()) == pytest.approx((3 / 5 + 1 / 3) / 2)
    assert miou(whole.summed()) != pytest.approx(sum(mean) / 2)


def test_agrees_with_torchmetrics():
    torch.manual_seed(0)
    ours, theirs = ConfusionMatrix(11), MulticlassConfusionMatrix(11, ignore_index=255)
    jaccard = MulticlassJaccardIndex(11, ignore_index=255)
    for _ in range(5):
        predicted, truth = torch.randint(0, 11, (2, 30, 40)), torch.randint(0, 12, (2, 30, 40))
        truth[truth == 11] = 255
        ours.update(predicted, truth)
        theirs.update(predicted, truth)
        jaccard.update(predicted, truth)
    assert torch.equal(ours.summed(), theirs.compute())
    assert miou(ours.summed()) == pytest.approx(float(jaccard.compute()), abs=1e-6)


def test_counts_stay_exact_where_float32_would_not():
    matrix = ConfusionMatrix(2)
    matrix.counts[0, 0] = 2**24
    matrix.update(torch.tensor([0]), torch.tensor([0]))
    assert matrix.summed()[0, 0] == 2**24 + 1


def test_nothing_counted_has_no_score():
    assert math.isnan(miou(ConfusionMatrix(3).summed()))
