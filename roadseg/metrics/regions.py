"""Scores where labels are sets of classes, from (N, C) counts [set id, predicted class].

Each set S has a region. A pixel labelled T is inside it if T is a subset of S, outside if T and S share no class;
otherwise its label does not say, and it is not counted (`roadseg.losses`). A prediction inside S is right for the
region.
"""

import torch
from torch import Tensor

from roadseg.label_sets import LabelSets
from roadseg.losses import region_targets


def region_iou(counts: Tensor, label_sets: LabelSets) -> Tensor:
    """Intersection over union of the region of each set; the first C are the classes.

    Args:
        counts: (N, C) [set id, predicted class].
        label_sets: meaning of the ids.

    Returns:
        (N,) float64; NaN for a region that neither truth nor prediction has, and for one that the labels cannot tell:
        no pixel is inside it, and some may be. Without merged sets this is the usual IoU per class.
    """
    counts = counts.double()
    inside, outside = (table.double() for table in region_targets(label_sets))
    within = counts @ torch.from_numpy(label_sets.membership).double().T
    total = counts.sum(1, keepdim=True)
    hits = (inside * within).sum(0)
    union = (inside * total).sum(0) + (outside * within).sum(0)
    unsaid = ((1 - inside - outside) * total).sum(0)
    blind = ((inside * total).sum(0) == 0) & (unsaid > 0)
    return torch.where((union > 0) & ~blind, hits / union, torch.nan)


def coarsest_regions(counts: Tensor, label_sets: LabelSets) -> list[int]:
    """Set ids that occur in the truth and are part of no other that does: what the labels ask at least."""
    occurring = counts.sum(1) > 0
    inside, _ = region_targets(label_sets)
    within_other = (inside & occurring & ~torch.eye(len(label_sets), dtype=torch.bool)).any(1)
    return [int(i) for i in (occurring & ~within_other).nonzero()]


def labelled_miou(counts: Tensor, label_sets: LabelSets) -> float:
    """Mean IoU over what the labels hold; NaN when nothing was counted.

    Classes that are predicted but not labelled lower the IoU of those in whose place they stand, and are no further
    zeros: in one frame, or a part of one, a few stray pixels would otherwise pull a good mask down to the worst.

    Args:
        counts: (N, C) [set id, predicted class].
        label_sets: meaning of the ids.
    """
    present = coarsest_regions(counts, label_sets)
    return float(region_iou(counts, label_sets)[present].mean()) if present else float("nan")


def accuracy(counts: Tensor, label_sets: LabelSets) -> float:
    """Share of the labelled pixels whose prediction is in their set; NaN when nothing was counted."""
    right = counts[torch.from_numpy(label_sets.membership)].sum()
    return float(right.double() / counts.sum().double())
