"""Frames with masks of set ids: a dataset seen through a taxonomy, and several of them as one."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt

from roadseg.data.labelled import FrameSource
from roadseg.data.masks import LabelTable
from roadseg.data.verification import refuse_broken
from roadseg.ignore_regions import IgnoreRegions
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import IGNORE_INDEX


class MaskedFrames(Protocol):
    """What the views of the data module read.

    Attributes:
        label_sets: the meaning of the ids in masks.
    """

    label_sets: LabelSets

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def name(self, index: int) -> str:
        """Name of a frame."""
        ...

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of a frame's image, from the file's header."""
        ...

    def scale(self, index: int, size: tuple[int, int]) -> float:
        """Factor by which a frame of this (H, W) is resized before anything else, for training and for scoring."""
        ...

    def read_image(self, index: int, reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Image (H, W, 3) uint8 RGB at the file's size; with a reduction of 2, 4 or 8 of about that part, if a JPEG."""
        ...

    def read_mask(self, index: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Mask (H, W) uint8 of set ids at the image's size, which is `size`."""
        ...


class MappedFrames:
    """The frames of a dataset with masks of set ids.

    Args:
        source: the dataset.
        label_sets: of all datasets that are used together.
        short_side_px: frames are resized to this short side; None leaves them at their size.
        ignore: image regions that are neither trained on nor scored.

    Raises:
        DataError: when the dataset's labels are not mapped to the taxonomy.
    """

    def __init__(
        self,
        source: FrameSource,
        label_sets: LabelSets,
        short_side_px: int | None = None,
        ignore: IgnoreRegions | None = None,
    ) -> None:
        self.source = source
        self.label_sets = label_sets
        self.short_side_px = short_side_px
        self.ignore = ignore
        self.table = _table(source.classes.sets_in(label_sets.taxonomy), label_sets)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.source.frames)

    def name(self, index: int) -> str:
        """Name of a frame."""
        return self.source.frames.name(index)

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of a frame's image, from the file's header."""
        return self.source.image_size(index)

    def scale(self, index: int, size: tuple[int, int]) -> float:
        """Factor that brings a frame of this (H, W) to the short side that was asked for."""
        return 1.0 if self.short_side_px is None else self.short_side_px / min(size)

    def read_image(self, index: int, reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Image (H, W, 3) uint8 RGB; see `FrameSource.read_image`."""
        return self.source.read_image(index, reduction)

    def read_image_part(self, index: int, box: tuple[int, int, int, int], reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Part (top, left, bottom, right) of an image, (h, w, 3) uint8; see `roadseg.jpeg_parts.read_image_part`."""
        return self.source.read_image_part(index, box, reduction)

    def read_mask(self, index: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Mask (H, W) uint8 of set ids, 255 ignored.

        Raises:
            DataError: when the label file is broken, has another size, or holds unknown labels.
        """
        mask = self.table.apply(self.source.read_labels(index, size), self.source.frames.label_path(index))
        return mask if self.ignore is None else self.ignore.apply(mask, self.name(index))

    def read_mask_part(
        self, index: int, size: tuple[int, int], box: tuple[int, int, int, int]
    ) -> npt.NDArray[np.uint8]:
        """Part (top, left, bottom, right) of `read_mask`, (h, w) uint8; labels outside it are not checked.

        Raises:
            DataError: when the label file is broken, has another size, or holds unknown labels in the part.
        """
        labels = self.source.read_labels_part(index, size, box)
        mask = self.table.apply(labels, self.source.frames.label_path(index))
        covered = None if self.ignore is None else self.ignore.covered(size, self.name(index))
        if covered is None:
            return mask
        top, left, bottom, right = box
        return np.where(covered[top:bottom, left:right], np.uint8(IGNORE_INDEX), mask)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], str]:
        """Image (H, W, 3) uint8 RGB, mask (H, W) uint8 of set ids with 255 ignored, and name.

        Raises:
            DataError: when the frame is broken.
            ImageError: when its image is.
        """
        image = self.read_image(index)
        return image, self.read_mask(index, image.shape[:2]), self.name(index)

    def verify(self, limit: int | None = None) -> None:
        """Read frames, in parallel, and name those that are broken.

        Args:
            limit: frames that are read, spread evenly over the dataset; None reads all.

        Raises:
            DataError: with the first few findings and their number.
        """
        if limit is None or not hasattr(self.source, "blocks"):  # frames spread over shards would fetch them all
            refuse_broken(self, "frame", limit)


class MixedFrames:
    """The frames of several datasets, one behind the other.

    Args:
        parts: with equal label sets.
    """

    def __init__(self, parts: Sequence[MappedFrames]) -> None:
        self.parts = list(parts)
        self.label_sets = parts[0].label_sets
        self._starts = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        """Number of frames."""
        return self._starts[-1]

    def name(self, index: int) -> str:
        """Name of a frame."""
        part, inside = self._place(index)
        return part.name(inside)

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of a frame's image."""
        part, inside = self._place(index)
        return part.image_size(inside)

    def scale(self, index: int, size: tuple[int, int]) -> float:
        """Factor by which a frame is resized before anything else."""
        part, inside = self._place(index)
        return part.scale(inside, size)

    def read_image(self, index: int, reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Image (H, W, 3) uint8 RGB."""
        part, inside = self._place(index)
        return part.read_image(inside, reduction)

    def read_image_part(self, index: int, box: tuple[int, int, int, int], reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Part (top, left, bottom, right) of an image, (h, w, 3) uint8; see `roadseg.jpeg_parts.read_image_part`."""
        part, inside = self._place(index)
        return part.read_image_part(inside, box, reduction)

    def read_mask(self, index: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Mask (H, W) uint8 of set ids."""
        part, inside = self._place(index)
        return part.read_mask(inside, size)

    def read_mask_part(
        self, index: int, size: tuple[int, int], box: tuple[int, int, int, int]
    ) -> npt.NDArray[np.uint8]:
        """Part (top, left, bottom, right) of a mask; see `MappedFrames.read_mask_part`."""
        part, inside = self._place(index)
        return part.read_mask_part(inside, size, box)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], str]:
        """Image, mask and name of a frame; see `MappedFrames`."""
        part, inside = self._place(index)
        return part[inside]

    def verify(self, limit: int | None = None) -> None:
        """Read frames of every part and name those that are broken; see `MappedFrames`."""
        for part in self.parts:
            part.verify(limit)

    def _place(self, index: int) -> tuple[MappedFrames, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        part = bisect_right(self._starts, index) - 1
        return self.parts[part], index - self._starts[part]


def _table(sets: Mapping[int, frozenset[int]], label_sets: LabelSets) -> LabelTable:
    return LabelTable({label: label_sets.id_of(members) for label, members in sets.items()})
