"""Losses on logits (B, C, H, W) and masks (B, H, W)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from roadseg.taxonomy import IGNORE_INDEX


def cross_entropy(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, averaged over the labelled pixels: sum_i w(y_i) (-log p_i(y_i)) / sum_i w(y_i).

    Unlike torch's own mean it is 0, not NaN, where a batch has no labelled pixel.

    Args:
        logits: (B, C, H, W).
        mask: (B, H, W) int64 of class ids; 255 is ignored.
        class_weights: (C,), or None for equal weights.

    Returns:
        A scalar.
    """
    total = F.cross_entropy(logits, mask, class_weights, ignore_index=IGNORE_INDEX, reduction="sum")
    labelled = torch.bincount(mask.flatten(), minlength=IGNORE_INDEX + 1)[: logits.shape[1]].to(total.dtype)
    weight = labelled.sum() if class_weights is None else labelled @ class_weights.to(total.dtype)
    return total / weight.clamp(min=torch.finfo(total.dtype).tiny)
