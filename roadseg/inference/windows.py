"""Segmenting in overlapping windows: where they lie, and how their logits are blended, band by band.

Every pixel gets the weighted mean of the logits of the windows that show it. Weights fall as a raised cosine from a
window's middle, where the network sees context on all sides, to its edges, unless those are the image's. Attention is
global within a window, so this is another function than that of the whole image.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roadseg.inference.options import PATCH_MULTIPLE

FloatArray = npt.NDArray[np.float32]

EDGE_WEIGHT = 0.01
"""Of a window's outermost pixels, before weights are made to add up to one: never 0."""


class Region(NamedTuple):
    """A part of an image, in px of the size at which the network sees it."""

    top: int
    left: int
    height: int
    width: int


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along one axis.

    They are as few as give the overlap, spread evenly, and none reaches beyond the image: the last one ends with it.
    All others begin at a whole patch, so that they cut the image into the patches that the whole image is cut into.

    Args:
        length: of the image, px.
        window: length of a window, px, a multiple of 32, or at least `length`.
        overlap: least share of a window that the next one shows too; steps are a patch at least.

    Returns:
        First pixels in ascending order; [0] when one window covers the image.
    """
    if window >= length:
        return [0]
    longest_step = max(PATCH_MULTIPLE, int(window * (1 - overlap)) // PATCH_MULTIPLE * PATCH_MULTIPLE)
    span = length - window
    steps = -(-span // longest_step)
    # Rounded up: what is left for the last step is then no longer than the others.
    return [-(-i * span // (steps * PATCH_MULTIPLE)) * PATCH_MULTIPLE for i in range(steps)] + [span]


def blending_weights(starts: Sequence[int], window: int) -> list[FloatArray]:
    """Weight of each pixel of each window along one axis; at every pixel those of all windows add up to 1.

    Args:
        starts: see `window_starts`.
        window: their length, px.

    Returns:
        One (window,) float32 array a window, all values above 0.
    """
    phase = (np.arange(window) + 0.5) / window
    bumps = np.tile(EDGE_WEIGHT + (1 - EDGE_WEIGHT) * np.sin(np.pi * phase) ** 2, (len(starts), 1))
    # At the image's edges nothing is to be blended; were weights low there, a window beginning nearby would cut in.
    bumps[0, : window // 2] = 1
    bumps[-1, window // 2 :] = 1
    total = np.zeros(starts[-1] + window)
    for start, bump in zip(starts, bumps, strict=True):
        total[start : start + window] += bump
    return [(b / total[s : s + window]).astype(np.float32) for s, b in zip(starts, bumps, strict=True)]


def blend_windows(
    size: tuple[int, int], window: tuple[int, int], overlap: float, run: Callable[[Region], FloatArray]
) -> Iterator[FloatArray]:
    """Logits of an image from those of its windows, from top to bottom.

    In memory is one band of windows: C x window height x W float32 values, however high the image is. One window that
    covers the image gives its logits as they are.

    Args:
        size: (H, W) of the image.
        window: (H, W) of windows; see `window_starts`. A side longer than the image's is cut to it.
        overlap: see `window_starts`.
        run: gives the logits (C, height, width) float32 of a region.

    Yields:
        The next rows, (C, rows, W) float32; they are overwritten when the next are asked for.
    """
    height, width = min(window[0], size[0]), min(window[1], size[1])
    if (height, width) == size:
        yield run(Region(0, 0, *size))
        return
    tops, lefts = window_starts(size[0], height, overlap), window_starts(size[1], width, overlap)
    across = blending_weights(lefts, width)
    band: FloatArray | None = None
    for top, following, down in zip(tops, [*tops[1:], size[0]], blending_weights(tops, height), strict=True):
        for left, weights in zip(lefts, across, strict=True):
            logits = run(Region(top, left, height, width))
            band = np.zeros((len(logits), height, size[1]), np.float32) if band is None else band
            _add_weighted(band[:, :, left : left + width], logits, np.outer(down, weights))
            del logits  # not kept while the next window runs
        assert band is not None
        done = following - top
        yield band[:, :done]
        for plane in band:  # one at a time: numpy copies what overlaps aside
            plane[: height - done] = plane[done:]
            plane[height - done :] = 0


def _add_weighted(target: FloatArray, logits: FloatArray, weights: FloatArray) -> None:
    """Add weighted logits to those of a part of the band; the engine's array is left as it is."""
    weighted = np.empty_like(weights)
    for plane, values in zip(target, logits, strict=True):
        np.multiply(values, weights, out=weighted)
        plane += weighted
