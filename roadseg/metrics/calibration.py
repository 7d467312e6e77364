"""Whether a model is right as often as it says: the expected calibration error."""

import math

import numpy as np
import numpy.typing as npt

FRACTION_BITS = 24
"""Confidences are counted in steps of 2^-24, a float32's near 1: sums of integers do not depend on their order."""
_ONE = 1 << FRACTION_BITS
_SLACK = 1e-6
_CHUNK = 1 << 18
"""Pixels at once: few enough to stay in a processor's cache, and for float64 to hold their sums exactly."""


def count_calibration(
    confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], bins: int
) -> npt.NDArray[np.int64]:
    """Count predictions by confidence.

    Bin b of `bins` holds confidences in (b / bins, (b + 1) / bins]; the first one also 0.

    Args:
        confidence: (n,) in 0..1; rounding may have taken it past an end by a millionth.
        right: (n,) bool.
        bins: number of bins, at most 127.

    Returns:
        (4, bins) int64 [predictions, right ones, sum of confidences, rest of that sum in steps of 2^-24]. The sum is
        split in two so that no number of images overflows it.
    """
    counts = np.zeros((3, bins), np.int64)
    for start in range(0, len(confidence), _CHUNK):
        part = slice(start, start + _CHUNK)
        steps = np.clip(confidence[part].astype(np.float32) * np.float32(_ONE) + np.float32(0.5), 0, _ONE)
        steps = steps.astype(np.int32)
        bin_of = np.maximum((steps * np.int32(bins) - 1) >> FRACTION_BITS, 0)
        counts[0] += np.bincount(bin_of, minlength=bins)
        counts[1] += np.bincount(bin_of[right[part]], minlength=bins)
        counts[2] += np.bincount(bin_of, steps, minlength=bins).astype(np.int64)
    return np.vstack([counts[:2], counts[2] >> FRACTION_BITS, counts[2] & (_ONE - 1)])


def expected_calibration_error(counts: npt.NDArray[np.int64]) -> float:
    """Mean over predictions of the distance between their bin's accuracy and its mean confidence.

    ECE = sum over bins b of n_b / n * |acc_b - conf_b|, arXiv 1706.04599.

    Args:
        counts: (4, bins) from `count_calibration`, summed over any images.

    Returns:
        0..1, or NaN when nothing was counted.
    """
    total = int(counts[0].sum())
    if not total:
        return math.nan
    gaps = [abs((right - whole) * _ONE - rest) for _, right, whole, rest in counts.T.tolist()]
    return sum(gaps) / (total * _ONE)


def check_confidence(confidence: npt.NDArray[np.generic], shape: tuple[int, ...]) -> None:
    """Refuse confidences that are none.

    Raises:
        ValueError: naming the wrong shape, type or value.
    """
    if confidence.shape != shape or confidence.dtype.kind != "f":
        raise ValueError(
            f"confidence is {confidence.dtype} of shape {confidence.shape}; give a float array of the masks' {shape}"
        )
    lowest, highest = float(confidence.min()), float(confidence.max())  # NaN if one is
    if not (-_SLACK <= lowest and highest <= 1 + _SLACK):
        wrong = highest if lowest >= -_SLACK or math.isnan(lowest) else lowest
        raise ValueError(f"confidence has {wrong}; it is the greatest probability of a pixel, from 0 to 1")
