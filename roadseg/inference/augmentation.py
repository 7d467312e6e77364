"""Test-time augmentation: an image seen at several scales and mirrored, and what the network says of it averaged."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from roadseg.inference.finishing import FloatArray, resize_logits

See = Callable[[tuple[int, int], bool], FloatArray]
"""Gives the network's logits (C, height, width) of a view of that (height, width), mirrored or not."""


def average_views(
    size: tuple[int, int], scales: Sequence[float], flip: bool, partners: Sequence[int], see: See
) -> FloatArray:
    """What a network says of a part of an image on average over its views.

    Logits of each view are brought to the part's size and turned into probabilities, whose mean is taken. The views are
    run one after the other, so that their number costs no memory.

    Args:
        size: (h, w) of the part at the working size.
        scales: factors of `size` at which it is seen.
        flip: whether each scale is seen mirrored, too.
        partners: for each class the one that it becomes in a mirrored image, itself if it has none.
        see: runs the network.

    Returns:
        (C, h, w) float32, logarithms of the mean probabilities: logits of a softmax that gives these.
    """
    total: FloatArray | None = None
    for scale in scales:
        for mirrored in (False, True) if flip else (False,):
            logits = see(scaled_size(size, scale), mirrored)
            if mirrored:
                logits = logits[list(partners), :, ::-1]
            probabilities = _softmax(resize_logits(logits, size))
            total = probabilities if total is None else np.add(total, probabilities, out=total)
    assert total is not None  # there is at least one scale
    total /= len(scales) * (1 + flip)
    # Classes that all views exclude have probability 0 in float32; no logarithm is to be infinite.
    np.maximum(total, np.finfo(np.float32).tiny, out=total)
    return np.log(total, out=total)


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(H, W) of a view of a part of (h, w) at a scale; 1 px at least."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _softmax(logits: FloatArray) -> FloatArray:
    """Over the first axis; a new array."""
    probabilities: npt.NDArray[np.float32] = logits - logits.max(axis=0)
    np.exp(probabilities, out=probabilities)
    probabilities /= probabilities.sum(axis=0)
    return probabilities
