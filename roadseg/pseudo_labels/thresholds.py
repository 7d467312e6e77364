"""How sure a model must be of each class: thresholds by class, as in CBST (arXiv 1810.07911).

One threshold for all classes keeps nearly all of the road and hardly a pole: the next model sees fewer poles, and is
less sure of them. CBST keeps of each class the same share of the pixels that the model takes for it, the most confident
ones. Of a class that the model is nearly always sure of that is too few, so that its successors, BDL (arXiv 1904.10620)
and FDA (arXiv 2004.05498), cap the threshold at 0.9: what is surer is kept, however much it is. So does this module. A
least confidence can be set besides, for classes that the model should not teach from its guesses:

    threshold of a class = max(least confidence, min(cap, confidence that the share of its pixels reaches))
"""

import math

import numpy as np
import numpy.typing as npt

from roadseg.taxonomy import IGNORE_INDEX


def _edges() -> npt.NDArray[np.float32]:
    """Confidences from 0 to 1 that lie the closer, the nearer they are to 1, where those of common classes crowd."""
    low = np.linspace(0, 0.5, 512, endpoint=False)
    high = 1 - 0.5 ** np.arange(1, 24, 1 / 256)  # 1 - p falls by 0.3 % a step; float32 ends at 2^-24
    return np.unique(np.concatenate([low, high, [1.0]]).astype(np.float32))


EDGES = _edges()
"""Ascending float32: where the bins of a histogram of confidences begin, and the values that a threshold may have."""


class ConfidenceHistogram:
    """How many pixels of each class a model predicts with which confidence.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, len(EDGES)), np.int64)
        """(C, bins)."""

    def add(self, mask: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32]) -> None:
        """Count an image.

        Args:
            mask: (H, W) class ids; 255 is not counted.
            confidence: (H, W) in 0..1.
        """
        judged = mask != IGNORE_INDEX
        bins = np.searchsorted(EDGES, confidence[judged], side="right") - 1
        flat = mask[judged].astype(np.int64) * len(EDGES) + bins
        self.counts += np.bincount(flat, minlength=self.counts.size).reshape(self.counts.shape)

    def thresholds(
        self, keep_share: float, max_threshold: float = 1.0, min_confidence: float = 0.0
    ) -> npt.NDArray[np.float32]:
        """The least confidence with which a pixel of each class is kept.

        Args:
            keep_share: of each class's pixels, above 0, at most 1: at least this share of those counted would be kept,
                were it not for `min_confidence`, and no more than the width of a bin makes it, were it not for
                `max_threshold`.
            max_threshold: in 0..1; no threshold is higher.
            min_confidence: in 0..`max_threshold`; no threshold is lower.

        Returns:
            (C,); of classes that were never predicted `max_threshold`.
        """
        quantiles = [self._quantile(row, keep_share) for row in self.counts]
        return np.array([max(min_confidence, min(max_threshold, q)) for q in quantiles], np.float32)

    def _quantile(self, counts: npt.NDArray[np.int64], keep_share: float) -> float:
        """The confidence that a share of a class's pixels reaches; 1 where there is none."""
        total = int(counts.sum())
        if not total:
            return 1.0
        wanted = max(1, math.ceil(keep_share * total * (1 - 1e-12)))  # 0.1 * 30 is a little more than 3
        at_least = counts[::-1].cumsum()[::-1]
        return float(EDGES[np.flatnonzero(at_least >= wanted)[-1]])


def keep_sure(
    mask: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32], thresholds: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """The mask with 255 where the confidence is below the threshold of the pixel's class.

    Args:
        mask: (H, W) class ids; 255 stays.
        confidence: (H, W) float32.
        thresholds: (C,) float32.

    Returns:
        (H, W) uint8.
    """
    least = np.full(IGNORE_INDEX + 1, np.inf, np.float32)
    least[: len(thresholds)] = thresholds
    return np.where(confidence >= least[mask], mask, np.uint8(IGNORE_INDEX))
