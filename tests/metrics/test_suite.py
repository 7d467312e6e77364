"""The suite as a whole: sums over a split, odd images, and what it refuses."""

import json
from datetime import timedelta

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from roadseg.errors import ConfigError
from roadseg.label_sets import LabelSets
from roadseg.metrics.regions import accuracy, coarsest_regions, region_iou
from roadseg.metrics.suite import MetricSuite
from roadseg.metrics.tally import Tally
from roadseg.taxonomy import RoadClass, Taxonomy
from tests.metrics.scenes import IGNORED, MERGED, PLAIN, POLE, ROAD, SKY, SURFACE, random_case


def images(count=5):
    for seed in range(count):
        predicted, truth = random_case(seed, shape=(20 + seed, 30 - seed))
        yield predicted, truth, np.random.default_rng(seed).random(truth.shape, np.float32)


def tallied(suite, cases):
    tally = Tally(suite.zero())
    for case in cases:
        tally.add(suite.count(*case))
    return tally.summed()


def equal(first, second):
    assert first.keys() == second.keys()
    return all(first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name]) for name in first)


def test_scores_of_the_confusion_counts_are_those_of_the_regions():
    suite = MetricSuite(MERGED)
    counts = tallied(suite, images())
    scores, matrix = suite.scores(counts), torch.from_numpy(counts["confusion"])
    iou, coarsest = region_iou(matrix, MERGED), coarsest_regions(matrix, MERGED)
    assert scores["miou"] == pytest.approx(float(iou[:4].mean()), abs=1e-12)
    assert scores["miou_merged"] == pytest.approx(float(iou[coarsest].mean()), abs=1e-12)
    assert scores["accuracy"] == accuracy(matrix, MERGED)
    assert scores["iou"] == {MERGED.names[i]: float(iou[i]) for i in range(6)}
    assert list(scores["boundary_iou_per_class"]) == list(scores["row_iou"]["iou"]) == MERGED.names


def test_any_way_to_split_the_images_gives_the_same_scores():
    suite, cases = MetricSuite(MERGED), list(images())
    whole = tallied(suite, cases)
    for shares in ([[4, 2, 0, 1, 3]], [[1, 3], [], [0, 2, 4]], [[0], [1, 2, 3, 4]], [[4], [3], [2], [1], [0]]):
        total = Tally(suite.zero())
        for share in shares:
            total.add(tallied(suite, [cases[i] for i in share]))
        assert equal(total.summed(), whole)
    assert suite.scores(whole) == suite.scores(tallied(suite, reversed(cases)))


def test_scores_can_be_written_as_json():
    suite = MetricSuite(MERGED)
    for counts in (suite.zero(), tallied(suite, images(2))):
        scores = suite.scores(counts)
        assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_an_empty_split_has_no_score_at_all():
    suite = MetricSuite(PLAIN)
    scores = suite.scores(suite.zero())

    def leaves(value):
        if isinstance(value, dict):
            return [leaf for part in value.values() for leaf in leaves(part)]
        return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]

    del scores["row_iou"]["rows"]
    assert set(leaves(scores)) == {None}


def test_an_image_that_is_all_ignored_adds_nothing():
    suite = MetricSuite(PLAIN)
    truth = np.full((6, 8), IGNORED, np.uint8)
    assert equal(suite.count(np.full_like(truth, POLE), truth, np.ones(truth.shape, np.float32)), suite.zero())


def test_one_pixel_is_an_image():
    suite = MetricSuite(PLAIN)
    right, wrong = np.array([[POLE]], np.uint8), np.array([[SKY]], np.uint8)
    scores = suite.scores(suite.count(right, right))
    assert scores["miou"] == scores["boundary_iou"] == scores["thin"]["pole"]["cldice"] == 1
    assert scores["boundary_f1"]["1px"] is None  # one class has no edge
    assert suite.scores(suite.count(wrong, right))["iou"] == {"road": None, "lane_marking": None, "sky": 0, "pole": 0}


def test_a_class_that_occurs_only_merged_has_no_score_of_any_kind():
    truth = np.full((12, 12), SURFACE, np.uint8)
    truth[:4] = SKY
    predicted = np.where(truth == SURFACE, ROAD, truth).astype(np.uint8)
    predicted[2, 3:6] = ROAD  # a false road in the sky: with no road to be found, a score could be but 0
    suite = MetricSuite(MERGED)
    scores = suite.scores(suite.count(predicted, truth))
    for name in ("iou", "boundary_iou_per_class"):
        assert scores[name]["road"] is None and 0 < scores[name]["road+lane_marking"] < 1
    assert set(scores["boundary_f1_per_class"]["road"].values()) == {None}
    assert 0 < scores["boundary_f1_per_class"]["road+lane_marking"]["1px"] < 1
    assert scores["miou"] == scores["iou"]["sky"]  # a merged set is part of no mean over classes


def test_many_classes_fit_a_map():
    """255 classes, the most there can be, in one image."""
    taxonomy = Taxonomy("most", 1, tuple(RoadClass(f"c{i}", (i, 0, 0)) for i in range(255)))
    suite = MetricSuite(LabelSets(taxonomy))
    mask = np.arange(255, dtype=np.uint8).repeat(4).reshape(-1, 60)
    scores = suite.scores(suite.count(mask, mask))
    assert scores["miou"] == scores["boundary_iou"] == scores["boundary_f1"]["3px"] == 1
    assert None not in scores["boundary_iou_per_class"].values()


def test_views_of_arrays_count_as_copies_do():
    suite = MetricSuite(MERGED)
    predicted, truth, confidence = next(images(1))
    views = [np.asfortranarray(a)[::-1, ::2] for a in (predicted, truth, confidence)]
    assert equal(suite.count(*views), suite.count(*(a.copy() for a in views)))


def test_what_comes_in_is_left_as_it_is():
    suite, (predicted, truth, confidence) = MetricSuite(MERGED), next(images(1))
    before = [a.copy() for a in (predicted, truth, confidence)]
    suite.count(predicted, truth, confidence)
    assert all(map(np.array_equal, (predicted, truth, confidence), before))


GOOD = np.zeros((3, 4), np.uint8)


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        (GOOD.astype(np.int64), GOOD, r"predicted is int64 of shape \(3, 4\); give an \(H, W\) uint8"),
        (GOOD, GOOD[None], r"truth is uint8 of shape \(1, 3, 4\)"),
        (GOOD, GOOD[:0], r"truth is uint8 of shape \(0, 4\)"),
        (GOOD, GOOD.T, r"predicted has shape \(3, 4\) and truth \(4, 3\)"),
        (GOOD + 4, GOOD, "predicted holds 4; class ids of 'four' are below 4"),
        (GOOD + 255, GOOD + 255, "predicted holds 255"),
        (GOOD, GOOD + 4, "truth holds 4; set ids are below 4, 255 is ignored"),
        (GOOD, GOOD + 254, "truth holds 254"),
    ],
)
def test_what_is_no_mask_is_refused(predicted, truth, message):
    with pytest.raises(ValueError, match=message):
        MetricSuite(PLAIN).count(predicted, truth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerances_px": ()}, r"tolerances_px is \[\]"),
        ({"tolerances_px": (2, 1)}, r"tolerances_px is \[2, 1\]; give ascending"),
        ({"tolerances_px": (0, 1)}, "tolerances_px"),
        ({"dilation_ratio": 0}, "dilation_ratio is 0"),
        ({"row_bands": 0}, "row_bands is 0"),
        ({"calibration_bins": 200}, "calibration_bins is 200"),
    ],
)
def test_values_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        MetricSuite(PLAIN, **options)


def test_counts_of_another_suite_are_refused():
    tally = Tally(MetricSuite(PLAIN).zero())
    with pytest.raises(ValueError, match=r"differ from the tally's in boundary_f1, boundary_iou, confusion, rows"):
        tally.add(MetricSuite(MERGED).zero())
    with pytest.raises(ValueError, match="calibration"):
        tally.add(
            {name: a.astype(float) if name == "calibration" else a for name, a in MetricSuite(PLAIN).zero().items()}
        )


def test_a_sum_does_not_change_when_more_is_added():
    suite = MetricSuite(PLAIN)
    tally = Tally(suite.zero())
    before = tally.summed()
    tally.add(suite.count(GOOD, GOOD))
    assert equal(before, suite.zero()) and tally.summed()["confusion"].sum() == 12


SHARES = [([], [0, 1, 2, 3, 4]), ([3, 0, 4], [1, 2])]


def sum_in_process(rank, folder, zero, counts):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    for i, shares in enumerate(SHARES):
        tally = Tally(zero)
        for image in shares[rank]:
            tally.add(counts[image])
        np.savez(folder / f"{i}_{rank}.npz", **tally.summed())
    distributed.destroy_process_group()


def test_two_processes_with_unequal_shares_get_the_sum_of_all_images(tmp_path):
    suite = MetricSuite(MERGED)
    counts = [suite.count(*case) for case in images()]
    # A fork starts at once; it may not use the threads of OpenCV or of torch's operators, and sums need none.
    arguments = (tmp_path, suite.zero(), counts)
    multiprocessing.start_processes(sum_in_process, arguments, nprocs=2, start_method="fork")
    results = [dict(np.load(path)) for path in sorted(tmp_path.glob("*.npz"))]
    assert len(results) == 4 and all(equal(summed, tallied(suite, images())) for summed in results)
