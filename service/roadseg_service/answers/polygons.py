"""Regions of a mask as polygons, on the edges between pixels."""

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.inference.segmenting.prelabels.runs import bounding_box
from roadseg_service.schemas import Polygon

Points = npt.NDArray[np.int32]
"""(n, 2) points (x, y)."""

MAX_EDGE_PX = 2_000_000
"""Sides of pixels between regions of a mask: each takes some 80 bytes on the way. A street at 4K has 100,000."""

_CODE_OF_STEP = np.array([[3, 2, 1], [4, -1, 0], [5, 6, 7]], np.int8)
"""Directions by y + 1 and x + 1 of the step: 0 is east, then every 45 degrees anticlockwise as one sees the image."""

_SIDE_START: Points = np.array([[1, 1], [1, 0], [0, 0], [0, 1]], np.int32)
"""Corner of a pixel at which its east, north, west and south side begins, when one goes round it anticlockwise."""


def edge_length_px(mask: npt.NDArray[np.uint8]) -> int:
    """Sides of pixels that lie between two regions of a mask (H, W)."""
    return int(np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1]))


def polygons_of(mask: npt.NDArray[np.uint8], class_id: int, tolerance_px: float) -> Iterator[Polygon]:
    """The polygons of a class that occurs in a mask.

    A polygon is a region of pixels that touch at sides or corners. Its rings run along the edges of pixels, the one in
    row y and column x covering x..x+1 and y..y+1, so that with a tolerance of 0 the area inside is the pixels' number.

    Args:
        mask: (H, W) class ids.
        class_id: of the class.
        tolerance_px: how far a ring may be from the pixels' edges (Douglas-Peucker). Rings that shrink to a line are
            left out; with a tolerance above 0 rings may cross each other within it.

    Yields:
        Polygons, with rings that do not repeat their first point.
    """
    left, top, width, height = bounding_box(mask, class_id)
    inside = (mask[top : top + height, left : left + width] == class_id).view(np.uint8)
    contours, hierarchy = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(left, top))
    rings = [_simplified(ring, tolerance_px) for ring in _crack_rings([c.reshape(-1, 2) for c in contours])]
    for index, (_, _, hole, parent) in enumerate(hierarchy[0].tolist()):
        if parent >= 0 or len(rings[index]) < 3:
            continue
        holes = []
        while hole >= 0:
            holes += [rings[hole]] if len(rings[hole]) >= 3 else []
            hole = int(hierarchy[0][hole][0])
        yield Polygon(exterior=rings[index].tolist(), holes=[ring.tolist() for ring in holes])


def _crack_rings(contours: list[Points]) -> list[Points]:
    """The edge of the pixels that OpenCV's contours go through the centres of; corners only, all contours at once.

    A contour is followed with the region to the left. Between the direction it came from and the one it leaves in, seen
    anticlockwise, a pixel's neighbours are outside, and its sides towards them are the edge.
    """
    pixels = np.concatenate(contours).astype(np.int32)
    ends = np.cumsum([len(contour) for contour in contours])
    following = _following(ends)
    step = pixels[following] - pixels
    leaving = _CODE_OF_STEP[step[:, 1] + 1, step[:, 0] + 1]
    arriving = np.empty_like(leaving)
    arriving[following] = leaving
    alone = leaving < 0  # a contour of one pixel goes nowhere, and has all its neighbours outside
    back = np.where(alone, np.int8(7), (arriving + 4) % 8)
    outside = np.where(alone, np.int8(8), (leaving - back - 1) % 8)
    direction = (back[:, None] + np.arange(1, 9, dtype=np.int8)) % 8
    sides = (np.arange(8) < outside[:, None]) & (direction % 2 == 0)
    owner, turn = np.nonzero(sides)
    points = pixels[owner] + _SIDE_START[direction[owner, turn] // 2]
    corners, ends = _corners(points, np.cumsum(sides.sum(axis=1))[ends - 1])
    return np.split(corners, ends[:-1])


def _corners(points: Points, ends: npt.NDArray[np.intp]) -> tuple[Points, npt.NDArray[np.intp]]:
    """The points at which rings of unit steps turn, and where each ring then ends."""
    following = _following(ends)
    step = points[following] - points
    before = np.empty_like(step)
    before[following] = step
    turns = (step != before).any(axis=1)
    return points[turns], np.cumsum(turns)[ends - 1]


def _following(ends: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Index of the next point of each point's ring, for rings that lie one behind the other and end there."""
    following = np.arange(1, ends[-1] + 1)
    following[ends - 1] = np.concatenate([[0], ends[:-1]])
    return following


def _simplified(ring: Points, tolerance_px: float) -> Points:
    if tolerance_px == 0 or len(ring) < 4:
        return ring
    return cv2.approxPolyDP(ring[:, None], tolerance_px, closed=True).reshape(-1, 2)
