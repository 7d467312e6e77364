"""Runs of equal pixels, of which all run-length encodings are made."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.taxonomy import IGNORE_INDEX


@dataclass(frozen=True)
class Region:
    """The pixels of one class in one mask.

    Attributes:
        class_id: of the class.
        starts: (n,) positions at which a run of its pixels begins, in rising order.
        ends: (n,) positions behind the runs.
        length: pixels of the mask.
    """

    class_id: int
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    length: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int((self.ends - self.starts).sum())

    def counts(self) -> npt.NDArray[np.int64]:
        """Lengths of runs without and with the class, in turn, the first without; the last one is not empty."""
        borders = np.empty(2 * len(self.starts) + 2, np.int64)
        borders[0], borders[1:-1:2], borders[2:-1:2], borders[-1] = 0, self.starts, self.ends, self.length
        lengths = np.diff(borders)
        return lengths if lengths[-1] else lengths[:-1]


def regions(pixels: npt.NDArray[np.uint8]) -> Iterator[Region]:
    """The regions of the classes that occur.

    Args:
        pixels: (n,) class ids, along rows or columns of a mask; 255 is no class.
    """
    borders = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts = np.concatenate([[0], borders])
    ends = np.concatenate([borders, [len(pixels)]])
    values = pixels[starts]
    for class_id in np.unique(values).tolist():
        if class_id != IGNORE_INDEX:
            own = values == class_id
            yield Region(class_id, starts[own], ends[own], len(pixels))


def bounding_box(mask: npt.NDArray[np.uint8], class_id: int) -> tuple[int, int, int, int]:
    """(Left, top, width, height) in px of the pixels of a class that occurs in a mask (H, W)."""
    left, top, width, height = cv2.boundingRect((mask == class_id).view(np.uint8))
    return int(left), int(top), int(width), int(height)
