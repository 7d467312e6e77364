"""Working off a map in strips that stay in the processor's cache.

The widest intermediate of a transformer block has four to eight times the channels of the map: at full size it goes
through the main memory several times, and is mapped and unmapped each time. In strips it never leaves the cache, which
halves the time of the first stages on a CPU. A GPU and a compiler have better ways of their own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

BYTES_PER_THREAD = 2**22
"""Of the widest intermediate in a strip. From 1 to 4 MiB inference takes the same time, measured on cores with 1 MiB of
second-level cache each; training, with more to do for each strip, likes the largest of them."""


def in_strips(
    function: Callable[..., Tensor],
    maps: Sequence[Tensor],
    shared: Sequence[Tensor | None],
    *,
    row_multiple: int,
    widest_channels: int,
) -> Tensor:
    """Apply a function whose result for some rows of some images depends on these rows and on what is shared alone.

    Args:
        function: takes a strip of each map, and for the strip's images each of `shared`; returns a strip of the result.
        maps: (B, H, W, C) each.
        shared: (B, ...) each, or None; what all rows of an image need.
        row_multiple: rows of a strip are a multiple of this, except in the last.
        widest_channels: channels of the widest intermediate.

    Returns:
        What the function returns for the whole maps.
    """
    batch, height, width, _ = maps[0].shape
    if maps[0].device.type != "cpu" or torch.compiler.is_compiling():
        return function(*maps, *shared)
    budget = BYTES_PER_THREAD * torch.get_num_threads()
    bytes_per_row = width * widest_channels * maps[0].element_size()
    if batch * height * bytes_per_row <= budget:
        return function(*maps, *shared)
    if batch > 1:  # strips are of one image or of whole images, so that each is one piece of memory
        count = max(1, budget // (height * bytes_per_row))
        parts = zip(*(_split(tensor, count, batch) for tensor in (*maps, *shared)), strict=True)
        return torch.cat(
            [
                in_strips(
                    function,
                    part[: len(maps)],
                    part[len(maps) :],
                    row_multiple=row_multiple,
                    widest_channels=widest_channels,
                )
                for part in parts
            ]
        )
    rows = row_multiple * max(1, budget // (row_multiple * bytes_per_row))
    strips = zip(*(a_map.split(rows, 1) for a_map in maps), strict=True)
    return torch.cat([function(*strip, *shared) for strip in strips], 1)


def _split(tensor: Tensor | None, count: int, batch: int) -> Sequence[Any]:
    return [None] * len(range(0, batch, count)) if tensor is None else tensor.split(count)
