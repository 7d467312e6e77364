"""Label masks from polygons."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from roadseg.data.class_table import MAX_LABEL_ID
from roadseg.errors import DataError

Point = tuple[float, float]

MIN_POINTS = 3
_FARTHEST_PX = 1e6
"""Coordinates beyond this are no drawing but a broken file, and would overflow the rasteriser's integers."""


def draw_polygons(
    size: tuple[int, int], shapes: Iterable[tuple[int, Sequence[Point]]], background: int
) -> npt.NDArray[np.uint16]:
    """Fill polygons one over the other; later shapes cover earlier ones.

    The rule is that of the tools by which Cityscapes and IDD make their masks, Pillow's `ImageDraw.polygon`: the centre
    of the pixel in column x and row y has the coordinates (x, y), and the pixels of the outline belong to the polygon,
    so the square (2, 2), (5, 2), (5, 5), (2, 5) fills 4x4 pixels. A shape that crosses itself is filled by the even-odd
    rule. What lies outside of the image is cut off.

    Args:
        size: (H, W) of the mask.
        shapes: (label id, points (x, y)) of each polygon, from back to front; the first point need not be repeated.
        background: label id where there is no polygon.

    Returns:
        (H, W) uint16 label ids.

    Raises:
        DataError: when a polygon has fewer than three points, a coordinate is no number or far away, or an id is not
            within 0..65535. The message does not name the file.
    """
    _check_id(background)
    canvas = Image.new("I;16", (size[1], size[0]), background)
    draw = ImageDraw.Draw(canvas)
    for label, points in shapes:
        _check_id(label)
        _check_points(label, points)
        draw.polygon([(x, y) for x, y in points], fill=label)
    return np.array(canvas).astype(np.uint16, copy=False)


def _check_id(label: int) -> None:
    if not 0 <= label <= MAX_LABEL_ID:
        raise DataError(f"label id {label} does not fit into a mask; use 0..{MAX_LABEL_ID}")


def _check_points(label: int, points: Sequence[Point]) -> None:
    if len(points) < MIN_POINTS:
        raise DataError(
            f"a polygon of label {label} has {len(points)} point(s), {MIN_POINTS} are needed; remove or complete it"
        )
    for x, y in points:
        if not (abs(x) <= _FARTHEST_PX and abs(y) <= _FARTHEST_PX):  # so put, this refuses NaN too
            raise DataError(f"a polygon of label {label} has the point ({x}, {y}), which is nowhere near the image")
