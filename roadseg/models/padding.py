"""Rounding the sides of images and maps up and cutting them back, in a form that can be exported.

What is exported runs at sizes that are not known yet. A padding by what is lacking is none at all for some sizes, and
a cut may be none: an exporter takes note of which it saw, and what it writes fails for the others. Picking rows and
columns by their numbers is the same for every size.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

SIZE_MULTIPLE = 32
"""Backbones halve an image five times."""


def ceil_divide(length: int, divisor: int) -> int:
    """Division that rounds up; also of symbolic lengths."""
    return (length + divisor - 1) // divisor


def lacks(height: int, width: int, multiple: int) -> bool:
    """Whether a side is no multiple; of a network that is being exported, whether it may be none."""
    if multiple == 1:
        return False
    return torch.compiler.is_exporting() or height % multiple != 0 or width % multiple != 0


def pad_map(tokens: Tensor, multiple: int) -> Tensor:
    """A map (B, H, W, C) with zeros at the right and bottom, so that both sides are multiples."""
    height, width = tokens.shape[1:3]
    if not lacks(height, width, multiple):
        return tokens
    if torch.compiler.is_exporting():
        rows, columns = (_rounded_up(side, multiple, tokens) for side in (height, width))
        inside = (rows < height)[:, None, None] & (columns < width)[:, None]
        return _pick(tokens, 1, rows.clamp(max=height - 1), columns.clamp(max=width - 1)) * inside
    return F.pad(tokens, (0, 0, 0, -width % multiple, 0, -height % multiple))


def pad_image(image: Tensor, multiple: int, mode: Literal["replicate", "constant"] = "replicate") -> Tensor:
    """Images (B, C, H, W) with the last row and column again, or with zeros, until both sides are multiples."""
    height, width = image.shape[2:]
    if not lacks(height, width, multiple):
        return image
    if torch.compiler.is_exporting():
        rows, columns = (_rounded_up(side, multiple, image) for side in (height, width))
        picked = _pick(image, 2, rows.clamp(max=height - 1), columns.clamp(max=width - 1))
        return picked if mode == "replicate" else picked * ((rows < height)[:, None] & (columns < width))
    return F.pad(image, (0, -width % multiple, 0, -height % multiple), mode=mode)


def crop_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns of a map (B, H, W, C)."""
    if torch.compiler.is_exporting():
        return _pick(tokens, 1, *(torch.arange(side, device=tokens.device) for side in (height, width)))
    return tokens[:, :height, :width]


def crop_image(image: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns of images or logits (B, C, H, W)."""
    if torch.compiler.is_exporting():
        return _pick(image, 2, *(torch.arange(side, device=image.device) for side in (height, width)))
    return image[:, :, :height, :width]


def every_second(tokens: Tensor) -> Tensor:
    """Every second row and column of a map (B, H, W, C), the first ones included."""
    if torch.compiler.is_exporting():
        sides = (ceil_divide(side, 2) for side in tokens.shape[1:3])
        return _pick(tokens, 1, *(2 * torch.arange(side, device=tokens.device) for side in sides))
    return tokens[:, ::2, ::2]


def _rounded_up(side: int, multiple: int, like: Tensor) -> Tensor:
    return torch.arange(multiple * ceil_divide(side, multiple), device=like.device)


def _pick(image: Tensor, row_dimension: int, rows: Tensor, columns: Tensor) -> Tensor:
    return image.index_select(row_dimension, rows).index_select(row_dimension + 1, columns)
