"""Figures: what they draw has the values, colours and titles that they were given."""

import io
import math

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from roadseg import load_taxonomy
from roadseg.evaluation.differences import A_RIGHT, B_RIGHT, difference_marks
from roadseg.inference.result import SegmentationResult
from roadseg.label_sets import LabelSets
from roadseg.models.inspection import QueryAttention
from roadseg.plots import (
    ScoreIntervals,
    draw_attention,
    draw_class_scores,
    draw_comparison,
    draw_fields,
    draw_history,
    draw_intervals,
    draw_pictures,
    draw_result,
    draw_windows,
    label_map,
    legend_of,
)

TAXONOMY = load_taxonomy("hdmap-camvid")
ROAD, MARKING, POLE = (TAXONOMY.id_of(name) for name in ("road", "lane_marking", "pole"))
SETS = LabelSets.collect(TAXONOMY, [(ROAD, MARKING)])
MERGED = SETS.id_of((ROAD, MARKING))


def picture(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def drawn(figure):
    """Render it, which is when matplotlib finds what cannot be drawn; gives the images of its axes."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return [[image.get_array() for image in axis.images] for axis in figure.axes]


def legend_labels(figure):
    return [entry.get_text() for entry in figure.legends[0].get_texts()]


def test_labels_are_painted_in_their_colours_and_the_unlabelled_in_none_of_them():
    labels = np.array([[ROAD, POLE, MERGED, *[255] * 12]], np.uint8)
    painted = label_map(labels, SETS)
    road, marking = (np.array(TAXONOMY.classes[i].colour, float) for i in (ROAD, MARKING))
    assert painted[0, 0].tolist() == road.tolist() and painted[0, 1].tolist() == [0, 0, 0]
    np.testing.assert_allclose(painted[0, 2], (road + marking) / 2, atol=0.5)
    greys = {tuple(p) for p in painted[0, 3:].tolist()}
    assert len(greys) == 2 and not greys & {tuple(c.colour) for c in TAXONOMY.classes}


def test_the_legend_names_what_occurs_in_order_of_ids():
    labels = [np.array([[POLE, 255]], np.uint8), np.array([[ROAD, MERGED]], np.uint8)]
    named = legend_of(SETS, *labels)
    assert list(named) == ["road", "pole", "road+lane_marking", "not labelled"]
    squares = draw_pictures({"a": picture()}, named).legends[0].get_patches()
    assert [square.get_hatch() is not None for square in squares] == [False, False, False, True]
    assert list(legend_of(SETS, np.zeros((1, 1), np.uint8))) == ["road"]


def test_pictures_are_shown_whole_under_their_titles():
    given = {"a": picture(), "b": picture(seed=1), "c": picture(seed=2)}
    figure = draw_pictures(given, {"red": (255, 0, 0)}, columns=2)
    shown = drawn(figure)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", ""]
    for (array,), expected in zip(shown[:3], given.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert shown[3] == [] and legend_labels(figure) == ["red"]
    assert figure.legends[0].get_patches()[0].get_facecolor() == (1, 0, 0, 1)


def test_a_result_is_shown_with_shares_and_confidence():
    mask = np.full((12, 16), ROAD, np.uint8)
    mask[:3] = POLE
    confidence = np.linspace(0, 1, mask.size, dtype=np.float32).reshape(mask.shape)
    figure = draw_result(SegmentationResult(picture(), mask, TAXONOMY, "", confidence))
    assert legend_labels(figure) == ["road 75.0%", "pole 25.0%"]
    np.testing.assert_array_equal(drawn(figure)[3][-1], confidence)
    rows = [figure.axes[i].get_tightbbox() for i in (0, 2)]
    between_in = (rows[0].y0 - rows[1].y1) / figure.dpi
    assert 0 <= between_in < 0.2  # no blank band
    assert [a.get_title() for a in draw_result(SegmentationResult(picture(), mask, TAXONOMY, "")).axes] == [
        "image", "mask", "overlay"
    ]  # fmt: skip


def test_a_comparison_zooms_where_masks_differ_and_only_there():
    truth = np.full((60, 80), ROAD, np.uint8)
    truth[:, 40:] = POLE
    wrong = truth.copy()
    wrong[10:20, 38:40] = POLE
    image = picture(60, 80)
    figure = draw_comparison(image, truth, [truth, wrong], SETS, ("first", "second"), "title")
    titles = [axis.get_title() for axis in figure.axes[:5]]
    assert titles == ["image", "truth", "first", "second", "where they differ"]
    boxes = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    assert len(boxes) == 1 and len(figure.axes) == 10
    left, top, width, height = *boxes[0].get_xy(), boxes[0].get_width(), boxes[0].get_height()
    assert left <= 38 and left + width >= 40 and top <= 10 and top + height >= 20
    zoomed = drawn(figure)[5][0]
    np.testing.assert_array_equal(zoomed, image[top : top + height, left : left + width])
    assert set(difference_marks(("first", "second"))) <= set(legend_labels(figure))
    same = draw_comparison(image, truth, [truth, truth], SETS)
    assert len(same.axes) == 5  # nothing to zoom in on


def test_a_comparison_without_any_label_is_drawn():
    unsaid = np.full((8, 8), 255, np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    figure = draw_comparison(picture(8, 8), unsaid, [mask, mask], SETS)
    np.testing.assert_array_equal(drawn(figure)[1][0], label_map(unsaid, SETS))


def test_a_model_has_one_colour_in_bars_and_maps():
    scores = {"IoU": {"first": {"road": 0.5}, "second": {"road": 0.4}}}
    bars = draw_class_scores(scores, TAXONOMY).axes[0].containers
    shown = [tuple(round(255 * v) for v in bar[0].get_facecolor()[:3]) for bar in bars]
    assert shown == [A_RIGHT, B_RIGHT] == list(difference_marks(("first", "second")).values())[:2]


def test_bars_have_the_scores_and_classes_that_no_model_has_are_left_out():
    scores = {"IoU": {"A": {"road": 0.9, "pole": None}, "B": {"road": 0.8, "pole": math.nan, "person": 0.0}}}
    figure = draw_class_scores(scores, TAXONOMY)
    drawn(figure)
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["road", "person"]
    widths = [[bar.get_width() for bar in bars] for bars in axis.containers]
    assert widths == [[0.9, 0], [0.8, 0]]
    assert [t.get_text() for t in axis.texts] == ["0.90", "-", "0.80", "0.00"]
    squares = [line for line in axis.lines if line.get_marker() == "s"]
    assert [tuple(round(255 * v) for v in s.get_color()) for s in squares] == [
        TAXONOMY.classes[TAXONOMY.id_of(name)].colour for name in ("road", "person")
    ]


def test_intervals_reach_from_end_to_end():
    scores = {"IoU": {"A": {"road": 0.5, "pole": 0.3}}}
    ends = {"IoU": {"A": {"road": (0.4, 0.7), "pole": (math.nan, math.nan)}}}
    axis = draw_class_scores(scores, TAXONOMY, ends).axes[0]
    (bars,) = [c for c in axis.containers if hasattr(c, "errorbar")]
    segments = bars.errorbar.lines[2][0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in segments], [[0.4, 0.7], [0.3, 0.3]])


def test_intervals_have_their_ends_and_the_colour_of_what_is_shown():
    scores = {
        "ahead": ScoreIntervals([0.02, 0.04], [(0.01, 0.03), (0.02, 0.05)], "ahead"),
        "behind": ScoreIntervals([-0.02, -0.01], [(-0.03, -0.01), (-0.015, -0.001)], "behind"),
        "one seed": ScoreIntervals([0.02], [(0.01, 0.03)], None),
    }
    figure = draw_intervals({"A": scores, "B": {"ahead": scores["ahead"]}}, "difference")
    drawn(figure)
    first, second = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == list(scores)
    intervals, points = first.lines[0:10:2], first.lines[1:10:2]
    assert [tuple(line.get_xdata()) for line in intervals] == [end for s in scores.values() for end in s.intervals]
    assert [line.get_xdata()[0] for line in points] == [value for s in scores.values() for value in s.differences]
    assert [round(line.get_ydata()[0]) for line in intervals] == [0, 0, 1, 1, 2]
    colours = [line.get_color() for line in intervals]
    assert colours[0] == colours[1] == second.lines[0].get_color() != colours[2] == colours[3] != "grey" == colours[4]


def test_curves_have_their_points():
    figure = draw_history({"loss": [(0, 2.0), (5, 1.0)], "one point": [(3, 0.5)]})
    drawn(figure)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), [(0, 2), (5, 1)])
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xydata(), [(3, 0.5)])
    assert figure.axes[1].get_xlim() == (2, 4) and all(tick == int(tick) for tick in figure.axes[1].get_xticks())


def test_windows_lie_on_the_grid_and_the_weights_on_their_window():
    weights = np.random.default_rng(0).random((2, 3, 3)).astype(np.float32)
    figure = draw_windows(picture(40, 52), QueryAttention(weights, 3, 6, 1), (4, 8), 4)
    shown = drawn(figure)
    np.testing.assert_allclose(shown[2][1], weights.mean(0))
    assert figure.axes[2].images[1].get_extent() == [23.5, 35.5, 23.5, 11.5]  # columns 6..8, rows 3..5, times 4 px
    box = figure.axes[0].patches[0]
    assert (*box.get_xy(), box.get_width()) == (23.5, 11.5, 12)
    query = figure.axes[1].patches[0]
    assert query.get_xy() == (31.5, 15.5) and query.get_width() == 4


def test_attention_is_shown_against_uniform_over_what_its_keys_cover():
    weights = np.full((2, 2, 3), 1 / 6, np.float32)
    figure = draw_attention(picture(16, 24), {"block": (QueryAttention(weights, 0, 0, 2), 4)}, (5, 7))
    shown = drawn(figure)
    np.testing.assert_allclose(shown[0][1], np.ones((2, 3)), rtol=1e-6)
    assert figure.axes[0].images[1].get_extent() == [-0.5, 23.5, 15.5, -0.5]
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[7, 5]]


def test_fields_are_framed_by_the_squares_of_half_and_nine_tenths():
    field = np.zeros((9, 9))
    field[4, 4], field[2, 4], field[0, 0] = 0.6, 0.35, 0.05  # in squares of 1, 5 and 9 px
    figure = draw_fields({"net": field})
    drawn(figure)
    assert [p.get_width() for p in figure.axes[0].patches] == [1, 5]
    assert [p.get_xy() for p in figure.axes[0].patches] == [(3.5, 3.5), (1.5, 1.5)]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_extreme_shapes_are_drawn(size):
    drawn(draw_pictures({"a": picture(*size)}))


def test_a_sliver_makes_no_huge_figure():
    assert draw_pictures({"a": picture(4000, 1), "b": picture(4000, 1)}).get_figheight() < 14
