"""Mixing a second frame's crop into a sample: ClassMix, and copy-paste of thin objects."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.taxonomy import IGNORE_INDEX

Sample = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""Image (h, w, 3) uint8 and mask (h, w) uint8 of set ids."""


def choose_half(mask: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Where a random half of a mask's set ids are, rounded up: ClassMix (Olsson et al., arXiv:2007.07936).

    Merged sets count like classes. Ignored pixels are never chosen.

    Args:
        mask: (h, w) uint8 of set ids.
        rng: what is random.

    Returns:
        (h, w) uint8: 255 where chosen, else 0.
    """
    counts = np.bincount(mask.ravel(), minlength=256)
    present = np.flatnonzero(counts[:IGNORE_INDEX])
    chosen = rng.permutation(present)[: (len(present) + 1) // 2]
    return _where(mask, chosen)


def choose_objects(
    mask: npt.NDArray[np.uint8], classes: Sequence[int], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Where a random half of the objects of some classes are: copy-paste (Ghiasi et al., arXiv:2012.07177).

    An object is a connected region (by sides or corners) of any of the classes, so that a sign keeps its pole.

    Args:
        mask: (h, w) uint8 of set ids.
        classes: ids of the classes.
        rng: what is random; each object is chosen with probability 1/2.

    Returns:
        (h, w) uint8: 255 where chosen, else 0.
    """
    count, objects = cv2.connectedComponents(_where(mask, classes), connectivity=8)
    chosen = np.where(rng.random(count) < 0.5, 255, 0).astype(np.uint8)
    chosen[0] = 0  # what is no object
    return chosen[objects]


def paste(sample: Sample, other: Sample, where: npt.NDArray[np.uint8]) -> Sample:
    """A sample with the pixels of another, of the same size, where a mask (h, w) uint8 is not 0."""
    image, mask = (
        cv2.copyTo(theirs, where, np.ascontiguousarray(ours).copy()) for ours, theirs in zip(sample, other, strict=True)
    )
    return image, mask


def _where(mask: npt.NDArray[np.uint8], ids: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    table[np.asarray(ids, np.int64)] = 255
    table[IGNORE_INDEX] = 0
    return cv2.LUT(mask, table)
