"""The rule by which polygons become masks."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from roadseg.data.polygons import draw_polygons
from roadseg.errors import DataError


def test_polygons_are_pillows():
    rng = np.random.default_rng(0)
    for case in range(200):
        canvas = Image.new("L", (40, 30), 200)
        shapes = []
        for label in range(1 + case % 4):
            points = (rng.uniform(-10, 50, (int(rng.integers(3, 9)), 2))).tolist()
            points = [tuple(p) for p in points] if case % 2 else [(int(x), int(y)) for x, y in points]
            shapes.append((label, points))
            ImageDraw.Draw(canvas).polygon(points, fill=label)
        drawn = draw_polygons((30, 40), shapes, 200)
        assert drawn.dtype == np.uint16 and np.array_equal(drawn, np.array(canvas)), case


def test_later_polygons_cover_earlier_ones_outlines_included_and_ids_have_16_bits():
    square = [(2, 2), (5, 2), (5, 5), (2, 5)]
    drawn = draw_polygons((8, 9), [(300, square), (65535, [(4, 4), (99, 4), (99, 99), (4, 99)])], 1000)
    expected = np.full((8, 9), 1000)
    expected[2:6, 2:6] = 300
    expected[4:, 4:] = 65535
    assert np.array_equal(drawn, expected)


def test_no_polygons_give_the_background():
    assert np.array_equal(draw_polygons((2, 3), [], 255), np.full((2, 3), 255))


@pytest.mark.parametrize("points", [[], [(1, 1)], [(1, 1), (5, 5)]])
def test_a_polygon_of_too_few_points_is_refused(points):
    with pytest.raises(DataError, match=rf"a polygon of label 4 has {len(points)} point\(s\), 3 are needed"):
        draw_polygons((8, 8), [(4, points)], 0)


@pytest.mark.parametrize("label", [-1, 65536])
def test_an_id_that_no_mask_holds_is_refused(label):
    with pytest.raises(DataError, match=f"label id {label} does not fit"):
        draw_polygons((8, 8), [(label, [(0, 0), (1, 0), (1, 1)])], 0)
    with pytest.raises(DataError, match=f"label id {label} does not fit"):
        draw_polygons((8, 8), [], label)
