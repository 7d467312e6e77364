"""Regions that can be looked at in one pass over an image.

Each label set S has a region (`roadseg.metrics.regions`): a pixel labelled T is inside it, outside it, or T does not
say. Classes never overlap, so that one map of ids shows all their regions at once; only merged sets, and classes that
some label of the image is silent about, need maps of their own.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.label_sets import LabelSets
from roadseg.losses import region_targets

UNSAID = 255
"""Map value where the labels do not say to which region a pixel belongs: there neither truth nor prediction is read."""
REST = 254
"""Map value of pixels that are in none of the map's regions."""

_CHUNK = 1 << 24
"""Pixels at once: OpenCV gives histograms in float32, which is exact up to here."""


@dataclass(frozen=True)
class Partition:
    """Truth and prediction of some disjoint regions.

    Attributes:
        regions: set id of each region; map value i is regions[i].
        truth: (H, W) uint8 of map values, REST or UNSAID.
        predicted: the same; UNSAID where the truth is.
    """

    regions: list[int]
    truth: npt.NDArray[np.uint8]
    predicted: npt.NDArray[np.uint8]

    def per_region(self, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """(len(regions),) number of the given map values that are each region's."""
        flat, counts = values.reshape(1, -1), np.zeros(256, np.int64)
        for start in range(0, flat.size, _CHUNK):
            histogram = cv2.calcHist([flat[:, start : start + _CHUNK]], [0], None, [256], [0, 256])
            counts += histogram.ravel().astype(np.int64)
        return counts[: len(self.regions)]


class RegionTable:
    """What each label says of each region, and the maps that an image needs.

    Args:
        label_sets: meaning of the ids.
    """

    def __init__(self, label_sets: LabelSets) -> None:
        inside, outside = region_targets(label_sets)
        self.membership = label_sets.membership
        self.inside: npt.NDArray[np.bool_] = inside.numpy()
        self.unsaid: npt.NDArray[np.bool_] = ~(inside | outside).numpy()

    def partitions(
        self, predicted: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], counts: npt.NDArray[np.int64]
    ) -> list[Partition]:
        """Maps that between them show every region which truth or prediction has.

        Args:
            predicted: (H, W) of class ids.
            truth: (H, W) of set ids.
            counts: (N, C) of the image, [set id, predicted class].
        """
        labels, classes = np.flatnonzero(counts.any(1)), np.flatnonzero(counts.any(0))
        return [self._partition(regions, predicted, truth, labels) for regions in self._groups(labels, classes)]

    def _groups(self, labels: npt.NDArray[np.intp], classes: npt.NDArray[np.intp]) -> list[list[int]]:
        """Regions that occur, in groups whose members are disjoint and about which the same labels are silent."""
        occurring = self.inside[labels].any(0) | self.membership[:, classes].any(1)
        groups: list[tuple[bytes, list[int], npt.NDArray[np.bool_]]] = []
        for region in np.flatnonzero(occurring & ~self.unsaid[labels].all(0)):
            silent, members = self.unsaid[labels, region].tobytes(), self.membership[region]
            for pattern, regions, taken in groups:
                if pattern == silent and not (taken & members).any() and len(regions) < REST:
                    regions.append(int(region))
                    taken |= members
                    break
            else:
                groups.append((silent, [int(region)], members.copy()))
        return [regions for _, regions, _ in groups]

    def _partition(
        self,
        regions: list[int],
        predicted: npt.NDArray[np.uint8],
        truth: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.intp],
    ) -> Partition:
        truth_table, predicted_table = np.full(256, UNSAID, np.uint8), np.full(256, REST, np.uint8)
        truth_table[labels[~self.unsaid[labels, regions[0]]]] = REST
        for value, region in enumerate(regions):
            truth_table[: len(self.inside)][self.inside[:, region]] = value
            predicted_table[: self.membership.shape[1]][self.membership[region]] = value
        # What is predicted where the labels are silent must change no score, nor draw an edge towards such pixels.
        truth_map = np.asarray(cv2.LUT(truth, truth_table), np.uint8)
        predicted_map = np.asarray(cv2.LUT(predicted, predicted_table), np.uint8)
        predicted_map[truth_map == UNSAID] = UNSAID
        return Partition(regions, truth_map, predicted_map)
