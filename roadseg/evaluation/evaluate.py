"""One model file over the frames of a split, exactly as its user runs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from roadseg.evaluation.frames import ScoredFrames
from roadseg.evaluation.ranking import Highest
from roadseg.evaluation.read_ahead import read_ahead
from roadseg.inference.predictor import Predictor
from roadseg.label_sets import LabelSets
from roadseg.metrics.regions import labelled_miou
from roadseg.metrics.suite import MetricSuite
from roadseg.metrics.tally import Tally


@dataclass(frozen=True)
class Evaluation:
    """What a model scores.

    Attributes:
        label_sets: meaning of the rows of `confusion`.
        scores: as `roadseg.metrics.suite.MetricSuite.scores` gives them.
        confusion: (N, C) int64 labelled pixels [set id of the truth, predicted class].
        worst: (frame, mIoU of this frame alone), from the lowest up.
    """

    label_sets: LabelSets
    scores: Mapping[str, Any]
    confusion: npt.NDArray[np.int64]
    worst: list[tuple[int, float]]


def evaluate(
    predictor: Predictor, frames: ScoredFrames, worst: int = 20, thin_classes: Sequence[str] | None = None
) -> Evaluation:
    """Score a model; in memory are sums of counts and the places of the worst frames, however many frames there are.

    Args:
        predictor: the model; images go in at their own size, and masks are scored at it.
        frames: in the model's classes.
        worst: how many of the worst frames are named.
        thin_classes: classes that are scored as thin structures; see `MetricSuite`.

    Raises:
        TaxonomyError: when a thin class is not in the model's taxonomy.
        DataError: when a frame cannot be read; none is ever left out.
    """
    suite = MetricSuite(frames.label_sets, thin_classes)
    tally, lowest = Tally(suite.zero()), Highest(worst)
    for index, frame in tqdm(read_ahead(frames), total=len(frames), unit="frame", desc="scoring", disable=None):
        result = predictor(frame.image, confidence=True, name=frame.name)
        counts = suite.count(result.mask, frame.truth, result.confidence)
        tally.add(counts)
        lowest.offer(-frame_miou(counts["confusion"], frames.label_sets), index)
    counts = tally.summed()
    named = [(index, -value) for index, value in lowest.ordered()]
    return Evaluation(frames.label_sets, suite.scores(counts), counts["confusion"], named)


def frame_miou(confusion: npt.NDArray[np.int64], label_sets: LabelSets) -> float:
    """Mean IoU of one frame over what its labels hold; NaN when it has none.

    Args:
        confusion: (N, C) [set id, predicted class].
        label_sets: meaning of the ids.
    """
    return labelled_miou(torch.from_numpy(confusion), label_sets)
