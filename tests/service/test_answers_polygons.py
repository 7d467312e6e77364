"""Polygons against filling by hand, areas by the shoelace formula, and OpenCV's fill."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from service_corpus import mask_of, png, scene

from roadseg_service.answers.polygons import polygons_of


def filled(polygons, shape):
    """The pixels inside, by the even-odd rule: every vertical edge turns over all pixels to its right."""
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        for ring in (polygon.exterior, *polygon.holes):
            for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
                assert (x0 == x1) != (y0 == y1), "edges between pixels are upright or level, and have a length"
                if x0 == x1:
                    inside[min(y0, y1) : max(y0, y1), x0:] ^= True
    return inside


def signed_area(ring):
    x, y = np.array(ring, np.int64).T
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


def area(polygon):
    return sum(
        abs(signed_area(ring)) * sign for ring, sign in [(polygon.exterior, 1), *((h, -1) for h in polygon.holes)]
    )


def picture(*rows):
    return np.array([[1 if c == "#" else 0 for c in row] for row in rows], np.uint8)


def exact(mask, class_id=1):
    return list(polygons_of(mask, class_id, 0.0))


def test_one_pixel_is_a_square():
    mask = np.zeros((5, 7), np.uint8)
    mask[2, 4] = 1
    (polygon,) = exact(mask)
    assert sorted(polygon.exterior) == [(4, 2), (4, 3), (5, 2), (5, 3)]
    assert polygon.holes == []


def test_the_whole_image_is_a_rectangle():
    (polygon,) = exact(np.ones((3, 4), np.uint8))
    assert sorted(polygon.exterior) == [(0, 0), (0, 3), (4, 0), (4, 3)]


def test_a_hole_is_told():
    mask = picture("......", ".####.", ".#..#.", ".####.")
    (polygon,) = exact(mask)
    assert sorted(polygon.exterior) == [(1, 1), (1, 4), (5, 1), (5, 4)]
    (hole,) = polygon.holes
    assert sorted(hole) == [(2, 2), (2, 3), (4, 2), (4, 3)]
    assert np.sign(signed_area(hole)) == -np.sign(signed_area(polygon.exterior))


def test_an_island_in_a_hole_is_a_polygon_of_its_own():
    mask = picture("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######")
    outer, inner = sorted(exact(mask), key=lambda polygon: -len(polygon.exterior) - area(polygon))
    assert (area(outer), area(inner)) == (24, 8)
    assert (len(outer.holes), len(inner.holes)) == (1, 1)


def test_pixels_that_touch_at_a_corner_are_one_polygon():
    mask = picture("#..", ".#.", "..#")
    (polygon,) = exact(mask)
    assert area(polygon) == 3
    assert (filled([polygon], mask.shape) == (mask == 1)).all()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("shape", [(1, 1), (1, 12), (12, 1), (2, 2), (17, 23)])
@pytest.mark.parametrize("seed", range(4))
def test_any_region_is_filled_exactly(share, shape, seed):
    mask = (np.random.default_rng([seed, *shape]).random(shape) < share).astype(np.uint8) * 7
    for class_id in np.unique(mask).tolist():
        polygons = exact(mask, class_id)
        inside = mask == class_id
        assert (filled(polygons, shape) == inside).all()
        assert sum(area(polygon) for polygon in polygons) == inside.sum()
        assert len(polygons) == cv2.connectedComponents(inside.view(np.uint8), connectivity=8)[0] - 1
        for polygon in polygons:
            for ring in (polygon.exterior, *polygon.holes):
                steps = np.diff(ring, axis=0, append=ring[:1])
                turns = steps[:, 0] * np.roll(steps[:, 1], 1) - steps[:, 1] * np.roll(steps[:, 0], 1)
                assert (turns != 0).all(), "no point lies on the line between its neighbours"


def test_pycocotools_fills_them_to_the_same_pixels():
    mask = (scene(60, 80)[..., 0] > 128).astype(np.uint8)
    for polygon in exact(mask):
        if polygon.holes:  # which its polygons cannot say
            continue
        flat = [float(v) for point in polygon.exterior for v in point]
        (rle,) = coco_mask.frPyObjects([flat], *mask.shape)
        assert (coco_mask.decode(rle).astype(bool) == filled([polygon], mask.shape)).all()


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("threshold", [100, 150])
def test_a_simplified_polygon_differs_only_near_the_edge(tolerance, threshold):
    mask = (scene(120, 160)[..., 1] > threshold).astype(np.uint8)
    simplified = list(polygons_of(mask, 1, tolerance))
    scale = 16  # subpixels, since a pixel's centre is what counts
    drawn = np.zeros(mask.shape, np.uint8)
    for polygon in simplified:
        rings = [
            np.round((np.array(ring) - 0.5) * scale).astype(np.int32) for ring in (polygon.exterior, *polygon.holes)
        ]
        one = np.zeros_like(drawn)
        cv2.fillPoly(one, rings, 1, shift=4)
        drawn |= one
    padded = np.pad(mask, 1)  # the image's border is an edge, too
    inside = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    wrong = drawn != mask
    # Distances are from centre to centre; fillPoly adds the outline, another pixel.
    assert np.maximum(inside, outside)[wrong].max(initial=0) <= tolerance + 1.5
    corners, of_exact = (sum(len(polygon.exterior) for polygon in some) for some in (simplified, exact(mask)))
    assert corners < of_exact / (2 if tolerance >= 1 else 1)


def test_what_shrinks_to_a_line_is_left_out():
    mask = np.zeros((20, 20), np.uint8)
    mask[5, 5] = 1
    mask[10:18, 2:18] = 1
    mask[13, 9] = 0
    (polygon,) = polygons_of(mask, 1, 3.0)
    assert area(polygon) == 8 * 16
    assert polygon.holes == []


def test_the_answer_of_the_service(client):
    pixels = scene(50, 70)
    mask = mask_of(pixels)
    params = {"geometry": "polygons", "tolerance_px": "0"}
    answer = client.post("/segment", content=png(pixels), params=params, headers={"Accept": "application/json"}).json()
    assert {entry["id"] for entry in answer["classes"]} == set(np.unique(mask).tolist())

    class Told:
        def __init__(self, told):
            self.exterior, self.holes = told["exterior"], told["holes"]

    for entry in answer["classes"]:
        assert "rle" not in entry
        assert (filled([Told(p) for p in entry["polygons"]], mask.shape) == (mask == entry["id"])).all()
        assert entry["area_px"] == (mask == entry["id"]).sum()
