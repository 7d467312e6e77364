"""The parts of scoring by themselves: per-frame mIoU, ranking, tables, pictures, median sizes."""

import math
from unittest.mock import Mock

import numpy as np
import pytest

from roadseg import load_taxonomy
from roadseg.audit.pictures import set_colours
from roadseg.evaluation.compare import differing_share, told_differences
from roadseg.evaluation.cost import SizeSeen, interleaved_times, measure_costs, median_size
from roadseg.evaluation.differences import A_RIGHT, ALIKE_WRONG, B_RIGHT, BOTH_WRONG, difference_map, edges, zoom_boxes
from roadseg.evaluation.drawing import UNLABELLED, WRONG, error_map, fit, label_map, legend, text_line
from roadseg.evaluation.evaluate import frame_miou
from roadseg.evaluation.figures import csv_bytes, flatten, text_table
from roadseg.evaluation.frames import ScoredFrame
from roadseg.evaluation.ranking import Highest
from roadseg.evaluation.report import rows_text
from roadseg.label_sets import LabelSets

TAXONOMY = load_taxonomy("hdmap-camvid")
SETS = LabelSets(TAXONOMY, ((0, 1),))
MERGED = len(TAXONOMY)


def counts(*cells):
    table = np.zeros((len(SETS), len(TAXONOMY)), np.int64)
    for label, predicted, pixels in cells:
        table[label, predicted] = pixels
    return table


def test_a_frames_miou_is_over_what_its_labels_hold():
    # Class 2: 6 of 8 + 1; class 3: 1 of 2 + 1; class 5 is predicted on one pixel and is not in the labels.
    frame = counts((2, 2, 6), (2, 3, 1), (2, 5, 1), (3, 3, 1), (3, 2, 1))
    assert frame_miou(frame, SETS) == pytest.approx((6 / 9 + 1 / 3) / 2, abs=1e-12)


def test_a_frames_miou_counts_a_merged_label_as_one():
    assert frame_miou(counts((MERGED, 0, 3), (MERGED, 1, 4), (MERGED, 2, 1)), SETS) == pytest.approx(7 / 8, abs=1e-12)


def test_a_frame_without_labels_has_no_miou():
    assert math.isnan(frame_miou(counts(), SETS))


def test_the_highest_are_kept_with_the_first_of_equal_ones():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 20, 300) / 10
    highest = Highest(7)
    for frame, value in enumerate(values):
        highest.offer(math.nan, frame)
        highest.offer(value, frame)
    order = sorted(range(300), key=lambda i: (-values[i], i))[:7]
    assert highest.ordered() == [(i, values[i]) for i in order]


def test_none_are_kept_when_none_are_asked_for():
    highest = Highest(0)
    highest.offer(1.0, 0)
    assert highest.ordered() == []


def test_nested_scores_become_one_level_and_none_becomes_nan():
    bands = {"rows": [[0, 0.3], [0.3, 1 / 3]], "miou": [0.1, None], "iou": {"road": [0.2, 0.3]}}
    flat = flatten({"miou": 0.5, "iou": {"road": None}, "row_iou": bands})
    assert list(flat) == [
        "miou", "iou/road", "row_iou/miou/0-30 %", "row_iou/miou/30-33.3 %",
        "row_iou/iou/road/0-30 %", "row_iou/iou/road/30-33.3 %",
    ]  # fmt: skip
    assert flat["row_iou/miou/0-30 %"] == 0.1 and math.isnan(flat["iou/road"])
    assert flat["row_iou/iou/road/30-33.3 %"] == 0.3


def test_bands_of_rows_are_shown_for_road_and_thin_classes():
    scores = {
        "thin": {"pole": {}},
        "row_iou": {
            "rows": [[0, 0.5], [0.5, 1]],
            "miou": [0.5, None],
            "iou": {"road": [None, 0.25], "sky": [1.0, None], "pole": [0.125, 0], "road+lane_marking": [0.75, 1.0]},
        },
    }
    header, _, *lines = rows_text(scores).splitlines()
    assert header == "IoU by image rows  0-50 %  50-100 %"
    assert [line.split() for line in lines] == [
        ["mean", "0.500", "-"], ["road", "-", "0.250"],
        ["pole", "0.125", "0.000"], ["road+lane_marking", "0.750", "1.000"]
    ]  # fmt: skip


def test_tables_align_and_csv_leaves_missing_values_empty():
    assert text_table([["a", "bb"], ["ccc", "d"]]) == "a    bb\n-------\nccc   d"
    assert csv_bytes([["class", "x"], ['a,"b', None]]) == b'class,x\n"a,""b",\n'


def test_errors_are_red_where_a_label_forbids_the_class_and_only_there():
    image = np.full((1, 5, 3), 200, np.uint8)
    truth = np.array([[2, 2, MERGED, MERGED, 255]], np.uint8)
    picture, share = error_map(image, np.array([[2, 3, 1, 2, 3]], np.uint8), truth, SETS)
    assert (picture == WRONG).all(2).tolist() == [[False, True, False, True, False]] and share == 0.5
    assert (picture[0, 0] == 100).all()


def test_what_is_not_labelled_looks_like_no_class():
    picture = label_map(np.array([[0, 255, MERGED]], np.uint8), SETS)
    colours = set_colours(SETS)
    assert (picture[0, 0] == colours[0]).all() and (picture[0, 2] == colours[MERGED]).all()
    assert not (picture[0, 1] == colours[: len(SETS)]).all(1).any()


def test_differences_are_coloured_by_who_is_right():
    image = np.full((1, 9, 3), 200, np.uint8)
    truth = np.array([[2, 2, 2, 2, MERGED, 255, 255, MERGED, 2]], np.uint8)
    masks = [np.array([row], np.uint8) for row in ([2, 3, 4, 4, 5, 4, 2, 0, 2], [3, 2, 5, 4, 5, 4, 3, 1, 2])]
    picture = difference_map(image, truth, masks, SETS)[0]
    dark = (100, 100, 100)
    assert [tuple(p) for p in picture.tolist()] == [
        A_RIGHT, B_RIGHT, BOTH_WRONG, ALIKE_WRONG, ALIKE_WRONG, dark, dark, dark, dark
    ]  # fmt: skip


def test_masks_do_not_differ_where_a_label_allows_both():
    truth = np.array([[2, 2, 2, 255, MERGED, MERGED, 2, 2]], np.uint8)
    masks = [np.array([row], np.uint8) for row in ([2, 3, 4, 2, 0, 0, 2, 2], [3, 2, 5, 3, 1, 2, 2, 2])]
    assert told_differences(truth, masks, SETS)[0].tolist() == [True, True, True, False, False, True, False, False]
    assert differing_share(truth, masks, SETS) == 4 / 7
    assert differing_share(np.full_like(truth, 255), masks, SETS) == 0


def test_the_legend_shows_what_is_not_labelled_as_maps_do():
    stripes = label_map(np.full((20, 20), 255, np.uint8), SETS)
    drawn = legend([("not labelled", UNLABELLED), ("wrong", WRONG)], 400)
    assert np.array_equal(drawn[5:25, 5:25], stripes) and len(np.unique(stripes.reshape(-1, 3), axis=0)) == 2


def test_the_first_frame_of_the_median_size_is_read_and_no_other(monkeypatch):
    class Frames:
        def read(self, index):
            assert index == 6, "another frame is decoded"
            return ScoredFrame("6", np.zeros((32, 64, 3), np.uint8), np.zeros((32, 64), np.uint8))

    monkeypatch.setattr("roadseg.evaluation.cost.network_cost", lambda header, size: (1, 2))
    sizes = {(8, 8): SizeSeen(2, 0), (32, 64): SizeSeen(3, 6), (99, 99): SizeSeen(1, 5)}
    model = Mock(header=None)
    monkeypatch.setattr("roadseg.evaluation.cost.interleaved_times", lambda runs, repeats, **_: [[1.0]])
    assert measure_costs([model], Frames(), sizes)[0].size == (32, 64)


def test_edges_are_between_labels_and_not_beside_unlabelled_pixels():
    truth = np.full((9, 20), 3, np.uint8)
    truth[:, 10:] = 7
    truth[:, 18:] = 255
    assert np.array_equal(edges(truth), np.tile((np.arange(20) >= 8) & (np.arange(20) < 12), (9, 1)))


def test_zooms_are_where_the_masks_differ_along_edges_and_do_not_overlap():
    truth = np.zeros((200, 400), np.uint8)
    truth[:, 200:] = 1
    first, second = truth.copy(), truth.copy()
    first[150:160, 198:202] = 5
    first[20:24, 198:202] = 5
    second[60:120, 300:390] = 5  # large, but along no edge
    boxes = zoom_boxes(truth, [first, second], SETS)
    assert len(boxes) == 2
    for (top, left, bottom, right), row in zip(boxes, (155, 22), strict=True):
        assert top <= row < bottom and left <= 198 and right >= 202 and (bottom - top, right - left) == (48, 96)
    assert boxes[0][0] >= boxes[1][2]


def test_one_zoom_is_kept_for_thin_classes_and_not_for_labels_that_may_be_others():
    sky, vegetation, pole, road = (TAXONOMY.id_of(name) for name in ("sky", "vegetation", "pole", "road"))
    truth = np.full((200, 400), sky, np.uint8)
    truth[:, 0:100:4] = vegetation  # twigs: nothing but edges
    truth[150:, 300:] = road
    truth[60:90, 350:352] = pole
    missed = np.full_like(truth, sky)
    missed[150:, 300:] = road
    (thin, twigs) = zoom_boxes(truth, [truth, missed], SETS)
    assert thin[0] <= 60 and thin[2] >= 90 and thin[1] <= 350 and thin[3] >= 352 and twigs[3] <= 110
    truth[truth == pole] = MERGED  # road or marking
    assert all(box[3] <= 110 for box in zoom_boxes(truth, [truth, missed], SETS))


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 3)])
def test_no_zoom_where_nothing_differs_and_none_fails_on_slivers(size):
    truth = np.zeros(size, np.uint8)
    truth[size[0] // 2 :] = 1
    assert zoom_boxes(truth, [truth, truth], SETS) == []
    for top, left, bottom, right in zoom_boxes(truth, [truth, 1 - truth], SETS):
        assert 0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]


def test_zooming_in_keeps_pixels_whole():
    picture = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    assert np.array_equal(fit(picture, 12), picture.repeat(3, 0).repeat(3, 1))


def test_text_that_is_too_long_is_cut_and_legends_break_lines():
    assert text_line("x" * 500, 100).shape == (30, 100, 3)
    entries = [(f"a rather long class name {i}", (10, 20, 30)) for i in range(6)]
    wide, narrow = legend(entries, 2000), legend(entries, 300)
    assert wide.shape[0] == 30 and narrow.shape[0] == 6 * 30 and narrow.shape[1] == 300


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({(10, 20): 1}, (10, 20)),
        ({(100, 100): 1, (10, 10): 1, (50, 50): 1}, (50, 50)),
        ({(100, 100): 5, (10, 10): 4}, (100, 100)),
        ({(100, 100): 4, (10, 10): 5}, (10, 10)),
    ],
)
def test_the_median_size_is_one_that_a_frame_has(sizes, expected):
    assert median_size(sizes) == expected


def test_runs_are_timed_in_turn_after_warming_up():
    order = []
    times = interleaved_times([lambda: order.append("a"), lambda: order.append("b")], repeats=4)
    assert order == ["a", "b"] * 6 and [len(own) for own in times] == [4, 4]
    assert [len(own) for own in interleaved_times([lambda: None], repeats=9, longest_s=0)] == [3]
