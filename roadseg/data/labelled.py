"""Labelled frames of one dataset: what every dataset file of `roadseg.data.datasets` builds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from roadseg.data.class_table import ClassTable
from roadseg.data.frames import FrameTable
from roadseg.data.label_files import IndexLabels, LabelReader, PartialLabelReader
from roadseg.errors import DataError
from roadseg.images import DecodedImage, read_image, read_image_size
from roadseg.jpeg_parts import read_image_part, read_reduced_image


class FrameSource(Protocol):
    """Frames with labels in a dataset's own ids, read on demand, by any number of threads.

    Attributes:
        name: of the dataset.
        collection: datasets of one collection label the same pictures under the same names.
        classes: the official labels.
        frames: the frames of all splits.
    """

    name: str
    collection: str
    classes: ClassTable
    frames: FrameTable

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of a frame's image, without reading its pixels."""
        ...

    def read_image(self, index: int, reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Image (H, W, 3) uint8 RGB; with a reduction of 2, 4 or 8 of about that part of its sides, where it can."""
        ...

    def read_image_part(self, index: int, box: tuple[int, int, int, int], reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Part (top, left, bottom, right) of an image; see `roadseg.jpeg_parts.read_image_part`."""
        ...

    def read_labels(self, index: int, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W) uint8 or uint16; `size` is the image's (H, W)."""
        ...

    def read_labels_part(
        self, index: int, size: tuple[int, int], box: tuple[int, int, int, int]
    ) -> npt.NDArray[np.integer]:
        """Part (top, left, bottom, right) of the label ids (H, W), where that is less work than the whole."""
        ...

    def take(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> "FrameSource":
        """The same with some of the frames, in the order given."""
        ...


class LabelledFrames:
    """Frames that are image files with one label file each.

    Args:
        name: of the dataset.
        frames: the frames of all splits that are there.
        classes: the official labels.
        read: reads a label file; index PNGs if not given.
        collection: datasets of one collection label the same pictures under the same names; the dataset's own name if
            not given.
    """

    def __init__(
        self,
        name: str,
        frames: FrameTable,
        classes: ClassTable,
        read: LabelReader | None = None,
        collection: str | None = None,
    ) -> None:
        self.name = name
        self.collection = collection or name
        self.classes = classes
        self.frames = frames
        self._read = read or IndexLabels()

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of a frame's image, from the file's header.

        Raises:
            DataError: when the file cannot be read.
            ImageError: when it is no image.
        """
        return read_image_size(self.frames.image_path(index))

    def read_image(self, index: int, reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Image (H, W, 3) uint8 RGB; with a reduction of 2, 4 or 8 of that part of its sides, rounded up, if a JPEG.

        Raises:
            DataError: when the file carries an EXIF orientation other than 1.
            ImageError: when it is broken.
        """
        path = self.frames.image_path(index)
        if reduction == 1:
            return _unturned(read_image(path, orientation="stored"), path)
        return _unturned(read_reduced_image(path, reduction, orientation="stored"), path)

    def read_image_part(self, index: int, box: tuple[int, int, int, int], reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Part (top, left, bottom, right) of an image, (h, w, 3) uint8; see `roadseg.jpeg_parts.read_image_part`.

        Raises:
            DataError: when the file carries an EXIF orientation other than 1.
            ImageError: when the part is broken.
        """
        path = self.frames.image_path(index)
        return _unturned(read_image_part(path, box, reduction), path)

    def read_labels(self, index: int, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W) uint8 or uint16.

        Args:
            index: position of the frame.
            size: (H, W) of its image.

        Raises:
            DataError: when the label file is broken or has another size.
        """
        path = self.frames.label_path(index)
        labels = self._read(path, size)
        if labels.shape != size:
            raise DataError(_sizes_differ(self.frames.image_path(index), size, path, labels.shape))
        return labels

    def read_labels_part(
        self, index: int, size: tuple[int, int], box: tuple[int, int, int, int]
    ) -> npt.NDArray[np.integer]:
        """Part of the label ids, (h, w) uint8 or uint16; of index PNGs nothing below it is decoded.

        Args:
            index: position of the frame.
            size: (H, W) of its image.
            box: top, left, bottom and right in px, inside the image.

        Raises:
            DataError: when the label file is broken there, or has another size.
        """
        top, left, bottom, right = box
        labels = None
        if isinstance(self._read, PartialLabelReader):
            labels = self._read.read_top(self.frames.label_path(index), size, bottom)
        if labels is None:
            labels = self.read_labels(index, size)
        return labels[top:bottom, left:right]

    def take(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> "LabelledFrames":
        """The same dataset with some of its frames, in the order given."""
        return LabelledFrames(self.name, self.frames.take(indices), self.classes, self._read, self.collection)


def _unturned(decoded: DecodedImage, path: Path) -> npt.NDArray[np.uint8]:
    if decoded.exif_orientation != 1:
        raise DataError(
            f"{path} carries the EXIF orientation {decoded.exif_orientation}, and nothing tells whether its mask was "
            "drawn on the turned image or on the stored one; turn its pixels, or remove the tag"
        )
    return decoded.pixels


def _sizes_differ(image: Path, size: tuple[int, int], mask: Path, shape: tuple[int, ...]) -> str:
    hint = "; they fit when one is turned by 90 degrees" if size == shape[::-1] else ""
    return (
        f"{image} is {size[1]}x{size[0]} but its mask {mask} is {shape[1]}x{shape[0]} (width x height){hint}; export "
        "the mask at the image's size"
    )
