"""How sure a model must be of each class: thresholds by class, as in CBST (arXiv 1810.07911).

One threshold for all classes keeps nearly all of the road and hardly a pole: the next model sees fewer poles, and is
less sure of them. CBST keeps of each class the same share of the pixels that the model takes for it, the most confident
ones. Here a least confidence comes on top: a class of which the model is never sure is not taught from its guesses.
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

    def thresholds(self, min_confidence: float, keep_share: float) -> npt.NDArray[np.float32]:
        """The least confidence with which a pixel of each class is kept.

        Args:
            min_confidence: in 0..1; no threshold is lower.
            keep_share: of each class's pixels, above 0, at most 1: at least this share of those counted would be kept,
                were it not for `min_confidence`, and no more than the width of a bin makes it.

        Returns:
            (C,); of classes that were never predicted `min_confidence`.
        """
        return np.array([self._threshold(row, min_confidence, keep_share) for row in self.counts], np.float32)

    def _threshold(self, counts: npt.NDArray[np.int64], min_confidence: float, keep_share: float) -> float:
        total = int(counts.sum())
        if not total:
            return min_confidence
        wanted = max(1, math.ceil(keep_share * total * (1 - 1e-12)))  # 0.1 * 30 is a little more than 3
        at_least = counts[::-1].cumsum()[::-1]
        return max(min_confidence, float(EDGES[np.flatnonzero(at_least >= wanted)[-1]]))


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
