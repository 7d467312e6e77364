"""Blocked local attention with a halo (HaloNet, arXiv 2103.12731) on channels-last maps (B, H, W, C)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.models.attention import Context, Padding, split_heads
from roadseg.models.padding import ceil_divide, every_second
from roadseg.models.windows import from_windows, to_neighbourhoods, to_windows


class HaloAttention(nn.Module):
    """Attention of blocks of positions to the block and a ring of `halo_size` positions around it.

    Unlike windows, blocks overlap in what they see. Logits have a term for the relative position, the sum of one for
    rows and one for columns. With a stride of 2 every second row and column attends, which halves the map.

    Args:
        dim: channels of the map.
        num_heads: heads; they divide `out_dim`.
        block_size: side of a block; even where the stride is 2.
        halo_size: width of the ring.
        padding: of what lies outside the map. "zero": keys and values of zeros, attended like others (as in timm);
            "mask": never attended.
        out_dim: channels of the result; as many as the map's by default.
        stride: 1 or 2.
    """

    row_multiple = None
    """Blocks see their neighbours' rows, so that a map cannot be worked off in strips."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        block_size: int,
        halo_size: int,
        padding: Padding = "zero",
        *,
        out_dim: int | None = None,
        stride: int = 1,
    ) -> None:
        super().__init__()
        out_dim = out_dim or dim
        self.num_heads, self.block_size, self.halo_size = num_heads, block_size, halo_size
        self.padding, self.stride = padding, stride
        self.q = nn.Linear(dim, out_dim)
        self.kv = nn.Linear(dim, 2 * out_dim)
        self.proj = nn.Linear(out_dim, out_dim)
        # One row for each offset of a key from a query, -(block + halo - 1) to block + halo - 1.
        offsets, head_dim = 2 * (block_size + halo_size) - 1, out_dim // num_heads
        self.row_positions = nn.Parameter(torch.randn(offsets, head_dim) * head_dim**-0.5)
        self.column_positions = nn.Parameter(torch.randn(offsets, head_dim) * head_dim**-0.5)

    def context(self, tokens: Tensor) -> Context:
        """Nothing is shared by all positions."""
        return ()

    def forward(self, tokens: Tensor, context: Context = ()) -> Tensor:
        """Attend; (B, H, W, dim) to (B, ceil(H / stride), ceil(W / stride), out_dim)."""
        batch, height, width, _ = tokens.shape
        queries = to_windows(every_second(tokens) if self.stride == 2 else tokens, self.block_size // self.stride)
        (query,) = split_heads(self.q(queries), 1, self.num_heads)
        neighbours = to_neighbourhoods(self.kv(tokens), self.block_size, self.halo_size)
        key, value = split_heads(neighbours, 2, self.num_heads)
        bias = self._position_logits(query)
        if self.padding == "mask":
            inside = to_neighbourhoods(torch.ones_like(tokens[..., :1]), self.block_size, self.halo_size)
            bias = bias.masked_fill(inside.transpose(1, 2)[:, None] == 0, float("-inf"))
        attended = F.scaled_dot_product_attention(query, key, value, bias)
        # Heads are joined by a copy: with a learned bias, exporters change the memory layout that a view would rely on.
        attended = torch.cat(attended.unbind(1), 2)
        height, width = ceil_divide(height, self.stride), ceil_divide(width, self.stride)
        return self.proj(from_windows(attended, batch, height, width, self.block_size // self.stride))

    def _position_logits(self, query: Tensor) -> Tensor:
        """Logits (B * blocks, heads, queries, keys) of the relative positions, from queries (.., queries, head_dim)."""
        side, whole = self.block_size // self.stride, self.block_size + 2 * self.halo_size
        queries = torch.arange(0, self.block_size, self.stride, device=query.device)
        keys = torch.arange(whole, device=query.device) - self.halo_size
        index = keys[None, :] - queries[:, None] + self.block_size + self.halo_size - 1
        if torch.compiler.is_exporting():  # an exported einsum is tied to how its example's sizes divide each other
            return self._picked_position_logits(query, index)
        by_row, by_column = self.row_positions[index], self.column_positions[index]  # (side, whole, head_dim)
        grid = query.unflatten(2, (side, side))
        row_logits = torch.einsum("nhyxd,ykd->nhyxk", grid, by_row)
        column_logits = torch.einsum("nhyxd,xkd->nhyxk", grid, by_column)
        return (row_logits[..., :, None] + column_logits[..., None, :]).flatten(4).flatten(2, 3)

    def _picked_position_logits(self, query: Tensor, index: Tensor) -> Tensor:
        """The same from the logits of all offsets; `index` (side, whole) has the offset's row in the tables."""
        side, whole = index.shape
        rows = index.repeat_interleave(side, 0).repeat_interleave(whole, 1)  # (queries, keys)
        columns = index.repeat(side, whole)
        position = torch.arange(side * side, device=query.device)[:, None]
        by_row, by_column = F.linear(query, self.row_positions), F.linear(query, self.column_positions)
        return by_row[:, :, position, rows] + by_column[:, :, position, columns]
