"""Training crops: which window of a frame is read, and the sample that it becomes.

The window is chosen in the frame's own pixels and cut out before anything is resized, so that only what is seen is
worked on. With a factor of at most 1/2 the image is decoded at a part of its size, and the window starts at multiples
of that part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.models.segmenter import IMAGENET_MEAN
from roadseg.taxonomy import IGNORE_INDEX

_FILL = tuple(round(value) for value in IMAGENET_MEAN)


@dataclass(frozen=True)
class Span:
    """A window along one axis.

    Attributes:
        start: first px of the frame.
        length: px of the frame.
        size: px of the sample that they become.
        offset: px of padding in front of these.
    """

    start: int
    length: int
    size: int
    offset: int


@dataclass(frozen=True)
class Window:
    """A part of a frame, and its place in the sample.

    Attributes:
        rows: along the height.
        columns: along the width.
        reduction: 1, 2, 4 or 8: the image may be decoded at 1/reduction of its sides; starts and lengths are
            multiples of it.
    """

    rows: Span
    columns: Span
    reduction: int = 1

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom and right in px of the frame."""
        rows, columns = self.rows, self.columns
        return rows.start, columns.start, rows.start + rows.length, columns.start + columns.length

    def cut(self, pixels: npt.NDArray[np.uint8], reduction: int = 1) -> npt.NDArray[np.uint8]:
        """The window of an array (h, w, ...) that shows the frame at 1/reduction of its sides; a view."""
        top, left, bottom, right = (side // reduction for side in self.box)
        return pixels[top:bottom, left:right]


def choose_window(
    size: tuple[int, int],
    scale: float,
    crop_size: tuple[int, int],
    rng: np.random.Generator,
    pixel: tuple[int, int] | None = None,
) -> Window:
    """A window at a uniformly random place; where the frame is smaller than the crop, all of it, at a random place.

    Args:
        size: (H, W) of the frame.
        scale: factor by which it is resized.
        crop_size: (height, width) of the sample in px.
        rng: what is random.
        pixel: (y, x) in the frame that the window shall contain, at a uniformly random place.
    """
    reduction = next((r for r in (8, 4, 2) if r * scale <= 1 and min(size) >= r), 1)
    rows, columns = (
        _span(size[axis], scale, crop_size[axis], reduction, rng, None if pixel is None else pixel[axis])
        for axis in (0, 1)
    )
    return Window(rows, columns, reduction)


def find_pixel(mask: npt.NDArray[np.uint8], classes: Sequence[int], rng: np.random.Generator) -> tuple[int, int] | None:
    """A random pixel (y, x) of a random one of those classes that are in a mask (H, W); None when there is none."""
    for wanted in rng.permutation(classes).tolist():
        places = np.flatnonzero(mask == wanted)
        if len(places):
            row, column = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
            return row, column
    return None


def fit_image(part: npt.NDArray[np.uint8], window: Window, crop_size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """What was read of a window, resized and padded with the mean colour.

    Args:
        part: (h, w, 3) uint8, the window whole or at 1/reduction of its sides.
        window: where it lies.
        crop_size: (height, width) of the sample in px.

    Returns:
        (height, width, 3) uint8. Shrunk by the mean over areas, enlarged linearly.
    """
    target = (window.columns.size, window.rows.size)
    if part.shape[1::-1] != target:
        shrinks = target[0] <= part.shape[1] and target[1] <= part.shape[0]
        part = cv2.resize(part, target, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return _pad(part, window, (*crop_size, 3), _FILL)


def fit_mask(part: npt.NDArray[np.uint8], window: Window, crop_size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The window of a frame's mask, resized to the nearest px and padded with 255: (height, width) uint8."""
    target = (window.columns.size, window.rows.size)
    if part.shape[::-1] != target:
        # Plain INTER_NEAREST takes the upper left neighbour, up to half a px of the frame off from the image's centres.
        part = cv2.resize(part, target, interpolation=cv2.INTER_NEAREST_EXACT)
    return _pad(part, window, crop_size, IGNORE_INDEX)


def _span(size: int, scale: float, crop: int, step: int, rng: np.random.Generator, through: int | None) -> Span:
    usable = size // step * step  # what a coarser grid leaves over at the far edge is less than a px of the sample
    length = max(1, round(crop / scale / step)) * step
    if length > usable:
        shown = min(max(1, round(size * scale)), crop)
        shown = shown if step == 1 else min(shown, usable // step)
        return Span(0, usable, shown, int(rng.integers(crop - shown + 1)))
    first, last = 0, usable - length
    if through is not None:
        pixel = min(through, usable - 1)
        first, last = max(first, pixel - length + 1), min(last, pixel)
    start = step * int(rng.integers(-(-first // step), last // step + 1))
    return Span(start, length, crop, 0)


def _pad(
    part: npt.NDArray[np.uint8], window: Window, shape: tuple[int, ...], fill: int | tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    if part.shape == shape:
        return part
    padded = np.empty(shape, np.uint8)
    padded[:] = fill
    top, left = window.rows.offset, window.columns.offset
    padded[top : top + part.shape[0], left : left + part.shape[1]] = part
    return padded
