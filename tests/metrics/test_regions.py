"""Scores on label sets against cases done by hand, and against the usual scores where every set is one class."""

import math

import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from roadseg.label_sets import LabelSets
from roadseg.metrics.confusion import ConfusionMatrix
from roadseg.metrics.regions import accuracy, coarsest_regions, region_iou
from roadseg.taxonomy import RoadClass, Taxonomy

NAMES = ["road", "lane", "sky", "car"]
TAXONOMY = Taxonomy("four", 1, tuple(RoadClass(name, (i, 0, 0)) for i, name in enumerate(NAMES)))
SETS = LabelSets.collect(TAXONOMY, [(0, 1)])
ROAD, LANE, SKY, CAR, SURFACE = range(5)


def counted(pairs, sets=SETS):
    """Counts of (truth id, predicted class) pairs."""
    matrix = ConfusionMatrix(len(sets.taxonomy), len(sets))
    truth, predicted = zip(*pairs, strict=True)
    matrix.update(torch.tensor(predicted), torch.tensor(truth))
    return matrix.summed()


def test_a_merged_label_counts_for_its_region_and_not_for_its_members():
    told = [(ROAD, ROAD), (ROAD, SKY), (LANE, LANE), (SKY, SKY), (SKY, ROAD)]
    counts = counted([*told, (SURFACE, LANE), (SURFACE, SKY)])
    iou = region_iou(counts, SETS)
    assert iou[ROAD] == 1 / 3  # hit 1; missed as sky; a sky pixel taken for road
    assert iou[LANE] == 1  # {road, lane} called lane is neither right nor wrong for lane
    assert iou[SKY] == 1 / 4  # hit 1; one taken for road; road and surface taken for sky
    assert iou[SURFACE] == 3 / 6
    assert accuracy(counts, SETS) == 4 / 7


def test_a_class_that_only_occurs_merged_has_no_score():
    counts = counted([(SURFACE, LANE), (SURFACE, ROAD), (SKY, LANE), (SKY, SKY)])
    iou = region_iou(counts, SETS)
    assert iou[ROAD].isnan() and iou[LANE].isnan()
    assert iou[SURFACE] == 2 / 3 and iou[SKY] == 1 / 2
    assert iou[CAR].isnan()  # it occurs nowhere


def test_a_class_that_is_only_predicted_counts_as_zero():
    iou = region_iou(counted([(SKY, SKY), (SKY, CAR)]), SETS)
    assert iou[CAR] == 0


def test_the_coarsest_questions_are_those_no_other_label_holds():
    assert coarsest_regions(counted([(ROAD, 0), (SURFACE, 0), (SKY, 0)]), SETS) == [SKY, SURFACE]
    assert coarsest_regions(counted([(ROAD, 0), (SKY, 0)]), SETS) == [ROAD, SKY]


def test_without_merged_sets_the_scores_are_torchmetrics():
    torch.manual_seed(0)
    sets = LabelSets(TAXONOMY)
    matrix, jaccard = ConfusionMatrix(4), MulticlassJaccardIndex(4, average=None, ignore_index=255)
    for _ in range(5):
        predicted, truth = torch.randint(0, 4, (2, 30, 40)), torch.randint(0, 5, (2, 30, 40))
        truth[truth == 4] = 255
        matrix.update(predicted, truth)
        jaccard.update(predicted, truth)
    counts = matrix.summed()
    assert region_iou(counts, sets).tolist() == pytest.approx(jaccard.compute().tolist(), abs=1e-6)
    assert accuracy(counts, sets) == pytest.approx(float(counts.diagonal().sum() / counts.sum()))


def test_the_score_is_of_the_split_not_a_mean_of_batches():
    sets = LabelSets(Taxonomy("two", 1, TAXONOMY.classes[:2]))
    first, second = counted([(0, 0), (0, 0), (0, 0), (1, 0)], sets), counted([(1, 1), (1, 0)], sets)
    assert region_iou(first + second, sets).tolist() == [3 / 5, 1 / 3]


def test_nothing_counted_has_no_score():
    counts = ConfusionMatrix(4, 5).summed()
    assert region_iou(counts, SETS).isnan().all() and math.isnan(accuracy(counts, SETS))
    assert coarsest_regions(counts, SETS) == []
