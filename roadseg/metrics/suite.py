"""Every score of a model on a split, from counts that add up image by image; docs/metrics.md has the definitions."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from roadseg.errors import ConfigError
from roadseg.label_sets import LabelSets
from roadseg.metrics.boundaries import DILATION_RATIO, band_width_px, count_boundary_f1, count_boundary_iou
from roadseg.metrics.calibration import check_confidence, count_calibration
from roadseg.metrics.partitions import RegionTable
from roadseg.metrics.rows import count_rows
from roadseg.metrics.scoring import Naming, score_counts
from roadseg.metrics.tally import Counts
from roadseg.metrics.thin import count_thin
from roadseg.taxonomy import IGNORE_INDEX, Taxonomy

THIN_CLASSES = frozenset(
    {
        *("lane_marking", "pole", "street_light", "traffic_sign"),  # hdmap
        *("sign_symbol", "Column_Pole", "LaneMkgsDriv", "LaneMkgsNonDriv", "SignSymbol"),  # camvid11 and camvid32
        *("traffic sign", "signboard", "streetlight"),  # cityscapes19 and ade150
    }
)
"""Names of classes that are lines or small plates, in the taxonomies that come with roadseg."""


class MetricSuite:
    """Counts images one by one and scores any sum of their counts.

    Nothing is kept between calls; `roadseg.metrics.tally.Tally` adds counts up, over processes too. What is predicted
    where a label does not say is never counted, and an image without labels counts for nothing.

    Args:
        label_sets: meaning of the ids in the truth.
        thin_classes: names of the classes to score as thin structures; None for those of THIN_CLASSES, and the
            classes that refine one of them, that the taxonomy has.
        tolerances_px: how far apart edges may lie in boundary F1, ascending, in px.
        dilation_ratio: width of the band in boundary IoU as a share of the image's diagonal.
        row_bands: number of bands of image rows that are scored apart.
        calibration_bins: number of bins of the expected calibration error.

    Raises:
        ConfigError: when a value cannot work.
        TaxonomyError: when a thin class is not in the taxonomy.
    """

    def __init__(
        self,
        label_sets: LabelSets,
        thin_classes: Sequence[str] | None = None,
        *,
        tolerances_px: Sequence[int] = (1, 2, 3),
        dilation_ratio: float = DILATION_RATIO,
        row_bands: int = 10,
        calibration_bins: int = 15,
    ) -> None:
        if not tolerances_px or tolerances_px[0] < 1 or any(a >= b for a, b in pairwise(tolerances_px)):
            raise ConfigError(f"tolerances_px is {list(tolerances_px)}; give ascending numbers of px, 1 or more")
        if not 0 < dilation_ratio < 1:
            raise ConfigError(f"dilation_ratio is {dilation_ratio}; give a share of the diagonal between 0 and 1")
        if row_bands < 1:
            raise ConfigError(f"row_bands is {row_bands}; give 1 or more")
        if not 1 <= calibration_bins <= 127:
            raise ConfigError(f"calibration_bins is {calibration_bins}; give 1 to 127")
        taxonomy = label_sets.taxonomy
        names = _thin_names(taxonomy) if thin_classes is None else list(thin_classes)
        self.label_sets = label_sets
        self.thin = {name: taxonomy.id_of(name) for name in names}
        self.tolerances_px = tuple(tolerances_px)
        self.dilation_ratio = dilation_ratio
        self.row_bands = row_bands
        self.calibration_bins = calibration_bins
        self._table = RegionTable(label_sets)

    def zero(self) -> Counts:
        """Counts of no image."""
        labels, classes = len(self.label_sets), len(self.label_sets.taxonomy)
        shapes: dict[str, tuple[int, ...]] = {
            "confusion": (labels, classes),
            "rows": (self.row_bands, labels, classes),
            "boundary_iou": (labels, 2),
            "boundary_f1": (labels, len(self.tolerances_px), 4),
            "thin": (len(self.thin), 4),
            "calibration": (4, self.calibration_bins),
        }
        return {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}

    def count(
        self,
        predicted: npt.NDArray[np.uint8],
        truth: npt.NDArray[np.uint8],
        confidence: npt.NDArray[np.floating] | None = None,
    ) -> Counts:
        """Count one image.

        Args:
            predicted: (H, W) uint8 of class ids.
            truth: (H, W) uint8 of set ids; 255 is ignored.
            confidence: (H, W) float, the probability of the predicted class, 0..1; without it calibration is not
                counted.

        Returns:
            int64 arrays; those of several images add up. confusion (N, C) [set id, predicted class], rows (R, N, C)
            the same by band, boundary_iou (N, 2) `count_boundary_iou`, boundary_f1 (N, tolerances, 4)
            `count_boundary_f1`, thin (classes, 4) `count_thin`, calibration (4, bins) `count_calibration`.

        Raises:
            ValueError: when a shape, type or value is wrong.
        """
        self._check(predicted, truth)
        if confidence is not None:
            check_confidence(confidence, truth.shape)
        predicted, truth, counts = np.ascontiguousarray(predicted), np.ascontiguousarray(truth), self.zero()
        counts["rows"] = self._count_rows(predicted, truth)
        counts["confusion"] = counts["rows"].sum(0)
        if not counts["confusion"].any():
            return counts
        width_px = band_width_px(truth.shape[0], truth.shape[1], self.dilation_ratio)
        for part in self._table.partitions(predicted, truth, counts["confusion"]):
            counts["boundary_iou"][part.regions] = count_boundary_iou(part, width_px)
            counts["boundary_f1"][part.regions] = count_boundary_f1(part, self.tolerances_px)
        for row, class_id in zip(counts["thin"], self.thin.values(), strict=True):
            row[:] = self._count_thin(predicted, truth, class_id)
        if confidence is not None:
            labelled = truth != IGNORE_INDEX
            right = self._table.membership[truth[labelled], predicted[labelled]]
            counts["calibration"] = count_calibration(confidence[labelled], right, self.calibration_bins)
        return counts

    def scores(self, counts: Counts) -> dict[str, Any]:
        """Scores of summed counts, nested and fit for JSON; None where there is nothing to score.

        Scores by name are of every class, and of each merged set that labels hold and that is part of no other; means
        are over the classes that have a score.

        Args:
            counts: sums of what `count` gave.

        Returns:
            miou; miou_merged, over what the labels ask at least, where they hold merged sets; accuracy; iou {name};
            boundary_iou and boundary_iou_per_class {name}; boundary_f1 {"1px", ..} and boundary_f1_per_class {name:
            {"1px", ..}}; thin {class: {recall, precision, cldice}}; row_iou {rows: [top, bottom] of each band as
            shares of the height, miou: by band, iou: {name: by band}}; ece.
        """
        return score_counts(counts, Naming(self.label_sets, list(self.thin.items()), self.tolerances_px))

    def _check(self, predicted: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> None:
        for name, mask in (("predicted", predicted), ("truth", truth)):
            if mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
                raise ValueError(f"{name} is {mask.dtype} of shape {mask.shape}; give an (H, W) uint8 mask of ids")
        if predicted.shape != truth.shape:
            raise ValueError(f"predicted has shape {predicted.shape} and truth {truth.shape}; give them one size")
        greatest, taxonomy = int(predicted.max()), self.label_sets.taxonomy
        if greatest >= len(taxonomy):
            raise ValueError(f"predicted holds {greatest}; class ids of '{taxonomy.name}' are below {len(taxonomy)}")

    def _count_rows(self, predicted: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        labels = len(self.label_sets)
        counts = count_rows(predicted, truth, len(self.label_sets.taxonomy), self.row_bands)
        unknown = np.flatnonzero(counts[:, labels:IGNORE_INDEX].any((0, 2))) + labels
        if unknown.size:
            raise ValueError(
                f"truth holds {', '.join(map(str, unknown))}; set ids are below {labels}, {IGNORE_INDEX} is ignored: "
                "give the label sets that the mask was made with"
            )
        return counts[:, :labels]

    def _count_thin(
        self, predicted: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], class_id: int
    ) -> npt.NDArray[np.int64]:
        said = np.zeros(256, np.bool_)
        said[: len(self.label_sets)] = ~self._table.unsaid[:, class_id]
        where = predicted == class_id
        where[where] = said[truth[where]]
        return count_thin(where, truth == class_id)


def _thin_names(taxonomy: Taxonomy) -> list[str]:
    return [c.name for c in taxonomy.classes if c.name in THIN_CLASSES or c.refines in THIN_CLASSES]
