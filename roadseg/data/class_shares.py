"""How much of the training data each class is, and weights of classes that follow from it.

Frames count alike, however many pixels they have, because training crops have one size; a dataset with a weight counts
as much as it is drawn. With p_i(S) the part of frame i's pixels that are labelled S, and v_i its dataset's weight over
the number of its frames that were read (without weights, every dataset's weight is its number of frames),

    n(S) = sum_i v_i p_i(S)

is how much of the data is labelled S. Labels of several classes are shared out to them in the proportions that the
labels of one class have, equally where those say nothing. That is one step of expectation-maximisation from the single
labels:

    share(c) ~ n({c}) + sum over merged S that hold c of n(S) r(c | S),
    r(c | S) = n({c}) / sum over k in S of n({k}), or 1 / |S| where that sum is 0,

scaled so that the shares add up to 1.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from roadseg.data.mapped import MappedFrames, MixedFrames
from roadseg.errors import DataError
from roadseg.label_sets import LabelSets

READ_LIMIT = 2000
"""Frames that are read at most."""


@dataclass(frozen=True)
class LabelledParts:
    """What frames are labelled with.

    Attributes:
        parts: (F, N) float64, the part of each frame's pixels with each set id; the rest is ignored.
        weights: (F,) float64, how much each frame counts, v_i.
    """

    parts: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]


def read_labelled_parts(frames: MixedFrames, weights: Sequence[float | None], limit: int = READ_LIMIT) -> LabelledParts:
    """Read masks of the training frames, in parallel, spread evenly over each dataset.

    Args:
        frames: of all datasets.
        weights: of the datasets, as `DatasetConfig.weight`.
        limit: masks that are read at most, of all datasets together; small datasets are read whole.

    Raises:
        DataError: when a mask is broken.
    """
    quotas = _quotas([len(part) for part in frames.parts], limit)
    chosen = [(p, i * len(p) // q) for p, q in zip(frames.parts, quotas, strict=True) for i in range(q)]
    number = len(frames.label_sets)
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda place: _parts_of(place[0], place[1], number), chosen)
        rows = list(tqdm(read, total=len(chosen), desc="counting classes", unit="mask", leave=False, disable=None))
    v = [
        np.full(quota, (len(part) if weight is None else weight) / quota)
        for part, weight, quota in zip(frames.parts, weights, quotas, strict=True)
        if quota
    ]
    return LabelledParts(np.array(rows).reshape(-1, number), np.concatenate([np.zeros(0), *v]))


def class_shares(labelled: LabelledParts, label_sets: LabelSets) -> npt.NDArray[np.float64]:
    """(C,) shares of the classes; they add up to 1.

    Raises:
        DataError: when nothing is labelled.
    """
    amounts = labelled.weights @ labelled.parts
    if not amounts.sum() > 0:
        raise DataError("model.class_weights: no pixel of the training masks that were read is labelled; check them")
    shares = amounts @ _responsibilities(amounts, label_sets)
    return shares / shares.sum()


def class_weights_by_rule(
    rule: str, labelled: LabelledParts, label_sets: LabelSets
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Weights of the classes, whose mean over the training pixels is 1.

    Args:
        rule: one of `RULES`.
        labelled: from `read_labelled_parts`.
        label_sets: meaning of the set ids.

    Returns:
        Weights (C,) and the names of the classes without a pixel, which have 1.

    Raises:
        DataError: when nothing is labelled.
    """
    shares = class_shares(labelled, label_sets)
    there = shares > 0
    weights = np.ones(len(shares))
    weights[there] = RULES[rule](labelled, label_sets)[there]
    weights[there] /= weights[there] @ shares[there]
    return weights, [name for name, found in zip(label_sets.taxonomy.names, there, strict=True) if not found]


def _inverse_log(labelled: LabelledParts, label_sets: LabelSets) -> npt.NDArray[np.float64]:
    """1 / ln(1.02 + share) (ENet, arXiv 1606.02147)."""
    return 1 / np.log(1.02 + class_shares(labelled, label_sets))


def _inverse_sqrt(labelled: LabelledParts, label_sets: LabelSets) -> npt.NDArray[np.float64]:
    """1 / sqrt(share)."""
    with np.errstate(divide="ignore"):  # classes without a pixel are not looked at
        return 1 / np.sqrt(class_shares(labelled, label_sets))


def _median_frequency(labelled: LabelledParts, label_sets: LabelSets) -> npt.NDArray[np.float64]:
    """Median / frequency (arXiv 1411.4734), a class's frequency being its share of the frames that show it.

    A frame shows a class when something in it may be labelled so: by itself, or in a merged set whose pixels it gets a
    part of.
    """
    responsibilities = _responsibilities(labelled.weights @ labelled.parts, label_sets)
    of_class = labelled.parts @ responsibilities
    amounts = labelled.weights @ of_class
    shown = (labelled.weights * labelled.parts.sum(1)) @ (of_class > 0)
    frequencies = np.divide(amounts, shown, out=np.zeros_like(amounts), where=shown > 0)
    with np.errstate(divide="ignore"):
        return np.median(frequencies[frequencies > 0]) / frequencies


RULES: Mapping[str, Callable[[LabelledParts, LabelSets], npt.NDArray[np.float64]]] = {
    "inverse_log": _inverse_log,
    "inverse_sqrt": _inverse_sqrt,
    "median_frequency": _median_frequency,
}
"""Rules by their names in configurations: weights (C,), up to a factor."""


def _responsibilities(amounts: npt.NDArray[np.float64], label_sets: LabelSets) -> npt.NDArray[np.float64]:
    """(N, C): the part of a set's pixels that each class gets, r(c | S)."""
    membership = label_sets.membership.astype(np.float64)
    known = membership * amounts[: membership.shape[1]]
    sums = known.sum(1, keepdims=True)
    return np.where(sums > 0, known / np.where(sums > 0, sums, 1), membership / membership.sum(1, keepdims=True))


def _quotas(lengths: Sequence[int], limit: int) -> list[int]:
    """How many frames of each dataset are read: all of the small ones, and of the others equally many."""
    quotas, left = [0] * len(lengths), limit
    smallest_first = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for done, i in enumerate(smallest_first):
        quotas[i] = min(lengths[i], left // (len(lengths) - done))
        left -= quotas[i]
    return quotas


def _parts_of(frames: MappedFrames, index: int, number: int) -> npt.NDArray[np.float64]:
    """(N,) parts of a frame's pixels."""
    mask = frames.read_mask(index, frames.image_size(index))
    return np.bincount(mask.ravel(), minlength=256)[:number] / mask.size
