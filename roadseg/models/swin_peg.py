"""Swin's blocks (arXiv 2103.14030) for maps of any size, with relative position biases or with a PEG.

timm's blocks hold what depends on the size of the map, the shift and its mask, from the moment they are made. These
take over the parameters of timm's blocks, under the same names, and look at the map that comes: each is what timm's
would be had it been made for that size. They hold no buffers, so that a network can be made on the meta device.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.errors import ModelError
from roadseg.models.padding import ceil_divide, crop_map, pad_map
from roadseg.models.twins_blocks import PositionalEncoding
from roadseg.models.windows import from_windows, to_windows

Position = Literal["relative_bias", "peg"]
"""How windows know of positions: Swin's relative biases, or a PEG (arXiv 2102.10882) after each stage's first block."""

Length = int | torch.SymInt
"""A number of positions; symbolic while a network is exported."""


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, on the parameters of timm's `WindowAttention`.

    Args:
        attention: timm's.
        position: "peg" leaves the biases out.
    """

    relative_position_bias_table: nn.Parameter | None

    def __init__(self, attention: Any, position: Position) -> None:
        super().__init__()
        self.num_heads: int = attention.num_heads
        self.window_size: int = attention.window_size[0]
        table = attention.relative_position_bias_table if position == "relative_bias" else None
        self.register_parameter("relative_position_bias_table", table)
        self.qkv = attention.qkv
        self.proj = attention.proj

    def forward(self, windows: Tensor, allowed: Tensor | None) -> Tensor:
        """Attend.

        Args:
            windows: (B * windows of a map, N, C), N = window_size**2 positions.
            allowed: (windows of a map, N, N) bool, which position may attend to which; None for all to all.

        Returns:
            The same shape as `windows`.
        """
        count, positions, dim = windows.shape
        qkv = self.qkv(windows).view(count, positions, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mask = self._mask(allowed, windows.dtype)
        if allowed is not None and mask is not None:  # one for each window of a map; maps follow each other
            mask = mask.repeat(count // allowed.shape[0], 1, 1, 1)
        attended = F.scaled_dot_product_attention(query, key, value, mask)
        return self.proj(attended.transpose(1, 2).reshape(windows.shape))

    def _mask(self, allowed: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """What is added to the logits, (1 or windows, 1 or heads, N, N), or which may be attended, or None."""
        if self.relative_position_bias_table is None:
            return None if allowed is None else allowed[:, None]
        bias = self._bias(self.relative_position_bias_table).to(dtype)
        return bias if allowed is None else bias.masked_fill(~allowed[:, None], -torch.inf)

    def _bias(self, table: Tensor) -> Tensor:
        """(1, heads, N, N) from the table ((2 window_size - 1)**2, heads) of biases by offset."""
        size = self.window_size
        position = torch.arange(size * size, device=table.device)
        row, column = position // size, position % size
        down, right = row[:, None] - row + size - 1, column[:, None] - column + size - 1
        return table[down * (2 * size - 1) + right].permute(2, 0, 1)[None]


class SwinBlock(nn.Module):
    """A block of Swin on the parameters of timm's `SwinTransformerBlock`.

    Maps are padded with zeros at the right and bottom to whole windows, then shifted, as Swin's authors do for dense
    prediction. timm shifts before it pads, which lets positions of opposite edges attend to each other at sizes that
    windows do not divide; at all other sizes the two are the same.

    Args:
        block: timm's.
        shifted: whether windows are shifted by half their side, on the axes that have more than one.
        position: how windows know of positions.
        peg: whether a PEG follows the block.
    """

    def __init__(self, block: Any, shifted: bool, position: Position, peg: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1 = block.norm1
        self.attn = WindowAttention(block.attn, position)
        self.drop_path1 = block.drop_path1
        self.norm2 = block.norm2
        self.mlp = block.mlp
        self.drop_path2 = block.drop_path2
        self.peg = PositionalEncoding(block.dim) if peg else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape, any H and W from 1."""
        tokens = tokens + self.drop_path1(self._attend(self.norm1(tokens)))
        return self.peg(tokens + self.drop_path2(self.mlp(self.norm2(tokens))))

    def _attend(self, tokens: Tensor) -> Tensor:
        batch, height, width, _ = tokens.shape
        size = self.attn.window_size
        if not self.shifted:
            return from_windows(self.attn(to_windows(tokens, size), None), batch, height, width, size)
        rows, columns = ceil_divide(height, size), ceil_divide(width, size)
        # 0 where there is but one window, without a branch that would tie an exported network to large images.
        down, right = (size // 2 * torch.sym_min(count - 1, 1) for count in (rows, columns))
        allowed = _same_side(rows * size, columns * size, size, down, right, tokens)
        windows = to_windows(_roll(pad_map(tokens, size), -down, -right), size)
        maps = from_windows(self.attn(windows, allowed), batch, rows * size, columns * size, size)
        return crop_map(_roll(maps, down, right), height, width)


def _roll(maps: Tensor, down: Length, right: Length) -> Tensor:
    """Move a map (B, H, W, C); what leaves it at one edge comes in at the other."""
    if not torch.compiler.is_exporting():
        return torch.roll(maps, (down, right), (1, 2))
    # An exported roll by a symbolic number of positions is fixed to being zero or not, as the example's is.
    for axis, shift in ((1, down), (2, right)):
        length = maps.shape[axis]
        maps = maps.index_select(axis, (torch.arange(length, device=maps.device) - shift) % length)
    return maps


def _same_side(height: int, width: int, size: int, down: Length, right: Length, like: Tensor) -> Tensor:
    """Which positions of a window are neighbours in the map, not only in the shifted one: (windows, N, N) bool."""
    row, column = (torch.arange(side, device=like.device) for side in (height, width))
    wrapped = (row >= height - down)[:, None] * 2 + (column >= width - right) * 1
    windows = to_windows(wrapped[None, :, :, None], size)
    return windows == windows.transpose(1, 2)


def take_any_size(layers: nn.Sequential, position: Position) -> None:
    """Replace the blocks of timm's Swin stages, which keep their parameters and the names of these.

    Args:
        layers: timm's stages.
        position: "peg" drops the relative biases and lets a new PEG follow the first block of each stage.

    Raises:
        ModelError: when `position` is unknown.
    """
    if position not in get_args(Position):
        raise ModelError(f"position is '{position}'; use one of: {', '.join(get_args(Position))}")
    for stage in layers:
        stage.blocks = nn.Sequential(
            *(
                SwinBlock(block, index % 2 == 1, position, position == "peg" and index == 0)
                for index, block in enumerate(stage.blocks)  # type: ignore[arg-type]  # a Sequential
            )
        )
