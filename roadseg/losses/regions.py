"""Losses that compare a prediction's regions with the truth's; `roadseg.losses` has the formulas."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from roadseg.errors import ConfigError
from roadseg.label_sets import LabelSets
from roadseg.losses.sets import full_precision, known_ids, region_targets
from roadseg.taxonomy import IGNORE_INDEX


class RegionLoss(nn.Module):
    """What region losses share: the tables of what labels say of regions.

    Args:
        label_sets: meaning of the ids.
    """

    inside: Tensor
    outside: Tensor
    member: Tensor

    def __init__(self, label_sets: LabelSets) -> None:
        super().__init__()
        inside, outside = region_targets(label_sets)
        self.register_buffer("inside", inside, persistent=False)
        self.register_buffer("outside", outside, persistent=False)
        self.register_buffer("member", torch.from_numpy(label_sets.membership), persistent=False)


class DiceLoss(RegionLoss):
    """1 - Dice, the mean over the regions that a batch has (arXiv 1606.04797).

    Sums are taken over the whole batch, so that a class that one image lacks is judged by the others. They all follow
    from one (N, C) table, the sum of each class's probability over the pixels of each label.

    Args:
        label_sets: meaning of the ids.
        smooth: added to numerator and denominator.
    """

    def __init__(self, label_sets: LabelSets, smooth: float = 0.0) -> None:
        if not 0 <= smooth < float("inf"):
            raise ConfigError(f"smooth is {smooth}; use 0 or a finite value above it")
        super().__init__(label_sets)
        self.smooth = smooth

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            logits: (B, C, H, W), any floating type; the sums are done in float32 or better.
            mask: (B, H, W) int64 of set ids; 255 is ignored.

        Returns:
            A scalar; 0 where a batch has no labelled pixel.
        """
        with torch.autocast(logits.device.type, enabled=False):  # which would round sums of many pixels to 8 bits
            probabilities, counts = self._sums(full_precision(logits), mask)
            inside, outside = self.inside.to(counts.dtype), self.outside.to(counts.dtype)
            within = probabilities @ self.member.to(counts.dtype).T  # (N, N): label T, region S
        hits = (inside * within).sum(0)
        sizes = ((inside + outside) * within).sum(0) + (inside * counts[:, None]).sum(0)
        dice = (2 * hits + self.smooth) / (sizes + self.smooth).clamp(min=torch.finfo(sizes.dtype).tiny)
        occurs = (counts > 0).to(dice.dtype)
        return ((1 - dice) * occurs).sum() / occurs.sum().clamp(min=1)

    def _sums(self, logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) sums of the classes' probabilities over the pixels of each label, and (N,) how many there are."""
        ids = known_ids(mask, len(self.inside)).flatten(1)
        return _LabelSums.apply(logits.softmax(1).flatten(2), ids, len(self.inside))


class _LabelSums(torch.autograd.Function):
    """(N, C) sums of values (B, C, P) over the pixels of each id (B, P), and (N,) float how many there are.

    By hand, because products with the ids' indicators, an image at a time, take less time on a CPU than `index_add`,
    and have a fixed order of summation on a GPU; autograd would keep the indicators of all images. An id that is not
    below N is left out.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, ids: Tensor, labels: int) -> tuple[Tensor, Tensor]:
        names = torch.arange(labels, device=ids.device)[:, None]
        sums, counts = values.new_zeros(labels, values.shape[1]), values.new_zeros(labels)
        for image, of_pixel in zip(values, ids, strict=True):
            indicators = (of_pixel == names).to(values.dtype)
            sums.addmm_(indicators, image.T)
            counts += indicators.sum(1)
        ctx.save_for_backward(ids)
        ctx.mark_non_differentiable(counts)
        return sums, counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        known = F.pad(gradient.T, (0, 1))  # a last column of zeros, for what is left out
        ids = ids.clamp(max=len(gradient))
        return torch.stack([known.index_select(1, of_pixel) for of_pixel in ids]), None, None


class LovaszSoftmax(RegionLoss):
    """Lovasz-softmax (arXiv 1705.08790), the mean over the regions that a batch has.

    Args:
        label_sets: meaning of the ids.
        stride: every stride-th row and column is judged; sorting all pixels of every region is slow on a CPU.
    """

    def __init__(self, label_sets: LabelSets, stride: int = 1) -> None:
        if type(stride) is not int or not 1 <= stride <= 64:
            raise ConfigError(f"stride is {stride!r}; use a whole number, 1 to 64")
        super().__init__(label_sets)
        self.stride = stride

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of a batch; arguments and result as of `DiceLoss`."""
        logits, mask = (
            x[..., self.stride // 2 :: self.stride, self.stride // 2 :: self.stride] for x in (logits, mask)
        )
        ids = known_ids(mask, len(self.inside)).flatten()
        pixels = full_precision(logits).softmax(1).movedim(1, 0).flatten(1)
        occurring = torch.bincount(ids, minlength=IGNORE_INDEX + 1)[: len(self.inside)].nonzero().flatten().tolist()
        losses = [self._of_region(pixels, ids, region) for region in occurring]
        return torch.stack(losses).mean() if losses else pixels.sum() * 0

    def _of_region(self, pixels: Tensor, ids: Tensor, region: int) -> Tensor:
        said = self._lookup(self.inside | self.outside, region)[ids]
        truth = self._lookup(self.inside, region)[ids][said].to(pixels.dtype)
        errors = (truth - pixels[self.member[region]].sum(0)[said]).abs()
        errors, order = errors.sort(descending=True)
        return torch.dot(errors, _lovasz_gradient(truth[order]))

    @staticmethod
    def _lookup(table: Tensor, region: int) -> Tensor:
        """(256,) bool: a column of a table by label; false where no label is."""
        values = table.new_zeros(IGNORE_INDEX + 1)
        values[: len(table)] = table[:, region]
        return values


def _lovasz_gradient(truth: Tensor) -> Tensor:
    """By how much 1 - IoU grows with each pixel that is wrong as well, worst first (algorithm 1 of the paper)."""
    total = truth.sum()
    jaccard = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    return torch.diff(jaccard, prepend=jaccard.new_zeros(1))
