"""Losses on logits (B, C, H, W) and masks (B, H, W) of set ids.

A mask's id stands for a set S of classes, one of which the pixel has (`roadseg.label_sets`); an empty set is ignored.
What follows defines every term for such labels, overlapping ones too. With p = softmax(logits), P_S = sum over c in S
of p_c, and sets of one class each, all of it is the usual definition.

*Cross-entropy*: -log P_S, the negative log-likelihood of what the label says. Its gradient with regard to logit c is
p_c - [c in S] p_c / P_S: the members share the pull in the proportions that the network itself believes in.

*Class weights*: w(S) = min over c in S of w_c. Weights raise classes that are rare; a label that may mean a common
class does not say that the pixel is of a rare one. The loss of a batch is sum_i w(S_i) l_i / sum_i w(S_i).

*Label smoothing*: (1 - e) (-log P_S) + e / C sum over c of (-log p_c): the uniform part knows no sets. With class
weights the first part is weighed by w(S), the terms of the second by w_c, and the whole is divided by sum_i w(S_i),
as torch does.

*Region losses* (Dice, Lovasz, boundary terms) compare, region by region, a prediction and a truth per pixel. Each set
S that occurs in a batch has a region, with prediction P_S. Its truth at a pixel labelled T is 1 if T is a subset of
S, 0 if T and S share no class; where they overlap without inclusion the label does not say, and the pixel is left out
of this region. The loss is the mean over the regions. So a pixel {road, lane_marking} is outside `building`, inside
{road, lane_marking}, and says nothing about `lane_marking` alone. `region_targets` gives the
truths; the scores of `roadseg.metrics.regions` rest on them, and no region loss is offered yet.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from roadseg.label_sets import LabelSets
from roadseg.taxonomy import IGNORE_INDEX


class LabelSetCrossEntropy(nn.Module):
    """Cross-entropy on set ids, averaged over the labelled pixels; 0, not NaN, where a batch has none.

    The formulas are in this module's docstring.

    Args:
        label_sets: meaning of the ids.
        class_weights: (C,), or None for equal weights.
        label_smoothing: share of the uniform part, 0 up to, but not, 1.
    """

    slots: Tensor
    sizes: Tensor
    class_weights: Tensor | None
    set_weights: Tensor

    def __init__(
        self, label_sets: LabelSets, class_weights: Tensor | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.num_classes = len(label_sets.taxonomy)
        slots, sizes = _slots(label_sets)
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer("set_weights", _set_weights(label_sets, class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            logits: (B, C, H, W), any floating type; the sums are done in float32 or better.
            mask: (B, H, W) int64 of set ids; 255 is ignored.

        Returns:
            A scalar.
        """
        mask = mask.contiguous()
        # Networks give bfloat16 with the classes innermost, where a softmax over few is slow; one copy changes both.
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        logits = logits.to(dtype, memory_format=torch.contiguous_format)
        weight = torch.take(self.set_weights.to(logits.dtype), mask)
        if len(self.slots) == 1:
            total = self._plain(logits, mask)
        else:
            total = (_SetNegativeLogLikelihood.apply(logits, mask, self.slots, self.sizes) * weight).sum()
        if self.label_smoothing:
            total = (1 - self.label_smoothing) * total + self.label_smoothing * self._uniform(logits, mask)
        return total / weight.sum().clamp(min=torch.finfo(logits.dtype).tiny)

    def _plain(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The sum where every set has one class: torch's own."""
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        return F.cross_entropy(logits, mask, weights, ignore_index=IGNORE_INDEX, reduction="sum")

    def _uniform(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Sum over labelled pixels of the mean over classes of -w_c log p_c."""
        log_p = F.log_softmax(logits, 1)
        if self.class_weights is not None:
            log_p = log_p * self.class_weights.to(logits.dtype)[:, None, None]
        return -(log_p.sum(1) * (mask != IGNORE_INDEX)).sum() / self.num_classes


class _SetNegativeLogLikelihood(torch.autograd.Function):
    """(B, H, W) of -log P_S, by log-sum-exp over the set's log-probabilities; finite, but of no meaning, where ignored.

    By hand, because autograd would keep, and fill with zeros, a (B, C, H, W) tensor for each member of the largest set.
    The work grows with the sizes of the pixels' own sets: second members are looked up only where there are two, and
    so on. `slots` (m, 256) lists the members of each set id; `sizes` (256,) says how many it has.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, mask: Tensor, slots: Tensor, sizes: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, 1)
        log_set = log_p.gather(1, torch.take(slots[0], mask).unsqueeze(1)).view(-1)
        starts, ids = _starts(log_p), mask.view(-1)
        pixels = (torch.take(sizes, ids) > 1).nonzero().squeeze(1)
        steps = []
        for slot in range(1, len(slots)):
            member = torch.take(log_p, _places(log_p, slots[slot], ids, starts, pixels))
            log_set[pixels] = torch.logaddexp(log_set[pixels], member)
            steps.append(pixels)
            pixels = pixels[torch.take(sizes, ids[pixels]) > slot + 1]
        ctx.save_for_backward(log_p, mask, slots, log_set, *steps)
        return -log_set.view_as(mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        log_p, mask, slots, log_set, *steps = ctx.saved_tensors
        result = log_p.exp().mul_(gradient.unsqueeze(1))
        first = torch.take(slots[0], mask).unsqueeze(1)
        pull = (log_p.gather(1, first).squeeze(1) - log_set.view_as(mask)).exp_().mul_(gradient)
        result.scatter_add_(1, first, pull.neg_().unsqueeze(1))
        starts, ids, gradient = _starts(log_p), mask.view(-1), gradient.reshape(-1)
        for pixels, class_of in zip(steps, slots[1:], strict=True):
            places = _places(log_p, class_of, ids, starts, pixels)
            pull = (torch.take(log_p, places) - log_set[pixels]).exp_().mul_(gradient[pixels])
            result.view(-1).scatter_add_(0, places, pull.neg_())
        return result, None, None, None


def _starts(log_p: Tensor) -> Tensor:
    """(B * H * W,): where each pixel's class 0 lies in (B, C, H, W), flattened."""
    batch, classes, height, width = log_p.shape
    inside = torch.arange(height * width, device=log_p.device)
    images = torch.arange(batch, device=log_p.device) * (classes * height * width)
    return (images[:, None] + inside).view(-1)


def _places(log_p: Tensor, class_of: Tensor, ids: Tensor, starts: Tensor, pixels: Tensor) -> Tensor:
    """Where the class that some pixels' set ids have in this slot lies in (B, C, H, W), flattened."""
    return torch.take(class_of, ids[pixels]).mul_(log_p.shape[2] * log_p.shape[3]).add_(starts[pixels])


def _slots(label_sets: LabelSets) -> tuple[Tensor, Tensor]:
    """Members of each set id, and how many; ids that are no set have none."""
    slots = torch.zeros(max(map(len, label_sets.members)), IGNORE_INDEX + 1, dtype=torch.int64)
    sizes = torch.zeros(IGNORE_INDEX + 1, dtype=torch.int64)
    for i, members in enumerate(label_sets.members):
        slots[: len(members), i] = torch.tensor(members)
        sizes[i] = len(members)
    return slots, sizes


def _set_weights(label_sets: LabelSets, class_weights: Tensor | None) -> Tensor:
    """(256,) float: w(S) of each set id, 0 for ids that are no set."""
    weights = torch.zeros(IGNORE_INDEX + 1, dtype=torch.float32 if class_weights is None else class_weights.dtype)
    for i, members in enumerate(label_sets.members):
        weights[i] = 1.0 if class_weights is None else class_weights[list(members)].min()
    return weights


def region_targets(label_sets: LabelSets) -> tuple[Tensor, Tensor]:
    """What a label says of each region, by the rule for region losses and for scores in this module's docstring.

    Returns:
        inside: (len(label_sets), len(label_sets)) bool [label T, region S], T is a subset of S.
        outside: the same shape, T and S share no class. Where neither holds the label says nothing of the region.
    """
    member = torch.from_numpy(label_sets.membership).double()
    shared = member @ member.T
    return shared == member.sum(1, keepdim=True), shared == 0
