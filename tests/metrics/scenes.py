"""Taxonomies and small random masks that the tests of metrics share."""

import numpy as np

from roadseg.label_sets import LabelSets
from roadseg.taxonomy import RoadClass, Taxonomy

NAMES = ["road", "lane_marking", "sky", "pole"]
TAXONOMY = Taxonomy("four", 1, tuple(RoadClass(name, (i, 0, 0)) for i, name in enumerate(NAMES)))
PLAIN = LabelSets(TAXONOMY)
# {road, lane_marking} is set 4, {lane_marking, sky} 5: they overlap.
MERGED = LabelSets.collect(TAXONOMY, [(0, 1), (1, 2)])
ROAD, LANE, SKY, POLE, SURFACE, LANE_OR_SKY = range(6)
IGNORED = 255


def blobs(rng: np.random.Generator, shape: tuple[int, int], ids: list[int]) -> np.ndarray:
    """A mask of connected pieces: each pixel has the id of the nearest of some random points."""
    rows, columns = np.indices(shape)
    points = rng.integers(0, shape, (10, 2))
    nearest = np.argmin([(rows - y) ** 2 + (columns - x) ** 2 for y, x in points], axis=0)
    return rng.choice(ids, len(points))[nearest].astype(np.uint8)


def random_case(
    seed: int, label_sets: LabelSets = MERGED, shape: tuple[int, int] = (23, 31)
) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, truth) that agree in part; the truth holds every kind of label and ignored pixels."""
    rng = np.random.default_rng(seed)
    truth = blobs(rng, shape, list(range(len(label_sets))))
    predicted = truth % len(TAXONOMY)
    predicted = np.where(rng.random(shape) < 0.7, np.roll(predicted, rng.integers(-2, 3, 2), (0, 1)), predicted)
    noisy = rng.random(shape) < 0.05
    predicted[noisy] = rng.integers(0, len(TAXONOMY), noisy.sum())
    truth[rng.random(shape) < 0.03] = IGNORED
    truth[blobs(rng, shape, [0, 0, 0, 1]) == 1] = IGNORED
    return predicted.astype(np.uint8), truth


def region_of(label_sets: LabelSets, region: int, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(inside, said) of a region, pixel by pixel, from the definition on Python sets."""
    asked = set(label_sets.members[region])
    inside, said = np.zeros(truth.shape, bool), np.zeros(truth.shape, bool)
    for place, label in np.ndenumerate(truth):
        if label == IGNORED:
            continue
        held = set(label_sets.members[label])
        inside[place] = held <= asked
        said[place] = held <= asked or not held & asked
    return inside, said


def predicted_region(label_sets: LabelSets, region: int, predicted: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Where the prediction is inside a region, read only where the labels say."""
    return np.isin(predicted, label_sets.members[region]) & said
