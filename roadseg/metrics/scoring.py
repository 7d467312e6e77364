"""Scores from the summed counts of a split."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from roadseg.label_sets import LabelSets
from roadseg.metrics.calibration import expected_calibration_error
from roadseg.metrics.regions import accuracy, coarsest_regions, labelled_miou, region_iou
from roadseg.metrics.tally import Counts

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Naming:
    """What the rows of the counts are called.

    Attributes:
        label_sets: regions.
        thin: name and class id of each thin class.
        tolerances_px: of boundary F1.
    """

    label_sets: LabelSets
    thin: list[tuple[str, int]]
    tolerances_px: tuple[int, ...]

    def named(self, values: _Floats, shown: list[int]) -> dict[str, float | None]:
        """The scores of some regions by name."""
        return {self.label_sets.names[i]: plain(values[i]) for i in shown}

    def mean(self, values: _Floats) -> float | None:
        """Mean over the classes that have a score."""
        return _mean(values[: len(self.label_sets.taxonomy)])


def score_counts(counts: Counts, naming: Naming) -> dict[str, Any]:
    """Scores of counts; see `roadseg.metrics.suite.MetricSuite.scores`."""
    label_sets = naming.label_sets
    matrix = torch.from_numpy(counts["confusion"])
    iou = region_iou(matrix, label_sets).numpy()
    coarsest = coarsest_regions(matrix, label_sets)
    merged = [i for i in coarsest if i >= len(label_sets.taxonomy)]
    shown = [*range(len(label_sets.taxonomy)), *merged]
    # A region that the split cannot tell has no score of any kind: what was predicted of it can only be wrong.
    told = ~np.isnan(iou)
    boundary_iou = np.where(told, _ratio(counts["boundary_iou"][:, 0], counts["boundary_iou"][:, 1]), math.nan)
    return {
        "miou": naming.mean(iou),
        "miou_merged": _mean(iou[coarsest]) if merged else None,
        "accuracy": plain(accuracy(matrix, label_sets)),
        "iou": naming.named(iou, shown),
        "boundary_iou": naming.mean(boundary_iou),
        "boundary_iou_per_class": naming.named(boundary_iou, shown),
        **_boundary_f1(counts["boundary_f1"], told, naming, shown),
        "thin": _thin(counts["thin"], told, naming),
        "row_iou": _row_iou(counts["rows"], naming, shown),
        "ece": plain(expected_calibration_error(counts["calibration"])),
    }


def _boundary_f1(
    counts: npt.NDArray[np.int64], told: npt.NDArray[np.bool_], naming: Naming, shown: list[int]
) -> dict[str, Any]:
    near, predicted, found, truth = np.moveaxis(counts, 2, 0)
    f1 = np.where(told[:, None], _harmonic(_ratio(near, predicted), _ratio(found, truth)), math.nan)
    keys = [f"{t}px" for t in naming.tolerances_px]
    return {
        "boundary_f1": {key: naming.mean(f1[:, i]) for i, key in enumerate(keys)},
        "boundary_f1_per_class": {
            naming.label_sets.names[region]: {key: plain(f1[region, i]) for i, key in enumerate(keys)}
            for region in shown
        },
    }


def _thin(counts: npt.NDArray[np.int64], told: npt.NDArray[np.bool_], naming: Naming) -> dict[str, Any]:
    recall, precision = _ratio(counts[:, 0], counts[:, 1]), _ratio(counts[:, 2], counts[:, 3])
    table = np.stack([recall, precision, _harmonic(recall, precision)], axis=1)
    table[~told[[class_id for _, class_id in naming.thin]]] = math.nan
    return {
        name: dict(zip(("recall", "precision", "cldice"), map(plain, row), strict=True))
        for (name, _), row in zip(naming.thin, table, strict=True)
    }


def _row_iou(counts: npt.NDArray[np.int64], naming: Naming, shown: list[int]) -> dict[str, Any]:
    bands = len(counts)
    matrices = [torch.from_numpy(band) for band in counts]
    iou = np.stack([region_iou(matrix, naming.label_sets).numpy() for matrix in matrices])
    return {
        "rows": [[band / bands, (band + 1) / bands] for band in range(bands)],
        "miou": [plain(labelled_miou(matrix, naming.label_sets)) for matrix in matrices],
        "iou": {naming.label_sets.names[i]: [plain(value) for value in iou[:, i]] for i in shown},
    }


def _ratio(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> _Floats:
    """The quotient; NaN where there is no whole."""
    return np.divide(part, whole, out=np.full(part.shape, math.nan), where=whole > 0)


def _harmonic(first: _Floats, second: _Floats) -> _Floats:
    """Harmonic mean; 0 where only one side has anything to look at, NaN where neither has."""
    total = np.nan_to_num(first) + np.nan_to_num(second)
    mean = np.divide(2 * first * second, total, out=np.zeros(total.shape), where=total > 0)
    return np.where(np.isnan(first) & np.isnan(second), math.nan, np.nan_to_num(mean))


def _mean(values: _Floats) -> float | None:
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if scored.size else None


def plain(value: float) -> float | None:
    """A figure for JSON: NaN is None."""
    return None if math.isnan(value) else float(value)
