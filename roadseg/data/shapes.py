"""Label masks from the shapes of annotation tools: polygons, lines, circles and bitmaps."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from roadseg.data.polygons import MIN_POINTS, Point, draw_polygons
from roadseg.errors import DataError

LINE_WIDTH_PX = 10.0
"""Width of lines, as LabelMe itself draws them."""

_NOTHING = 65535


class Bitmap(NamedTuple):
    """Pixels of a shape: `bits` (h, w) bool, the first one in column `left` and row `top` of the image."""

    left: int
    top: int
    bits: npt.NDArray[np.bool_]


Shape = list[list[Point]] | Bitmap
"""Polygons, or a bitmap."""


def paint(
    path: Path, size: tuple[int, int], shapes: Sequence[tuple[int, Shape]], background: int
) -> npt.NDArray[np.uint16]:
    """Draw shapes one over the other, later ones over earlier ones.

    Args:
        path: for messages.
        size: (H, W).
        shapes: (label id, polygons or bitmap); bitmaps lie within the image.
        background: label id of what is not covered.

    Returns:
        (H, W) label ids.

    Raises:
        DataError: when a polygon cannot be drawn.
    """
    canvas = np.full(size, background, np.uint16)
    waiting: list[tuple[int, list[Point]]] = []  # polygons are drawn together, which costs less
    for label, shape in shapes:
        if not isinstance(shape, Bitmap):
            waiting += [(label, part) for part in shape]
            continue
        _fill(path, canvas, waiting)
        waiting = []
        height, width = shape.bits.shape
        canvas[shape.top : shape.top + height, shape.left : shape.left + width][shape.bits] = label
    _fill(path, canvas, waiting)
    return canvas


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    """Polygon of a rectangle by two opposite corners."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def disc(centre: Point, radius: float) -> list[Point]:
    """Polygon that is nowhere more than a fifth of a pixel off a circle, of radii up to 10,000 pixels."""
    count = min(720, max(8, math.ceil(5 * math.sqrt(radius))))
    angles = [2 * math.pi * i / count for i in range(count)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def stroke(points: Sequence[Point], width_px: float) -> list[list[Point]]:
    """Polygons that together are a line of some width: a quadrangle for each segment, a disc for each joint."""
    radius = (width_px - 1) / 2  # drawing adds half a pixel on each side, since outlines belong to polygons
    parts = [disc(joint, radius) for joint in points[1:-1]]
    for (x0, y0), (x1, y1) in pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        if length == 0:
            parts.append(disc((x0, y0), radius))
            continue
        dx, dy = -(y1 - y0) / length * radius, (x1 - x0) / length * radius
        parts.append([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)])
    return parts


def points_from(where: str, values: Any, at_least: int = MIN_POINTS) -> list[Point]:
    """Points of a list of [x, y].

    Args:
        where: for messages.
        values: what a file holds.
        at_least: how many there must be.

    Raises:
        DataError: when they are no points, or too few.
    """
    try:
        points = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.zeros(1)
    if points.size and (points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all()):
        raise DataError(f"{where}: points must be pairs of numbers, they are {str(values)[:60]}; export it again")
    if len(points) < at_least:
        raise DataError(f"{where} has {len(points)} point(s), {at_least} are needed; complete or remove it")
    return [(x, y) for x, y in points.tolist()]


def bits_from_runs(where: str, runs: Any, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Bits of alternating runs of zeros and ones, zeros first.

    Args:
        where: for messages.
        runs: lengths of the runs.
        height: of the bitmap.
        width: of the bitmap.

    Returns:
        (height * width,) bool, in the order of the runs.

    Raises:
        DataError: when the runs are not exactly as long as the bitmap.
    """
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise DataError(f"{where}: run lengths must be whole numbers of 0 or more; export the mask again")
    if sum(runs) != height * width:
        raise DataError(
            f"{where}: the run-length encoding describes {sum(runs)} pixels, but {width}x{height} has "
            f"{height * width}; export the mask again"
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def decode_counts(where: str, text: str) -> list[int]:
    """Run lengths of COCO's compressed form: six bits a character, differences to the run before the last.

    Decoded here because pycocotools, which invented the form, trusts the text, and is no dependency of training.

    Raises:
        DataError: when the text is not of this form.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise DataError(f"{where}: counts hold {character!r}, which no run-length encoding has; export it again")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError(f"{where}: counts end in the middle of a number; export it again")
    return runs


def _fill(path: Path, canvas: npt.NDArray[np.uint16], polygons: Sequence[tuple[int, list[Point]]]) -> None:
    if not polygons:
        return
    try:
        drawn = draw_polygons((canvas.shape[0], canvas.shape[1]), polygons, _NOTHING)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    np.copyto(canvas, drawn, where=drawn != _NOTHING)
