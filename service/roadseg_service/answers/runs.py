"""The regions of a mask as run-length encodings, all classes in one pass over it."""

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.inference.segmenting.prelabels.coco import compressed_counts
from roadseg.inference.segmenting.prelabels.runs import Region, regions
from roadseg_service.schemas import Rle


def column_runs(mask: npt.NDArray[np.uint8]) -> Iterator[Region]:
    """The regions of the classes that occur in a mask (H, W), by id, as runs along the columns, which COCO wants."""
    # OpenCV transposes in blocks that fit the cache, several times as fast as ravel(order="F").
    return regions(cv2.transpose(mask).ravel())


def rle_of(region: Region, size: tuple[int, int]) -> Rle:
    """A region as compressed COCO run-length encoding.

    Args:
        region: along the columns.
        size: (H, W) of its mask.
    """
    return Rle(size=size, counts=compressed_counts(region.counts()))
