"""Shares of classes against pixels counted by hand."""

from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest
import yaml

import roadseg
from roadseg.class_weights import class_weight_tensor, weights_of_training_data
from roadseg.data.class_shares import (
    LabelledParts,
    class_shares,
    class_weights_by_rule,
    read_labelled_parts,
)
from roadseg.data.datamodule import RoadDataModule
from roadseg.data.mapped import MixedFrames
from roadseg.errors import ConfigError, DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import RoadClass, Taxonomy, load_taxonomy
from tests.data.mixtures import write_coarse, write_fine

ABCD = Taxonomy("abcd", 1, tuple(RoadClass(name, (i, i, i)) for i, name in enumerate("abcd")))
SETS = LabelSets.collect(ABCD, [{0, 1}, {2, 3}])
"""Ids 0..3 are the classes, 4 is {a, b}, 5 is {c, d}."""


class _Masks:
    """Frames whose masks are given; it remembers which were read."""

    def __init__(self, masks, label_sets=SETS) -> None:
        self.masks, self.label_sets, self.read = [np.array(m, np.uint8) for m in masks], label_sets, []

    def __len__(self) -> int:
        return len(self.masks)

    def image_size(self, index):
        return self.masks[index].shape

    def read_mask(self, index, size):
        assert size == self.masks[index].shape
        self.read.append(index)
        return self.masks[index]


def labelled(*datasets, weights=None, limit=2000) -> LabelledParts:
    return read_labelled_parts(MixedFrames([_Masks(m) for m in datasets]), weights or [None] * len(datasets), limit)


def test_shares_are_parts_of_the_labelled_pixels():
    shares = class_shares(labelled([[[0, 0, 0, 1], [2, 255, 255, 255]]]), SETS)
    assert shares == pytest.approx([3 / 5, 1 / 5, 1 / 5, 0])


def test_merged_labels_go_to_their_members_in_the_proportions_of_the_single_labels():
    """3 a, 1 b, 4 {a, b}: of the four a gets 3 and b 1. c and d are unknown and share their 2 equally."""
    shares = class_shares(labelled([[[0, 0, 0, 1, 4], [4, 4, 4, 5, 5]]]), SETS)
    assert shares == pytest.approx([6 / 10, 2 / 10, 1 / 10, 1 / 10])


def test_a_frame_counts_as_one_whatever_its_size_and_a_dataset_as_its_weight():
    # a fills 3 frames of 1 px, b one frame of 8 px. With weights 1 and 2 the datasets are drawn 1 : 2.
    first, second = [[[0]], [[0]], [[0]]], [[[1, 1, 1, 1], [1, 1, 1, 1]]]
    assert class_shares(labelled(first, second), SETS) == pytest.approx([3 / 4, 1 / 4, 0, 0])
    assert class_shares(labelled(first, second, weights=[1, 2]), SETS) == pytest.approx([1 / 3, 2 / 3, 0, 0])


def test_ignored_parts_of_a_frame_do_not_count():
    shares = class_shares(labelled([[[0, 255, 255, 255]], [[1, 1, 1, 255]]]), SETS)
    assert shares == pytest.approx([1 / 4, 3 / 4, 0, 0])


def test_no_more_frames_are_read_than_the_limit_and_small_datasets_whole():
    large, small = _Masks([[[i % 2]] for i in range(100)]), _Masks([[[2]], [[3]]])
    got = read_labelled_parts(MixedFrames([large, small]), [None, None], limit=12)
    assert sorted(large.read) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90] and sorted(small.read) == [0, 1]
    assert got.weights == pytest.approx([10.0] * 10 + [1.0] * 2), "each read frame stands for ten"
    assert class_shares(got, SETS) == pytest.approx([100 / 102, 0, 1 / 102, 1 / 102])


def test_an_empty_dataset_of_a_mixture_is_nothing():
    assert class_shares(labelled([], [[[1]]]), SETS) == pytest.approx([0, 1, 0, 0])


@pytest.mark.parametrize(
    ("rule", "formula"),
    [("inverse_log", lambda share: 1 / log(1.02 + share)), ("inverse_sqrt", lambda share: 1 / sqrt(share))],
)
def test_rules_of_the_share_by_hand(rule, formula):
    weights, missing = class_weights_by_rule(rule, labelled([[[0, 0, 0, 0, 0, 0, 1, 1, 2, 255]]]), SETS)
    shares = [6 / 9, 2 / 9, 1 / 9]
    raw = [formula(s) for s in shares]
    mean = sum(s * w for s, w in zip(shares, raw, strict=True))
    assert weights == pytest.approx([*(w / mean for w in raw), 1.0]) and missing == ["d"]


def test_median_frequency_by_hand():
    # a is 6 of the 8 px of both frames, b 1 of the 4 px of the one that shows it, c likewise. The median is 1/4.
    weights, missing = class_weights_by_rule("median_frequency", labelled([[[0, 0, 0, 1]], [[0, 0, 0, 2]]]), SETS)
    raw = [0.25 / 0.75, 1.0, 1.0]
    mean = 0.75 * raw[0] + 0.25
    assert weights == pytest.approx([*(w / mean for w in raw), 1.0]) and missing == ["d"]


def test_median_frequency_counts_only_the_labelled_pixels_of_frames_that_show_the_class():
    # b is 1 of the 2 labelled px of one frame, c 1 of the 4 of the other, a 4 of the 6 of both.
    parts = LabelledParts(np.array([[1, 1, 0, 0, 0, 0], [3, 0, 1, 0, 0, 0]]) / 4, np.ones(2))
    weights, _ = class_weights_by_rule("median_frequency", parts, SETS)
    assert weights[0] / weights[1] == pytest.approx((1 / 2) / (4 / 6))
    assert weights[2] / weights[1] == pytest.approx((1 / 2) / (1 / 4))


@pytest.mark.parametrize("masks", [[[[255, 255]]], []])
def test_nothing_labelled_is_said(masks):
    with pytest.raises(DataError, match="no pixel of the training masks that were read is labelled"):
        class_weights_by_rule("inverse_log", labelled(masks), SETS)


def test_one_class_alone_has_weight_one():
    weights, missing = class_weights_by_rule("inverse_sqrt", labelled([[[1]]]), SETS)
    assert weights == pytest.approx([1, 1, 1, 1]) and missing == ["a", "c", "d"]


def test_a_mixture_of_coarse_and_fine_labels(tmp_path):
    """Coarse frames: half sky, half {road, lane_marking}. Fine ones: sky 1/2, road 3/8, marking 1/8 (see mixtures)."""
    for name in ("A_0", "A_1", "A_2"):
        write_coarse(tmp_path, "train", name)
    write_fine(tmp_path, "A_0")
    datasets = [{"dataset": "camvid", "weight": 1}, {"dataset": "camvid32", "weight": 1}]
    data = RoadDataModule(root=str(tmp_path), datasets=datasets, taxonomy="hdmap-camvid", hold_out=[])
    with pytest.warns(UserWarning, match="training masks that were read is labelled sidewalk, barrier, "):
        weights = weights_of_training_data("inverse_sqrt", data)
    # Three quarters of a road's pixels are road where it is known, so also where it is not.
    shares = {"sky": 1 / 2, "road": 3 / 8, "lane_marking": 1 / 8}
    mean = sum(sqrt(s) for s in shares.values())
    assert {k: weights[k] for k in shares} == pytest.approx({k: 1 / sqrt(s) / mean for k, s in shares.items()})
    assert all(weight == 1 for name, weight in weights.items() if name not in shares)
    assert weights == weights_of_training_data("inverse_sqrt", data), "the same each time"


def test_a_rule_needs_our_data_module():
    with pytest.raises(ConfigError, match="model.class_weights is 'inverse_log', which needs the training data"):
        weights_of_training_data("inverse_log", None)


def test_an_unknown_rule_is_named():
    known = "inverse_log, inverse_sqrt, median_frequency, or class names with weights"
    with pytest.raises(ConfigError, match=f"model.class_weights is 'inverse'; use {known}"):
        class_weight_tensor("inverse", load_taxonomy("camvid11"))


@pytest.mark.slow
def test_the_weights_of_the_nano_recipe_follow_from_the_rule(real_data):
    """configs/nano.yaml says how its weights were made; they were computed apart from this code."""
    recipe = yaml.safe_load((Path(roadseg.__file__).parents[1] / "configs" / "nano.yaml").read_text())
    weights = weights_of_training_data("inverse_log", RoadDataModule("camvid", root=str(real_data)))
    assert weights == pytest.approx(recipe["model"]["class_weights"], abs=0.006)
