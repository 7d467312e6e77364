"""Losses that judge each pixel by itself; `roadseg.losses` has the formulas."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from roadseg.errors import ConfigError
from roadseg.label_sets import LabelSets
from roadseg.losses.sets import PixelLoss, full_precision, known_ids, over_weight, weighted_mean
from roadseg.taxonomy import IGNORE_INDEX


class LabelSetCrossEntropy(PixelLoss):
    """Cross-entropy on set ids, averaged over the labelled pixels; 0, not NaN, where a batch has none.

    Args:
        label_sets: meaning of the ids.
        class_weights: (C,), or None for equal weights.
        label_smoothing: share of the uniform part, 0 up to, but not, 1.
    """

    def __init__(
        self, label_sets: LabelSets, class_weights: Tensor | None = None, label_smoothing: float = 0.0
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {label_smoothing}; use 0 up to, but not, 1")
        super().__init__(label_sets, class_weights)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            logits: (B, C, H, W), any floating type; the sums are done in float32 or better.
            mask: (B, H, W) int64 of set ids; 255 is ignored.

        Returns:
            A scalar.
        """
        logits, mask = full_precision(logits), known_ids(mask, self.num_sets)
        weight = self.weigh(mask, logits.dtype)
        if len(self.slots) == 1:
            total = self._plain(logits, mask)
        else:
            total = (self.negative_log_likelihood(logits, mask) * weight).sum()
        if self.label_smoothing:
            total = (1 - self.label_smoothing) * total + self.label_smoothing * self._uniform(logits, mask)
        return over_weight(total, weight.sum())

    def _plain(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The sum where every set has one class: torch's own, which weighs in the same pass."""
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        return F.cross_entropy(logits, mask, weights, ignore_index=IGNORE_INDEX, reduction="sum")

    def _uniform(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Sum over labelled pixels of the mean over classes of -w_c log p_c."""
        log_p = F.log_softmax(logits, 1)
        if self.class_weights is not None:
            log_p = log_p * self.class_weights.to(logits.dtype)[:, None, None]
        return -(log_p.sum(1) * (mask != IGNORE_INDEX)).sum() / self.num_classes


class FocalLoss(PixelLoss):
    """Focal loss (arXiv 1708.02002) on set ids.

    Args:
        label_sets: meaning of the ids.
        class_weights: (C,), or None for equal weights.
        gamma: how far pixels that are right already are left out; 0 is cross-entropy.
    """

    def __init__(self, label_sets: LabelSets, class_weights: Tensor | None = None, gamma: float = 2.0) -> None:
        if not 0 <= gamma <= 10:
            raise ConfigError(f"gamma is {gamma}; use 0 to 10")
        super().__init__(label_sets, class_weights)
        self.gamma = gamma

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of a batch; arguments and result as of `LabelSetCrossEntropy`."""
        logits, mask = full_precision(logits), known_ids(mask, self.num_sets)
        loss = self.negative_log_likelihood(logits, mask)
        # -expm1 keeps 1 - P where P is near 1; below 0 it would be rounding, and a power of it NaN. At exactly 0 a
        # power below 1 has no finite gradient, hence the smallest number there is.
        missing = (-torch.expm1(-loss)).clamp(min=torch.finfo(loss.dtype).tiny)
        return weighted_mean(missing**self.gamma * loss, self.weigh(mask, loss.dtype))


class OnlineHardExampleMining(PixelLoss):
    """Cross-entropy over the hard pixels alone (OHEM, arXiv 1604.03540).

    Args:
        label_sets: meaning of the ids.
        class_weights: (C,), or None for equal weights.
        threshold: a pixel is hard whose label has a smaller probability.
        min_kept: part of the labelled pixels that is kept at least, the hardest ones.
    """

    def __init__(
        self,
        label_sets: LabelSets,
        class_weights: Tensor | None = None,
        threshold: float = 0.7,
        min_kept: float = 0.0625,
    ) -> None:
        for name, value in (("threshold", threshold), ("min_kept", min_kept)):
            if not 0 < value <= 1:
                raise ConfigError(f"{name} is {value}; use a value above 0, at most 1")
        super().__init__(label_sets, class_weights)
        self.threshold, self.min_kept = threshold, min_kept

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of a batch; arguments and result as of `LabelSetCrossEntropy`."""
        logits, mask = full_precision(logits), known_ids(mask, self.num_sets)
        loss = self.negative_log_likelihood(logits, mask)
        weight = self.weigh(mask, loss.dtype)
        with torch.no_grad():
            weight = weight * self._hard(loss, mask != IGNORE_INDEX)
        return weighted_mean(loss, weight)

    def _hard(self, loss: Tensor, labelled: Tensor) -> Tensor:
        """Which pixels are kept, without waiting for a GPU to say how many there are."""
        ranked = torch.where(labelled, loss, -torch.inf).flatten().sort(descending=True).values
        least = (labelled.sum() * self.min_kept).ceil().long().clamp(min=1)
        return labelled & ((loss > -math.log(self.threshold)) | (loss >= ranked[least - 1]))


class BoundaryCrossEntropy(PixelLoss):
    """Cross-entropy that counts pixels near a border between labels more.

    Args:
        label_sets: meaning of the ids.
        class_weights: (C,), or None for equal weights.
        strength: what is added to the weight, 1, of a pixel near a border.
        radius_px: how near, in px of the training crop.
    """

    def __init__(
        self, label_sets: LabelSets, class_weights: Tensor | None = None, strength: float = 2.0, radius_px: int = 3
    ) -> None:
        if not 0 <= strength <= 100:
            raise ConfigError(f"strength is {strength}; use 0 to 100")
        if type(radius_px) is not int or not 1 <= radius_px <= 64:
            raise ConfigError(f"radius_px is {radius_px!r}; use a whole number, 1 to 64")
        super().__init__(label_sets, class_weights)
        self.strength, self.radius_px = strength, radius_px

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of a batch; arguments and result as of `LabelSetCrossEntropy`."""
        logits, mask = full_precision(logits), known_ids(mask, self.num_sets)
        weight = self.weigh(mask, logits.dtype) * (1 + self.strength * near_border(mask, self.radius_px))
        return weighted_mean(self.negative_log_likelihood(logits, mask), weight)


def near_border(mask: Tensor, radius_px: int) -> Tensor:
    """(B, H, W) bool: whether a differing label, that is not ignored, is within `radius_px` in x and in y.

    Args:
        mask: (B, H, W) of set ids; 255 is ignored.
        radius_px: half the side of the square that is looked at.
    """
    labels = mask.unsqueeze(1).float()
    ignored = labels == IGNORE_INDEX
    side = 2 * radius_px + 1
    highest = F.max_pool2d(labels.masked_fill(ignored, -1.0), side, 1, radius_px)
    lowest = -F.max_pool2d(-labels, side, 1, radius_px)  # 255, which is ignored, is above every id
    return ((highest > lowest) & ~ignored).squeeze(1)
