"""The attention of Twins (arXiv 2104.13840) on channels-last maps (B, H, W, C).

Each kind has two steps. `context` computes, from the whole normalised map, what every position shares: keys and values
for global attention, nothing for windows. `forward` attends from a strip of whole rows, a multiple of `row_multiple`,
and needs nothing else, so that a map can be worked off strip by strip. Maps may have any sides: what a window or a
subsampling lacks at the right and bottom is padded.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.models.padding import lacks, pad_map
from roadseg.models.windows import from_windows, to_windows

Padding = Literal["zero", "mask"]
"""Padded positions of a window are zeros that are attended like others, or are never attended."""

Subsampling = Literal["conv", "separable", "avgpool"]
"""How global attention summarises patches of `sr_ratio` x `sr_ratio` positions."""

Context = tuple[Tensor, ...]
"""Keys and values that all positions share; empty where there are none."""


class LocallyGroupedAttention(nn.Module):
    """LSA: multi-head self-attention inside windows of `window_size` x `window_size` positions.

    Args:
        dim: channels.
        num_heads: heads; they divide `dim`.
        window_size: side of a window.
        padding: of the windows at the right and bottom edge. "zero" is what the public weights were trained with.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int, padding: Padding = "zero") -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale: float | None = None
        self.row_multiple = window_size
        self.padding = padding
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def context(self, tokens: Tensor) -> Context:
        """Nothing: a window sees only itself."""
        return ()

    def forward(self, tokens: Tensor, context: Context = ()) -> Tensor:
        """Attend; (B, H, W, C) to the same shape."""
        batch, height, width, _ = tokens.shape
        query, key, value = split_heads(self.qkv(to_windows(tokens, self.row_multiple)), 3, self.num_heads)
        mask = self._mask(tokens) if self.padding == "mask" and lacks(height, width, self.row_multiple) else None
        # Windows are folded into the batch: exporters know attention over four dimensions, not over five.
        attended = attend(query, key, value, mask, scale=self.scale).transpose(1, 2).flatten(2)
        return self.proj(from_windows(attended, batch, height, width, self.row_multiple))

    def _mask(self, tokens: Tensor) -> Tensor:
        """Which positions of each window are inside the map, (B * windows, 1, 1, positions)."""
        inside = to_windows(torch.ones_like(tokens[..., :1]), self.row_multiple)
        return inside.transpose(1, 2)[:, None] > 0


class GlobalSubsampledAttention(nn.Module):
    """GSA: multi-head attention from every position to a summary of the map (spatial reduction of arXiv 2102.12122).

    Args:
        dim: channels.
        num_heads: heads; they divide `dim`.
        sr_ratio: side of the patches that are summarised to one key and one value; 1 keeps every position.
        subsampling: "conv" (the paper's choice), "separable" (depthwise, then pointwise) or "avgpool".
    """

    row_multiple = 1

    def __init__(self, dim: int, num_heads: int, sr_ratio: int, subsampling: Subsampling = "conv") -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale: float | None = None
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.sr_ratio = sr_ratio
        if sr_ratio > 1:
            self.sr = SUBSAMPLINGS[subsampling](dim, sr_ratio)
            self.norm = nn.LayerNorm(dim)

    def context(self, tokens: Tensor) -> Context:
        """Keys and values (B, heads, positions of the summary, dim / heads) of a whole map (B, H, W, C)."""
        if self.sr_ratio > 1:
            tokens = self.norm(self.sr(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return split_heads(self.kv(tokens.flatten(1, 2)), 2, self.num_heads)

    def forward(self, tokens: Tensor, context: Context = ()) -> Tensor:
        """Attend from (B, H, W, C), which may be some rows of a map, to the map's context; to the same shape."""
        key, value = context or self.context(tokens)
        (query,) = split_heads(self.q(tokens).flatten(1, 2), 1, self.num_heads)
        attended = attend(query, key, value, scale=self.scale).transpose(1, 2)
        return self.proj(attended.reshape(tokens.shape))


class PatchConv2d(nn.Conv2d):
    """Convolution (B, C, H, W) to (B, out, ceil(H / size), ceil(W / size)) with a kernel as large as its stride.

    A last patch that is not whole is filled up with zeros, so that no edge of the map is dropped.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, size, size, groups=groups, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve."""
        return super().forward(pad_map(input.permute(0, 2, 3, 1), self.stride[0]).permute(0, 3, 1, 2))


def _separable(dim: int, ratio: int) -> nn.Module:
    return nn.Sequential(PatchConv2d(dim, dim, ratio, groups=dim, bias=False), nn.Conv2d(dim, dim, 1))


def _average(dim: int, ratio: int) -> nn.Module:
    # A last patch that is not whole has the mean of its own positions, not of zeros beside them.
    return nn.AvgPool2d(ratio, ceil_mode=True)


SUBSAMPLINGS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "conv": lambda dim, ratio: PatchConv2d(dim, dim, ratio),
    "separable": _separable,
    "avgpool": _average,
}


_MOST_KEYS_WRITTEN_OUT = 96
"""A window has 49. Beyond some hundred keys torch's kernel, which keeps no attention weights, is faster again."""


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """Scaled dot-product attention; (B, heads, N, d), twice (B, heads, M, d), and a mask that broadcasts to (N, M).

    The scale is 1 / sqrt(d) if it is not given. Training in bfloat16 on a CPU, attention to few keys is written out:
    torch's fused kernel for CPUs takes about three times as long for the forward and backward pass of windows
    (benchmarks/training_step.py).
    """
    # The number of keys is asked last: while a program is exported it is a symbol, and asking bounds the image's size.
    if _is_trained_in_bfloat16_on_cpu(query) and key.shape[-2] <= _MOST_KEYS_WRITTEN_OUT:
        scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
        scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scale)


@torch.no_grad()
def fold_scales(network: nn.Module) -> None:
    """Move the scale of all attention into the weights that make its queries, in place; the function is the same.

    Exporters write the scale as operations of its own on queries and keys, each a pass over memory.
    """
    for module in network.modules():
        if isinstance(module, LocallyGroupedAttention | GlobalSubsampledAttention) and module.scale is None:
            projection = module.qkv if isinstance(module, LocallyGroupedAttention) else module.q
            dim = projection.in_features
            for parameter in (projection.weight, projection.bias):
                parameter[:dim] *= (dim // module.num_heads) ** -0.5
            module.scale = 1.0


def _is_trained_in_bfloat16_on_cpu(query: Tensor) -> bool:
    return query.requires_grad and query.dtype == torch.bfloat16 and query.device.type == "cpu"


def split_heads(tokens: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """`parts` tensors (B, heads, N, dim / heads) from (B, N, parts * dim)."""
    batch, positions, channels = tokens.shape
    split = tokens.view(batch, positions, parts, num_heads, channels // (parts * num_heads))
    return split.permute(2, 0, 3, 1, 4).unbind(0)
