"""What the losses on label sets share: -log P_S per pixel, weights of sets, and what a label says of a region."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from roadseg.label_sets import LabelSets
from roadseg.taxonomy import IGNORE_INDEX


class PixelLoss(nn.Module):
    """What losses share that judge each pixel by itself: -log P_S and w(S).

    Args:
        label_sets: meaning of the ids.
        class_weights: (C,), or None for equal weights.
    """

    slots: Tensor
    sizes: Tensor
    class_weights: Tensor | None
    set_weights: Tensor

    def __init__(self, label_sets: LabelSets, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.num_classes, self.num_sets = len(label_sets.taxonomy), len(label_sets)
        slots, sizes = _slots(label_sets)
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer("set_weights", _set_weights(label_sets, class_weights), persistent=False)

    def weigh(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """w(S) of each pixel of a mask, of its shape; 0 where it is ignored."""
        return torch.take(self.set_weights.to(dtype), mask)

    def negative_log_likelihood(self, logits: Tensor, mask: Tensor) -> Tensor:
        """-log P_S of each pixel.

        Args:
            logits: (B, C, H, W), as `full_precision` gives them.
            mask: (B, H, W) int64 of set ids, contiguous.

        Returns:
            (B, H, W); finite, but of no meaning, where the mask is ignored.
        """
        if len(self.slots) == 1:  # every set has one class: torch's own
            return F.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX, reduction="none")
        return _SetNegativeLogLikelihood.apply(logits, mask, self.slots, self.sizes)


def full_precision(logits: Tensor) -> Tensor:
    """Logits in float32 or better, with the classes outermost.

    Networks give bfloat16 with the classes innermost, where a softmax over few is slow; one copy changes both.
    """
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.to(dtype, memory_format=torch.contiguous_format)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Sum w v / sum w; 0 where nothing has weight."""
    return over_weight((values * weights).sum(), weights.sum())


def over_weight(total: Tensor, weight: Tensor) -> Tensor:
    """Total / weight of a batch, both scalars; 0, with a gradient of 0, where there is no weight."""
    return total * (weight > 0) / torch.where(weight > 0, weight, 1)


def known_ids(mask: Tensor, num_sets: int) -> Tensor:
    """A mask (B, H, W), contiguous, with ids that are no set ignored: they weigh nothing, whatever the loss."""
    return torch.where(mask < num_sets, mask, IGNORE_INDEX).contiguous()


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
