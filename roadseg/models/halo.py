"""Blocked local attention with a halo (HaloNet, arXiv 2103.12731) on channels-last maps (B, H, W, C)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.models.attention import Context, Padding, split_heads
from roadseg.models.padding import ceil_divide, crop_map, pad_map


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
        rows, columns = ceil_divide(height, self.block_size), ceil_divide(width, self.block_size)
        side = self.block_size // self.stride
        queries = self.q(pad_map(tokens, self.block_size)[:, :: self.stride, :: self.stride])
        queries = queries.reshape(batch, rows, side, columns, side, -1).transpose(2, 3)
        (query,) = split_heads(queries.reshape(-1, side * side, self.q.out_features), 1, self.num_heads)
        key, value = split_heads(self._neighbourhoods(self.kv(tokens)), 2, self.num_heads)
        bias = self._position_logits(query)
        if self.padding == "mask":
            bias = bias.masked_fill(~self._inside(tokens), float("-inf"))
        attended = F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2)
        attended = attended.reshape(batch, rows, columns, side, side, -1).transpose(2, 3)
        attended = attended.reshape(batch, rows * side, columns * side, -1)
        return self.proj(crop_map(attended, ceil_divide(height, self.stride), ceil_divide(width, self.stride)))

    def _neighbourhoods(self, tokens: Tensor) -> Tensor:
        """Blocks with their halo (B * rows * columns, (block + 2 halo)**2, C) of a map (B, H, W, C)."""
        block, halo = self.block_size, self.halo_size
        # What the last blocks lack is padded by a fixed amount: unfolding leaves out what is too much.
        after = halo + block - 1
        padded = F.pad(tokens, (0, 0, halo, after, halo, after))
        side = block + 2 * halo
        blocks = padded.unfold(1, side, block).unfold(2, side, block)
        return blocks.permute(0, 1, 2, 4, 5, 3).reshape(-1, side * side, tokens.shape[-1])

    def _inside(self, tokens: Tensor) -> Tensor:
        """Which positions of each neighbourhood are inside the map, (B * blocks, 1, 1, positions)."""
        inside = self._neighbourhoods(torch.ones_like(tokens[..., :1]))
        return inside.transpose(1, 2)[:, None] > 0

    def _position_logits(self, query: Tensor) -> Tensor:
        """Logits (B * blocks, heads, queries, keys) of the relative positions, from queries (.., queries, head_dim)."""
        side, whole = self.block_size // self.stride, self.block_size + 2 * self.halo_size
        queries = torch.arange(0, self.block_size, self.stride, device=query.device)
        keys = torch.arange(whole, device=query.device) - self.halo_size
        index = keys[None, :] - queries[:, None] + self.block_size + self.halo_size - 1
        by_row, by_column = self.row_positions[index], self.column_positions[index]  # (side, whole, head_dim)
        grid = query.unflatten(2, (side, side))
        row_logits = torch.einsum("nhyxd,ykd->nhyxk", grid, by_row)
        column_logits = torch.einsum("nhyxd,xkd->nhyxk", grid, by_column)
        return (row_logits[..., :, None] + column_logits[..., None, :]).flatten(4).flatten(2, 3)
