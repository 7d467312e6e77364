"""Confusion counts by image row: on a road the row stands for the distance."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt


def row_bands(height: int, bands: int) -> list[slice]:
    """Rows of each band from the top: row i is in band floor(i * bands / height); some are empty if bands > height."""
    edges = [-(-band * height // bands) for band in range(bands + 1)]
    return [slice(top, bottom) for top, bottom in pairwise(edges)]


def count_rows(
    predicted: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], num_classes: int, bands: int
) -> npt.NDArray[np.int64]:
    """Count (truth, prediction) pairs in each band of rows.

    Args:
        predicted: (H, W) of class ids below `num_classes`.
        truth: (H, W) of any ids.
        num_classes: C.
        bands: R.

    Returns:
        (R, 256, C) int64 [band, truth, prediction].
    """
    counts = np.zeros((bands, 256 * num_classes), np.int64)
    for band, rows in enumerate(row_bands(len(truth), bands)):
        pairs = truth[rows].astype(np.uint16) * np.uint16(num_classes) + predicted[rows]
        counts[band] = np.bincount(pairs.ravel(), minlength=256 * num_classes)
    return counts.reshape(bands, 256, num_classes)
