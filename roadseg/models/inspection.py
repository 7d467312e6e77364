"""Looking inside a network: where a position attends, which inputs a position depends on, and life without PEG.

Everything here runs the network's own parts or computes the same from its own weights; nothing is estimated.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from roadseg.errors import ModelError
from roadseg.models.attention import GlobalSubsampledAttention, LocallyGroupedAttention, split_heads
from roadseg.models.padding import ceil_divide
from roadseg.models.segmenter import Network
from roadseg.models.twins import Twins
from roadseg.models.twins_blocks import Block
from roadseg.models.windows import to_windows

Inspectable = LocallyGroupedAttention | GlobalSubsampledAttention


@dataclass(frozen=True)
class QueryAttention:
    """Where one position of a map attends, in positions ("tokens") of that map.

    Attributes:
        weights: (heads, rows, columns) float32: softmax(q k^T / sqrt(d)) of the query over its keys; each head's sum
            is 1. Keys of a window that the edge of the map cuts lie outside the map in part: padding is attended, too.
        top: row of the first key's first token.
        left: column of the first key's first token.
        key_side: tokens that a key stands for, in each direction: 1 for a window, `sr_ratio` for global attention.
    """

    weights: npt.NDArray[np.float32]
    top: int
    left: int
    key_side: int


def twins_of(network: nn.Module) -> Twins:
    """The Twins in a network.

    Args:
        network: a Twins, or a segmenter or classifier over one.

    Raises:
        ModelError: when its backbone is another.
    """
    backbone = network.backbone if isinstance(network, Network) else network
    if not isinstance(backbone, Twins):
        raise ModelError(
            f"the backbone is a {type(backbone).__name__}; only a Twins (twins_svt_*, twins_pcpvt_*) can be looked into"
        )
    return backbone


@torch.no_grad()
def attention_input(network: nn.Module, image: Tensor, stage: int, block: int) -> tuple[Inspectable, Tensor]:
    """The attention of a block, and the normalised map that reaches it.

    Args:
        network: with a Twins for its backbone, in evaluation mode.
        image: (1, 3, H, W) as the network takes it.
        stage: 0 to 3.
        block: of the stage.

    Returns:
        The module, and (1, h, w, C) float32 tokens, where h and w are the stage's.

    Raises:
        ModelError: when there is no such block, or it has no attention that can be looked at.
    """
    blocks = twins_of(network).blocks
    if not 0 <= stage < len(blocks) or not 0 <= block < len(_stage(blocks, stage)):
        depths = [len(_stage(blocks, i)) for i in range(len(blocks))]
        raise ModelError(f"no block {block} in stage {stage}; the stages, from 0, have {depths} blocks")
    found = _stage(blocks, stage)[block]
    if not isinstance(found, Block) or not isinstance(found.attn, Inspectable):
        kind = type(found.attn).__name__ if isinstance(found, Block) else type(found).__name__
        raise ModelError(
            f"block {block} of stage {stage} is a {kind}; only local and global attention (L and G) can be looked at"
        )
    seen: list[Tensor] = []
    # The norm sees the whole map; the attention may be given it strip by strip.
    handle = found.norm1.register_forward_hook(lambda module, given, normalised: seen.append(normalised))
    try:
        network(image)
    finally:
        handle.remove()
    return found.attn, seen[0]


@torch.no_grad()
def attention_probabilities(attention: Inspectable, tokens: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)): the weights with which every position takes up the values (arXiv 2104.13840).

    Args:
        attention: of a block.
        tokens: (1, h, w, C), the normalised map that reaches it.

    Returns:
        Of local attention (windows, heads, s * s, s * s) for windows of side s, row by row; of global attention
        (1, heads, h * w, m) for m keys, row by row. The last axis sums to 1.
    """
    if isinstance(attention, GlobalSubsampledAttention):
        key, _ = attention.context(tokens)
        (query,) = split_heads(attention.q(tokens).flatten(1, 2), 1, attention.num_heads)
        return _softmax(query, key)
    windows = to_windows(tokens, attention.row_multiple)
    query, key, _ = split_heads(attention.qkv(windows), 3, attention.num_heads)
    inside = to_windows(torch.ones_like(tokens[..., :1]), attention.row_multiple).transpose(1, 2)[:, None] > 0
    return _softmax(query, key, inside if attention.padding == "mask" else None)


@torch.no_grad()
def attention_at(attention: Inspectable, tokens: Tensor, row: int, column: int) -> QueryAttention:
    """Where one position attends: inside its window, or over the whole map.

    Args:
        attention: of a block.
        tokens: (1, h, w, C), the normalised map that reaches it.
        row: of the query, in 0..h-1.
        column: of the query, in 0..w-1.

    Raises:
        ModelError: when the position is outside the map.
    """
    height, width = tokens.shape[1:3]
    if not (0 <= row < height and 0 <= column < width):
        raise ModelError(f"query ({row}, {column}) is outside the map of {height} rows and {width} columns")
    if isinstance(attention, GlobalSubsampledAttention):
        side = attention.sr_ratio
        key, _ = attention.context(tokens)
        (query,) = split_heads(attention.q(tokens[:, row, column])[:, None], 1, attention.num_heads)
        weights = _softmax(query, key)[0, :, 0]
        return QueryAttention(_on_grid(weights, ceil_divide(height, side), ceil_divide(width, side)), 0, 0, side)
    side = attention.row_multiple
    top, left = row // side * side, column // side * side
    window = tokens[:, top : top + side, left : left + side]
    weights = attention_probabilities(attention, window)[0, :, (row - top) * side + column - left]
    return QueryAttention(_on_grid(weights, side, side), top, left, 1)


def without_peg(network: nn.Module) -> nn.Module:
    """A copy of a network whose positional encoding generators (PEG, arXiv 2102.10882) let everything through.

    Args:
        network: with a Twins for its backbone; it is left as it is.

    Raises:
        ModelError: when its backbone is no Twins.
    """
    changed = copy.deepcopy(network)
    encodings = twins_of(changed).pos_block
    for stage in range(len(encodings)):
        encodings[stage] = nn.Identity()
    return changed


def effective_receptive_field(backbone: nn.Module, images: Sequence[Tensor], stage: int = -1) -> npt.NDArray:
    """How much each input pixel moves the middle of a feature map (arXiv 1701.04128).

    A gradient of 1 is put on all channels of the central position and brought back to the image; its absolute values,
    summed over the colours, are averaged over the images. Where a side of the map is even, no position is central: the
    two in the middle share the gradient.

    Args:
        backbone: (1, 3, H, W) to a list of features (1, C, h, w); in evaluation mode.
        images: normalised, (1, 3, H, W) each, all of one size; at least one.
        stage: which of the features.

    Returns:
        (H, W) float64 with sum 1.

    Raises:
        ModelError: when no image is given, or no pixel has an influence.
    """
    if not images:
        raise ModelError("no image to average over; give at least one")
    total = torch.zeros(images[0].shape[2:], dtype=torch.float64)
    for image in images:
        leaf = image.detach().clone().requires_grad_()
        with torch.enable_grad():
            feature = backbone(leaf)[stage]
            rows, columns = (slice((side - 1) // 2, side // 2 + 1) for side in feature.shape[2:])
            centre = feature[0, :, rows, columns].mean((1, 2)).sum()
            (gradient,) = torch.autograd.grad(centre, leaf)
        total += gradient[0].abs().sum(0).double()
    if not 0 < float(total.sum()) < float("inf"):
        raise ModelError(f"the gradients sum to {float(total.sum())}: no field can be drawn; check the weights")
    return (total / total.sum()).numpy()


def side_of_share(field: npt.NDArray, share: float) -> int:
    """Side in px of the smallest square around the middle that holds a share of a field; clipped at its border.

    Args:
        field: (H, W), not negative.
        share: of its sum, above 0, at most 1.
    """
    rows, columns = (np.abs(2 * np.arange(side) + 1 - side) for side in field.shape)
    reach = np.maximum(rows[:, None], columns[None, :])  # side of the square on whose rim a pixel lies, less one
    within = np.cumsum(np.bincount(reach.ravel(), weights=field.ravel()))
    return int(np.searchsorted(within, share * within[-1] * (1 - 1e-12))) + 1


def _softmax(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = query.float() @ key.float().transpose(-2, -1) * query.shape[-1] ** -0.5
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1)


def _on_grid(weights: Tensor, rows: int, columns: int) -> npt.NDArray[np.float32]:
    return weights.view(-1, rows, columns).float().cpu().numpy()


def _stage(blocks: nn.ModuleList, stage: int) -> nn.ModuleList:
    return cast(nn.ModuleList, blocks[stage])
