"""The confusion matrix of a split, and the scores that follow from it."""

import torch
from torch import Tensor, distributed

from roadseg.taxonomy import IGNORE_INDEX


class ConfusionMatrix:
    """Counts (truth, prediction) pairs over a whole split, exactly, in int64.

    It is a plain object, not a module: a weight-averaging callback swaps every buffer of a module between the last
    validation batch and the end of the epoch, and would swap the counts away.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def reset(self) -> None:
        """Forget everything counted."""
        self.counts = torch.zeros_like(self.counts)

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: class ids, any shape, integers in 0..C-1.
            truth: class ids of the same shape; 255 is ignored.
        """
        labelled = truth != IGNORE_INDEX
        pairs = truth[labelled].long() * self.num_classes + predicted[labelled].long()
        counts = torch.bincount(pairs, minlength=self.num_classes**2).view_as(self.counts)
        self.counts = self.counts.to(counts.device) + counts

    def summed(self) -> Tensor:
        """(C, C) int64 counts [truth, prediction] of all processes together. Collective: every process calls it."""
        counts = self.counts.clone()
        if distributed.is_available() and distributed.is_initialized():
            device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
            counts = counts.to(device)
            distributed.all_reduce(counts)
        return counts.cpu()


def iou_per_class(counts: Tensor) -> Tensor:
    """Intersection over union of each class, from (C, C) counts [truth, prediction].

    Returns:
        (C,) float64; NaN for a class that neither truth nor prediction has.
    """
    hits = counts.diagonal().double()
    union = counts.sum(0).double() + counts.sum(1).double() - hits
    return torch.where(union > 0, hits / union, torch.nan)


def miou(counts: Tensor) -> float:
    """Mean IoU over the classes that occur in truth or prediction; NaN when nothing was counted."""
    return float(iou_per_class(counts).nanmean())


def pixel_accuracy(counts: Tensor) -> float:
    """Share of the labelled pixels that are right; NaN when nothing was counted."""
    return float(counts.diagonal().sum().double() / counts.sum().double())
