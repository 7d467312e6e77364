"""From logits at the size that the network saw to a mask and its confidence at the image's size, in bounded memory.

Logits are interpolated first and decided upon then, which gives better edges than enlarging a mask. Interpolation is
that of `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`, without torch: half-pixel centres,
edges repeated, no smoothing when it reduces.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.inference.options import ConfidenceKind

FloatArray = npt.NDArray[np.float32]

_SLAB_ROWS = 32
"""Rows of logits that are widened at once."""

_CHUNK_VALUES = 2**18
"""Interpolated values that are decided upon at once: a megabyte, so that passes over them stay in a core's cache."""


def finish(
    bands: Iterable[FloatArray],
    working: tuple[int, int],
    size: tuple[int, int],
    confidence: ConfidenceKind | None = None,
) -> tuple[npt.NDArray[np.uint8], FloatArray | None]:
    """Interpolate logits to an image's size, and decide.

    Beside the result and the band that is being read, a few megabytes are held, whatever the sizes.

    Args:
        bands: logits (C, rows, w) float32, finite, from top to bottom; `rows` may change from band to band. A band is
            done with when the next one is asked for.
        working: (h, w), the size of all bands together.
        size: (H, W) of the image.
        confidence: which one to compute, or None.

    Returns:
        mask: (H, W) uint8, the class of the highest interpolated logit, of several the first.
        confidence: (H, W) float32 in 0..1, or None.

    Raises:
        ValueError: when the bands do not add up to `working`.
    """
    mask = np.empty(size, np.uint8)
    scores = None if confidence is None else np.empty(size, np.float32)
    first, second, weights = interpolation_rows(working[0], size[0])
    done = seen = 0
    for start, rows in _slabs(bands, size[1], joined=working[0] != size[0]):
        seen = start + rows.shape[1]
        # A row of the image is ready as soon as the lower one of the rows that it lies between is there.
        ready = int(np.searchsorted(second, seen))
        step = max(1, _CHUNK_VALUES // (len(rows) * size[1]))
        for top in range(done, ready, step):
            part = slice(top, min(top + step, ready))
            logits = _interpolated(rows, first[part] - start, second[part] - start, weights[part])
            decide(logits, mask[part], None if scores is None else scores[part], confidence)
        done = ready
    if seen != working[0]:
        raise ValueError(f"the bands of logits have {seen} rows, not {working[0]}")
    return mask, scores


def interpolation_rows(length: int, wanted: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray]:
    """From which rows each wanted row is interpolated.

    Args:
        length: rows there are.
        wanted: rows that are wanted.

    Returns:
        The upper row, the lower row, and the weight of the lower one (0..1) of each wanted row. Both are the same where
        nothing is to be interpolated.
    """
    centre = np.maximum((np.arange(wanted) + 0.5) * (length / wanted) - 0.5, 0)
    first = np.minimum(centre.astype(np.intp), length - 1)
    weights = centre - first
    second = np.where(weights > 0, np.minimum(first + 1, length - 1), first)
    return first, second, weights.astype(np.float32)


def resize_logits(logits: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Logits (C, h, w) at another size (H, W), as (C, H, W); the interpolation is that of `finish`."""
    if logits.shape[1:] == size:
        return logits
    # Plane by plane, since OpenCV bounds the channels of an image. Its exact halving by areas is bilinear, too.
    return np.stack([cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in logits])


def decide(
    logits: FloatArray, mask: npt.NDArray[np.uint8], scores: FloatArray | None, confidence: ConfidenceKind | None
) -> None:
    """The best class of each pixel, and how sure it is.

    Args:
        logits: (C, rows, W), finite.
        mask: (rows, W), written.
        scores: (rows, W), written with the confidence; None leaves it out.
        confidence: which one.
    """
    # Running maxima read each plane once; np.argmax over the first axis goes through memory in strides.
    best = logits[0].copy()
    runner_up = np.full_like(best, -np.inf) if scores is not None and confidence == "margin" else None
    better, candidate = np.empty(mask.shape, np.bool_), np.empty_like(mask)
    mask[:] = 0
    for index in range(1, len(logits)):
        plane = logits[index]
        if runner_up is not None:
            np.maximum(runner_up, np.minimum(best, plane), out=runner_up)
        np.greater(plane, best, out=better)
        np.maximum(best, plane, out=best)
        # The ids grow, so the highest id that was better when it came is the best one's.
        np.multiply(better.view(np.uint8), np.uint8(index), out=candidate)
        np.maximum(mask, candidate, out=mask)
    if scores is None:
        return
    total = np.zeros_like(best)
    for plane in logits:
        total += np.exp(plane - best)
    top = 1 if runner_up is None else 1 - np.exp(runner_up - best)
    np.divide(top, total, out=scores)


def _slabs(bands: Iterable[FloatArray], width: int, *, joined: bool) -> Iterator[tuple[int, FloatArray]]:
    """A few rows at a time (C, rows, width), and where they begin.

    If `joined`, each begins with the last row of the one before, and the first with a row -1, which none asks for.
    """
    done = 0
    above: FloatArray | None = None
    for band in bands:
        for top in range(0, band.shape[1], _SLAB_ROWS):
            part = band[:, top : top + _SLAB_ROWS]
            rows = resize_logits(part, (part.shape[1], width))
            done += part.shape[1]
            if not joined:
                yield done - part.shape[1], rows
                continue
            rows = np.concatenate([rows[:, :1] if above is None else above, rows], axis=1)
            above = rows[:, -1:].copy()
            yield done - rows.shape[1], rows


def _interpolated(
    rows: FloatArray, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp], weights: FloatArray
) -> FloatArray:
    if not weights.any():
        if first[-1] - first[0] == len(first) - 1:  # as they are, where the image has the working size
            return rows[:, first[0] : first[-1] + 1]
        return rows.take(first, axis=1)
    upper = rows.take(first, axis=1)
    lower = rows.take(second, axis=1)
    lower -= upper
    lower *= weights[:, None]
    lower += upper
    return lower
