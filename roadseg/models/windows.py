"""Cutting maps (B, H, W, C) into windows (B * windows, size * size, C), and putting them together again.

Windows at the right and bottom edge are filled up with zeros.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from roadseg.models.padding import ceil_divide, pad_map


def to_windows(tokens: Tensor, size: int) -> Tensor:
    """Windows of a map, row by row, and their positions row by row."""
    if torch.compiler.is_exporting():
        return _gather_windows(tokens, size)
    padded = pad_map(tokens, size)
    batch, height, width, channels = padded.shape
    split = padded.view(batch, height // size, size, width // size, size, channels).transpose(2, 3)
    return split.reshape(-1, size * size, channels)


def to_neighbourhoods(tokens: Tensor, size: int, halo: int) -> Tensor:
    """Windows with a ring of `halo` positions around them, (B * windows, (size + 2 halo)**2, C); zeros outside."""
    if torch.compiler.is_exporting():
        return _gather_windows(tokens, size, halo)
    side, (height, width) = size + 2 * halo, tokens.shape[1:3]
    after_rows, after_columns = halo + -height % size, halo + -width % size
    padded = F.pad(tokens, (0, 0, halo, after_columns, halo, after_rows))
    windows = padded.unfold(1, side, size).unfold(2, side, size)  # (B, rows, columns, C, side, side)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, side * side, tokens.shape[-1])


def from_windows(windows: Tensor, batch: int, height: int, width: int, size: int) -> Tensor:
    """The map (batch, height, width, C) that was cut into these windows."""
    if torch.compiler.is_exporting():
        return _gather_map(windows, batch, height, width, size)
    rows, columns, channels = ceil_divide(height, size), ceil_divide(width, size), windows.shape[2]
    joined = windows.view(batch, rows, columns, size, size, channels).transpose(2, 3)
    return joined.reshape(batch, rows * size, columns * size, channels)[:, :height, :width]


# The same by the numbers of windows and positions. Splitting a side into windows makes an exporter ask whether there is
# one window or more, and padding whether there is any; it would then write down the answer for its example. Picking
# positions raises neither question. (Remainders of symbolic numbers are written out: ONNX's exporter lacks them.)


def _gather_windows(tokens: Tensor, size: int, halo: int = 0) -> Tensor:
    batch, height, width, _ = tokens.shape
    rows, columns, side = ceil_divide(height, size), ceil_divide(width, size), size + 2 * halo
    window = torch.arange(batch * rows * columns, device=tokens.device)[:, None]
    position = torch.arange(side**2, device=tokens.device)[None, :]
    window_row = window // columns  # counted through all images
    image = window_row // rows
    row = (window_row - image * rows) * size - halo + position // side
    column = (window - window_row * columns) * size - halo + position % side
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return tokens[image, row.clamp(0, height - 1), column.clamp(0, width - 1)] * inside[..., None]


def _gather_map(windows: Tensor, batch: int, height: int, width: int, size: int) -> Tensor:
    rows, columns = ceil_divide(height, size), ceil_divide(width, size)
    image = torch.arange(batch, device=windows.device)[:, None, None]
    row = torch.arange(height, device=windows.device)[:, None]
    column = torch.arange(width, device=windows.device)
    window = (image * rows + row // size) * columns + column // size
    position = row % size * size + column % size
    return windows[window, position]
