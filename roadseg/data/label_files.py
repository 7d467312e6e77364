"""Reading label files: index masks, colour-coded masks, and what a dataset's own format is."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.data.class_table import ClassTable, colour_lookup
from roadseg.data.masks import open_mask, read_index_mask, read_index_rows
from roadseg.errors import DataError


class LabelReader(Protocol):
    """Reads the label file of one frame."""

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W), uint8 or uint16.

        Args:
            path: the label file.
            size: (H, W) of the frame's image; formats without a size of their own are drawn at it.

        Raises:
            DataError: when the file is missing, broken, or not of this format.
        """
        ...


@runtime_checkable
class PartialLabelReader(Protocol):
    """A `LabelReader` that can read the top of a file for less than the whole."""

    def read_top(self, path: Path, size: tuple[int, int], rows: int) -> npt.NDArray[np.integer] | None:
        """Label ids (rows, W) of the uppermost rows; None where only a whole read can do or tell what is wrong."""
        ...


class IndexLabels:
    """Masks whose pixel values are label ids; see `read_index_mask`."""

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W)."""
        return read_index_mask(path)

    def read_top(self, path: Path, size: tuple[int, int], rows: int) -> npt.NDArray[np.integer] | None:
        """Label ids (rows, W) of the uppermost rows; see `read_index_rows`."""
        return read_index_rows(path, size, rows)


class ColourLabels:
    """Masks whose RGB colours stand for labels.

    Args:
        table: the labels, with colours.
    """

    def __init__(self, table: ClassTable) -> None:
        self._table = table
        colours, self._ids = colour_lookup(table)
        self._colours = colours.astype(np.uint32)

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W) uint16.

        Raises:
            DataError: when a colour is none of the table's; the message names colours, counts and file.
        """
        rgb = read_colour_mask(path)
        packed = _packed(rgb)
        runs = np.flatnonzero(packed[1:] != packed[:-1]) + 1  # labels fill areas: there are few runs of one colour
        starts = np.concatenate([[0], runs])
        lengths = np.diff(starts, append=len(packed))
        colours = packed[starts]
        place = np.minimum(np.searchsorted(self._colours, colours), len(self._colours) - 1)
        strange = self._colours[place] != colours
        if strange.any():
            raise DataError(self._describe(path, np.repeat(colours[strange], lengths[strange])))
        return np.repeat(self._ids[place], lengths).reshape(rgb.shape[:2])

    def _describe(self, path: Path, packed: npt.NDArray[np.uint32]) -> str:
        values, counts = np.unique(packed, return_counts=True)
        order = np.argsort(-counts)[:5]
        listed = ", ".join(
            f"({v >> 16}, {v >> 8 & 255}, {v & 255}) in {n} pixels"
            for v, n in zip(values[order].tolist(), counts[order].tolist(), strict=True)
        )
        return (
            f"mask {path} holds {len(values)} colour(s) that are no label of '{self._table.name}': {listed}; "
            "export it without compression losses and anti-aliasing, or correct the colours"
        )


def _packed(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Colours (H, W, 3) as H * W numbers, red << 16 | green << 8 | blue."""
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA).view("<u4").ravel() & 0xFFFFFF


def read_colour_mask(path: Path) -> npt.NDArray[np.uint8]:
    """Colours (H, W, 3) uint8 RGB of a colour-coded PNG; of a palette image the palette's colours.

    Raises:
        DataError: when the file is unreadable, lossy, or holds no colours.
    """
    with open_mask(path) as image:
        if image.mode not in {"RGB", "RGBA", "P"}:
            raise DataError(
                f"mask {path} holds numbers ({image.mode}), but colours that stand for labels are expected; export as "
                "an RGB PNG, or read it as an index mask"
            )
        if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
            raise DataError(f"mask {path} is partly transparent; export it without an alpha channel")
        return np.array(image.convert("RGB"))
