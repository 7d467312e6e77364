"""Two models over the same frames, in one pass."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from roadseg.errors import TaxonomyError
from roadseg.evaluation.bootstrap import PoissonBootstrap, interval
from roadseg.evaluation.cost import SizeSeen
from roadseg.evaluation.drawing import right_pixels
from roadseg.evaluation.figures import flatten
from roadseg.evaluation.frames import ScoredFrames
from roadseg.evaluation.ranking import Highest
from roadseg.evaluation.read_ahead import read_ahead
from roadseg.inference.predictor import Predictor
from roadseg.label_sets import LabelSets
from roadseg.metrics.suite import MetricSuite
from roadseg.metrics.tally import Tally
from roadseg.taxonomy import IGNORE_INDEX, Taxonomy

LEAST_DRIVES = 10
"""With fewer drives than this, frames are drawn: intervals from a handful of groups mean little."""

Pair = tuple[Predictor, Predictor]


@dataclass(frozen=True)
class Score:
    """One score of both models, with 95 % intervals; NaN where it cannot be computed.

    Attributes:
        a: of the first model.
        b: of the second.
        a_interval: of the first model's.
        b_interval: of the second model's.
        difference_interval: of b - a, with the same frames drawn for both.
    """

    a: float
    b: float
    a_interval: tuple[float, float]
    b_interval: tuple[float, float]
    difference_interval: tuple[float, float]

    @property
    def difference(self) -> float:
        """The second model's minus the first one's."""
        return self.b - self.a


@dataclass(frozen=True)
class Comparison:
    """What two models score on the same frames.

    Attributes:
        scores: by name, for example "iou/road".
        nested: of each model, as `MetricSuite.scores` gives them.
        drawn: what the bootstrap drew, "drives" or "frames".
        groups: how many of them there are.
        replicates: of the bootstrap.
        differing: (frame, share of the labelled pixels in which the masks differ), from the highest down.
        sizes: (H, W) of the images -> which have it.
        drives: recordings that the frames are of, as collection/drive -> how many are.
    """

    scores: Mapping[str, Score]
    nested: tuple[Mapping[str, Any], Mapping[str, Any]]
    drawn: str
    groups: int
    replicates: int
    differing: list[tuple[int, float]]
    sizes: Mapping[tuple[int, int], SizeSeen]
    drives: Mapping[str, int]


def matching_ids(first: Taxonomy, second: Taxonomy) -> npt.NDArray[np.uint8]:
    """(256,) uint8: the first taxonomy's id of each class id of the second, by name; 255 stays.

    Raises:
        TaxonomyError: when they do not have the same classes.
    """
    own, other = set(first.names), set(second.names)
    if own != other:
        lacking = [
            f"only {which} has {', '.join(sorted(names))}"
            for which, names in (("A", own - other), ("B", other - own))
            if names
        ]
        raise TaxonomyError(
            f"the models have different classes ('{first.name}' and '{second.name}'): {'; '.join(lacking)}. Compare "
            "models of the same classes, or score each by itself with `roadseg eval`"
        )
    table = np.full(256, IGNORE_INDEX, np.uint8)
    table[: len(second)] = [first.id_of(name) for name in second.names]
    return table


def masks_of(pair: Pair, image: npt.NDArray[np.uint8], name: str) -> list[npt.NDArray[np.uint8]]:
    """Both masks (H, W) uint8 of an image, in class ids of the first model."""
    table = matching_ids(pair[0].taxonomy, pair[1].taxonomy)
    return [pair[0](image, name=name).mask, table[pair[1](image, name=name).mask]]


def compare(
    pair: Pair,
    frames: ScoredFrames,
    replicates: int = 1000,
    seed: int = 0,
    pictures: int = 8,
    thin_classes: Sequence[str] | None = None,
) -> Comparison:
    """Score two models; memory does not grow with the frames.

    Args:
        pair: the models, of the same classes.
        frames: in the first model's classes.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        pictures: how many of the frames in which the masks differ most are named.
        thin_classes: classes that are scored as thin structures; see `MetricSuite`.

    Raises:
        TaxonomyError: when the models have different classes, or not one of the thin classes.
        DataError: when a frame cannot be read; none is ever left out.
    """
    suite, table = MetricSuite(frames.label_sets, thin_classes), matching_ids(pair[0].taxonomy, pair[1].taxonomy)
    tallies = Tally(suite.zero()), Tally(suite.zero())
    groups, drawn = _groups(frames)
    bootstrap = PoissonBootstrap(suite.zero(), 2, replicates, seed)
    differing, sizes = Highest(pictures), dict[tuple[int, int], SizeSeen]()
    for index, frame in tqdm(read_ahead(frames), total=len(frames), unit="frame", desc="scoring", disable=None):
        first, second = (predictor(frame.image, confidence=True, name=frame.name) for predictor in pair)
        masks = (first.mask, table[second.mask])
        counts = [
            suite.count(mask, frame.truth, result.confidence)
            for mask, result in zip(masks, (first, second), strict=True)
        ]
        for tally, own in zip(tallies, counts, strict=True):
            tally.add(own)
        bootstrap.add(groups[index], counts)
        differing.offer(differing_share(frame.truth, masks, frames.label_sets), index)
        size = (frame.truth.shape[0], frame.truth.shape[1])
        same = sizes.get(size, SizeSeen(0, index))
        sizes[size] = SizeSeen(same.frames + 1, same.first)
    nested = suite.scores(tallies[0].summed()), suite.scores(tallies[1].summed())
    scores = _with_intervals(nested, suite, bootstrap)
    count, drives = int(groups.max()) + 1, Counter(map(frames.drive, range(len(frames))))
    return Comparison(scores, nested, drawn, count, bootstrap.replicates, differing.ordered(), sizes, drives)


def differing_share(truth: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.uint8]], sets: LabelSets) -> float:
    """Share of the labelled pixels in which two masks differ, but for those where the label allows both classes.

    Args:
        truth: (H, W) uint8 set ids, 255 ignored.
        masks: two of (H, W) uint8 class ids.
        sets: meaning of the set ids.
    """
    labelled = truth != IGNORE_INDEX
    return float(told_differences(truth, masks, sets).sum() / max(1, labelled.sum()))


def told_differences(
    truth: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.uint8]], sets: LabelSets
) -> npt.NDArray[np.bool_]:
    """(H, W): labelled pixels in which two masks differ and not both are right; see `differing_share`."""
    both_right = right_pixels(masks[0], truth, sets) & right_pixels(masks[1], truth, sets)
    return (masks[0] != masks[1]) & (truth != IGNORE_INDEX) & ~both_right


def _groups(frames: ScoredFrames) -> tuple[npt.NDArray[np.int64], str]:
    """Number of the group that each frame is drawn with, and what the groups are.

    Frames of one drive look alike, so that drawing them one by one makes intervals too narrow.
    """
    codes: dict[str, int] = {}
    drives = np.array([codes.setdefault(frames.drive(i), len(codes)) for i in range(len(frames))], np.int64)
    return (drives, "drives") if len(codes) >= LEAST_DRIVES else (np.arange(len(frames)), "frames")


def _with_intervals(
    nested: Sequence[Mapping[str, Any]], suite: MetricSuite, bootstrap: PoissonBootstrap
) -> dict[str, Score]:
    figures = [flatten(scores) for scores in nested]
    names = list(figures[0])
    replicated = np.full((2, bootstrap.replicates, len(names)), np.nan)
    for index in tqdm(range(bootstrap.replicates), unit="replicate", desc="resampling", leave=False, disable=None):
        for model in range(2):
            found = flatten(suite.scores(bootstrap.replicate(index, model)))
            replicated[model, index] = [found.get(name, np.nan) for name in names]  # a merged label may be drawn never
    first, second = replicated
    return {
        name: Score(
            figures[0][name],
            figures[1][name],
            interval(first[:, i]),
            interval(second[:, i]),
            interval(second[:, i] - first[:, i]),
        )
        for i, name in enumerate(names)
    }
