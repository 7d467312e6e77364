"""The confusion matrix against a hand-made case and torchmetrics."""

import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from roadseg.metrics.confusion import ConfusionMatrix


def test_counts_of_a_case_done_by_hand():
    # truth 0 0 0 1 1 ignored, prediction 0 0 1 1 0 2; class 2 of four is never the truth where it counts.
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([0, 0, 1, 1, 0, 2]), torch.tensor([0, 0, 0, 1, 1, 255]))
    counts = matrix.summed()
    assert counts[:2, :2].tolist() == [[2, 1], [1, 1]] and counts.sum() == 5


def test_the_truth_may_hold_more_ids_than_there_are_classes():
    matrix = ConfusionMatrix(2, num_labels=3)
    matrix.update(torch.tensor([0, 1, 1, 0]), torch.tensor([2, 2, 0, 255]))
    assert matrix.summed().tolist() == [[0, 1], [0, 0], [1, 1]]


def test_agrees_with_torchmetrics():
    torch.manual_seed(0)
    ours, theirs = ConfusionMatrix(11), MulticlassConfusionMatrix(11, ignore_index=255)
    for _ in range(5):
        predicted, truth = torch.randint(0, 11, (2, 30, 40)), torch.randint(0, 12, (2, 30, 40))
        truth[truth == 11] = 255
        ours.update(predicted, truth)
        theirs.update(predicted, truth)
    assert torch.equal(ours.summed(), theirs.compute())


def test_counts_stay_exact_where_float32_would_not():
    matrix = ConfusionMatrix(2)
    matrix.counts[0, 0] = 2**24
    matrix.update(torch.tensor([0]), torch.tensor([0]))
    assert matrix.summed()[0, 0] == 2**24 + 1
