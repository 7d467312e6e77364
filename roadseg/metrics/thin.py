"""Thin structures: how much of a line's length is found, and how much of what is found is a line."""

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.metrics.skeleton import skeletonise


def count_thin(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Skeleton pixels of truth and prediction, and those of each that lie inside the other's mask.

    clDice, arXiv 2003.07311: recall is the share of the truth's skeleton inside the prediction, precision the share
    of the prediction's skeleton inside the truth, clDice their harmonic mean. A pole's length counts, not its width.

    Args:
        predicted: (H, W) bool; false where the labels do not say.
        truth: (H, W) bool; false there too.

    Returns:
        (4,) int64 [truth's skeleton inside the prediction, truth's skeleton, prediction's skeleton inside the truth,
        prediction's skeleton].
    """
    x, y, width, height = cv2.boundingRect((predicted | truth).view(np.uint8))
    box = np.s_[y : y + height, x : x + width]
    predicted, truth = predicted[box], truth[box]
    truth_skeleton, predicted_skeleton = skeletonise(truth), skeletonise(predicted)
    found, right = truth_skeleton & predicted, predicted_skeleton & truth
    return np.array([part.sum() for part in (found, truth_skeleton, right, predicted_skeleton)], np.int64)
