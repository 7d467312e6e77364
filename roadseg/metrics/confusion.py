"""The confusion matrix of a split."""

import torch
from torch import Tensor

from roadseg.metrics.tally import sum_over_processes
from roadseg.taxonomy import IGNORE_INDEX


class ConfusionMatrix:
    """Counts (truth, prediction) pairs over a whole split, exactly, in int64.

    It is a plain object, not a module: a weight-averaging callback swaps every buffer of a module between the last
    validation batch and the end of the epoch, and would swap the counts away.

    Args:
        num_classes: C.
        num_labels: N, ids that the truth may hold; more than C where labels are sets of classes. C if not given.
    """

    def __init__(self, num_classes: int, num_labels: int | None = None) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_labels or num_classes, num_classes, dtype=torch.int64)

    def reset(self) -> None:
        """Forget everything counted."""
        self.counts = torch.zeros_like(self.counts)

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: class ids, any shape, integers in 0..C-1.
            truth: label ids of the same shape, integers in 0..N-1; 255 is ignored.
        """
        labelled = truth != IGNORE_INDEX
        pairs = truth[labelled].long() * self.num_classes + predicted[labelled].long()
        counts = torch.bincount(pairs, minlength=self.counts.numel()).view_as(self.counts)
        self.counts = self.counts.to(counts.device) + counts

    def summed(self) -> Tensor:
        """(N, C) int64 counts [truth, prediction] of all processes together. Collective: every process calls it."""
        return sum_over_processes(self.counts)
