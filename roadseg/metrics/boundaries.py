"""How well a mask's edges lie: boundary IoU and boundary F1.

Both are counted region by region, on the maps of `roadseg.metrics.partitions`, and add up over a split.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.metrics.partitions import REST, UNSAID, Partition

DILATION_RATIO = 0.02
"""Width of the band of boundary IoU as a share of the image's diagonal: the paper's."""


def band_width_px(height: int, width: int, dilation_ratio: float = DILATION_RATIO) -> int:
    """Width of an image's band, in px: a share of its diagonal, at least 1."""
    return max(1, round(dilation_ratio * math.hypot(height, width)))


def boundary_band(regions: npt.NDArray[np.uint8], width_px: int) -> npt.NDArray[np.bool_]:
    """Pixels near the edge of their own region.

    A pixel is in the band if, `width_px` steps or fewer away (diagonal ones too), there is a pixel of another region
    or the outside of the image, as in the published code. Pixels that are not said are looked across, and are no edge:
    whether the region ends there is just what is not known.

    Args:
        regions: (H, W) uint8 of map values; UNSAID (255) where none is said.
        width_px: d.

    Returns:
        (H, W) bool; without meaning where nothing is said.
    """
    kernel = np.ones((2 * width_px + 1, 2 * width_px + 1), np.uint8)
    # UNSAID is the greatest value, which no minimum takes; for the maximum it must be the least.
    highest = cv2.dilate(np.where(regions == UNSAID, np.uint8(0), regions), kernel)
    band = (highest != regions) | (cv2.erode(regions, kernel) != regions)
    band[:width_px], band[-width_px:], band[:, :width_px], band[:, -width_px:] = True, True, True, True
    return np.asarray(band, np.bool_)


def count_boundary_iou(partition: Partition, width_px: int) -> npt.NDArray[np.int64]:
    """Sizes of intersection and union of the bands of truth and prediction.

    Boundary IoU, arXiv 2103.16562: (G_d & G) & (P_d & P) over (G_d & G) | (P_d & P), where X_d are the pixels within d
    of the contour of X.

    Returns:
        (len(partition.regions), 2) int64 [intersection, union].
    """
    truth = np.where(boundary_band(partition.truth, width_px), partition.truth, np.uint8(UNSAID))
    predicted = np.where(boundary_band(partition.predicted, width_px), partition.predicted, np.uint8(UNSAID))
    shared = partition.per_region(truth[truth == predicted])
    return np.stack([shared, partition.per_region(truth) + partition.per_region(predicted) - shared], axis=1)


def contour(regions: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The regions' inner contours.

    A pixel is on the contour of its region if one of its four neighbours is said to be of another region. The image's
    frame and pixels that are not said make no contour: there is no edge to be found.

    Args:
        regions: (H, W) uint8 of map values.

    Returns:
        (H, W) uint8: the map value on contours of regions, UNSAID (255) elsewhere.
    """
    edge = np.zeros(regions.shape, np.bool_)
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differs = (regions[first] != regions[second]) & (np.maximum(regions[first], regions[second]) != UNSAID)
        edge[first] |= differs
        edge[second] |= differs
    return np.where(edge & (regions < REST), regions, np.uint8(UNSAID))


def count_boundary_f1(partition: Partition, tolerances_px: Sequence[int]) -> npt.NDArray[np.int64]:
    """Contour pixels of each side that have one of the same region within reach on the other side.

    Precision is the share of the prediction's contour within t px (Euclidean) of the truth's, recall the share of the
    truth's within t px of the prediction's. A contour pixel is judged at t only where every pixel within t of it is
    said: elsewhere the edge that it matches may lie where the labels are silent.

    Args:
        partition: the maps.
        tolerances_px: each t, ascending.

    Returns:
        (len(partition.regions), len(tolerances_px), 4) int64 [predicted within reach, predicted, truth within reach,
        truth].
    """
    reach = tolerances_px[-1]
    rings = _rings(tolerances_px, partition.truth.shape[1] + 2 * reach)
    said = _padded(np.where(partition.truth == UNSAID, np.uint8(UNSAID), np.uint8(0)), reach, 0)
    predicted, truth = (_padded(contour(side), reach, UNSAID) for side in (partition.predicted, partition.truth))
    counts = np.zeros((len(partition.regions), len(tolerances_px), 4), np.int64)
    for column, own, other in ((0, predicted, truth), (2, truth, predicted)):
        places = np.flatnonzero(own != UNSAID)
        values = own[places]
        matched = _reached(places, values, other, rings)
        judged = ~_reached(places, np.full_like(values, UNSAID), said, rings)
        for i in range(len(tolerances_px)):
            counts[:, i, column] = partition.per_region(values[judged[i] & matched[i]])
            counts[:, i, column + 1] = partition.per_region(values[judged[i]])
    return counts


def _padded(values: npt.NDArray[np.uint8], border: int, fill: int) -> npt.NDArray[np.uint8]:
    return np.pad(values, border, constant_values=fill).ravel()


def _rings(tolerances_px: Sequence[int], row_length: int) -> list[list[int]]:
    """Steps in a flattened image to the pixels that each tolerance reaches and the one before it does not."""
    rings: list[list[int]] = [[] for _ in tolerances_px]
    reach = tolerances_px[-1]
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            ring = next((i for i, t in enumerate(tolerances_px) if row * row + column * column <= t * t), None)
            if ring is not None:
                rings[ring].append(row * row_length + column)
    return rings


def _reached(
    places: npt.NDArray[np.intp],
    wanted: npt.NDArray[np.uint8],
    field: npt.NDArray[np.uint8],
    rings: list[list[int]],
) -> npt.NDArray[np.bool_]:
    """(len(rings), len(places)): whether the wanted value lies in that ring, or one before, around each place."""
    reached = np.zeros((len(rings), len(places)), np.bool_)
    open_ = np.arange(len(places))
    for i, ring in enumerate(rings):
        for step in ring:
            hit = field[places[open_] + step] == wanted[open_]
            reached[i:, open_[hit]] = True
            open_ = open_[~hit]
    return reached
