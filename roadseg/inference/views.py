"""Parts of an image as a network is to see them, cut and resized here instead of in the engine."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.inference.windows import Region


def cut_view(
    pixels: npt.NDArray[np.uint8], working: tuple[int, int], region: Region, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Part of an image at a size.

    It is resized straight from the image's own pixels, by a triangle filter that smooths what it reduces, as the
    engines resize whole images, but to whole grey levels. Neighbours of the part count as they do when the whole image
    is resized, so views of neighbouring regions fit together.

    Args:
        pixels: (H, W, 3) uint8, the image.
        working: (h, w), the size at which `region` is counted.
        region: the part.
        size: (height, width) of the view.

    Returns:
        (height, width, 3) uint8, an array of its own.
    """
    top, left, height, width = region
    if working == pixels.shape[:2] and size == (height, width):
        return pixels[top : top + height, left : left + width].copy()
    rows, row_box = _span(top, height, working[0], pixels.shape[0], size[0])
    columns, column_box = _span(left, width, working[1], pixels.shape[1], size[1])
    box = (column_box[0], row_box[0], column_box[1], row_box[1])
    part = Image.fromarray(np.ascontiguousarray(pixels[rows, columns]))
    return np.array(part.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))


def _span(start: int, length: int, working: int, own: int, wanted: int) -> tuple[slice, tuple[float, float]]:
    """Along one axis: the pixels of the image that a view depends on, and where among them it begins and ends."""
    factor = own / working
    first, last = start * factor, min((start + length) * factor, own)
    reach = max(1.0, (last - first) / wanted)  # half the width of the triangle
    begin, end = max(0, math.floor(first - reach)), min(own, math.ceil(last + reach))
    return slice(begin, end), (first - begin, last - begin)
