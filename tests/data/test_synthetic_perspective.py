"""The geometry of synthetic scenes against the pinhole formula, written out here."""

import dataclasses
import math

import cv2
import numpy as np
import pytest

from roadseg.data.synthetic import (
    Camera,
    Label,
    LaneLine,
    RoadCurve,
    SceneLayout,
    plan_scene,
    render_layout,
)
from roadseg.data.synthetic import scene as scene_module
from roadseg.data.synthetic.display import DisplayList

SIZE = (256, 384)


def by_hand(x: float, y: float, z: float, height: float, pitch: float, focal_px: float, size: tuple[int, int]):
    """Image point of a world point: turn the axes down by the pitch, divide by depth."""
    depth = z * math.cos(pitch) + (height - y) * math.sin(pitch)
    down = (height - y) * math.cos(pitch) - z * math.sin(pitch)
    return size[1] / 2 + focal_px * x / depth, size[0] / 2 + focal_px * down / depth


def test_projection_matches_the_formula():
    camera = Camera(1.5, math.radians(4.0), 0.8)
    pixels, depth = camera.project([(2.0, 0.0, 12.0), (-3.0, 5.0, 30.0)], (480, 640))
    assert pixels[0] == pytest.approx(by_hand(2.0, 0.0, 12.0, 1.5, math.radians(4.0), 512.0, (480, 640)))
    assert pixels[1] == pytest.approx(by_hand(-3.0, 5.0, 30.0, 1.5, math.radians(4.0), 512.0, (480, 640)))
    assert depth[0] == pytest.approx(12.0 * math.cos(math.radians(4.0)) + 1.5 * math.sin(math.radians(4.0)))


def test_level_camera_in_numbers():
    # Height 1.5 m, focal length 400 px: a point 10 m ahead on the road is 400 * 1.5 / 10 = 60 px below the middle.
    pixels, _ = Camera(1.5, 0.0, 1.0).project([(0.0, 0.0, 10.0), (1.0, 1.5, 10.0)], (300, 400))
    assert pixels.tolist() == [[200.0, 210.0], [240.0, 150.0]]


def test_ground_of_rows_inverts_the_projection():
    camera, size = Camera(1.7, 0.05, 0.7, mirrored=True), (360, 640)
    z, metres_per_px = camera.ground_of_rows(np.array([200.5, 300.5]), size)
    pixels, _ = camera.project(np.stack([40 * metres_per_px, [0.0, 0.0], z], axis=1), size)
    assert pixels == pytest.approx(np.array([[360.0, 200.5], [360.0, 300.5]]))


def test_curve_is_an_arc_near_the_camera_and_straight_far_away():
    road = RoadCurve(offset_m=-1.6, heading=0.01, curvature_per_m=1 / 200)
    assert float(road.centre(8.0)) == pytest.approx(-1.6 + 0.08 + 8.0**2 / 400, abs=0.002)
    assert np.diff(road.centre([600.0, 601.0]))[0] == pytest.approx(0.01 + 60 / 200, rel=1e-6)


PITCH = math.radians(3.0)
LINES = (LaneLine(0.0, 0.15), LaneLine(3.2, 0.12), LaneLine(-3.1, 0.12, yellow=True), LaneLine(1.6, 0.15, dashed=True))


def known_layout(seed: int, curvature: float = 1 / 250) -> SceneLayout:
    """The seed's surroundings and light, with camera, curve and lines that this test sets."""
    road = RoadCurve(-1.5, 0.02, curvature)
    return dataclasses.replace(
        plan_scene(seed), camera=Camera(1.6, PITCH, 0.75), road=road, lines=LINES, dash=(3.0, 5.0, 1.0), median_m=0.0,
        junction=None,
    )  # fmt: skip


def on_curve(u: float, s: float, size: tuple[int, int], curvature: float = 1 / 250) -> tuple[int, int] | None:
    """Row and column of a point on the known layout's road, or None outside the picture."""
    middle = -1.5 + 0.02 * s + curvature * 60.0**2 * math.log(math.cosh(s / 60.0))
    x, y = by_hand(middle + u, 0.0, s, 1.6, PITCH, 0.75 * size[1], size)
    return (int(y), int(x)) if 0 <= x < size[1] and 0 <= y < size[0] else None


def rows_on_road(size: tuple[int, int], farthest: float) -> list[tuple[int, float]]:
    """Rows, and the distance s where the ray through the middle of each meets the road, by the formula solved for z."""
    rows = []
    for row in range(size[0]):
        slope = (row + 0.5 - size[0] / 2) / (0.75 * size[1])
        below = math.tan(math.atan(slope) + PITCH)
        if below > 0 and 1.6 / below < farthest:
            rows.append((row, 1.6 / below))
    return rows


@pytest.fixture
def bare_ground(monkeypatch):
    """Leave out all that stands or lies on the ground."""
    monkeypatch.setattr(scene_module, "draw_decals", lambda layout, rng: [])
    monkeypatch.setattr(scene_module, "build_world", lambda layout: DisplayList(layout.camera, layout.light))


@pytest.mark.parametrize("curvature", [0.0, 1 / 250, -1 / 120])
def test_lines_lie_where_the_formula_puts_them(bare_ground, curvature):
    size = (512, 768)
    mask = render_layout(known_layout(0, curvature), size).mask
    checked = 0
    for row, s in rows_on_road(size, 35.0):
        for u, expected in ((0.0, 1), (3.2, 1), (-3.1, 1), (0.8, 0), (2.4, 0), (-1.5, 0)):
            pixel = on_curve(u, s, size, curvature)
            if pixel is not None:
                checked += 1
                assert abs(pixel[0] - row) <= 1
                assert mask[row, pixel[1]] == (Label.LANE_MARKING if expected else Label.ROAD), (u, s)
    assert checked > 300


def test_dashes_begin_and_end_where_the_formula_puts_them(bare_ground):
    size = (768, 1152)
    mask = render_layout(known_layout(0), size).mask
    seen = {True: 0, False: 0}
    rows = rows_on_road(size, 40.0)
    painted = [(s - 1.0) % 8.0 < 3.0 for _, s in rows]
    for i in range(1, len(rows) - 1):
        row, s = rows[i]
        pixel = on_curve(1.6, s, size)
        if pixel is not None and painted[i - 1] == painted[i] == painted[i + 1]:
            seen[painted[i]] += 1
            assert mask[row, pixel[1]] == (Label.LANE_MARKING if painted[i] else Label.ROAD), s
    assert min(seen.values()) > 20


@pytest.mark.parametrize("seed", [0, 3, 6, 13, 21])
def test_only_things_and_patches_hide_lines(seed):
    size = (512, 768)
    mask = render_layout(known_layout(seed), size).mask
    pixels = [on_curve(u, s, size) for u in (0.0, 3.2, -3.1) for s in np.arange(4.0, 30.0, 0.23)]
    seen = np.array([mask[pixel] for pixel in pixels if pixel is not None])
    assert not np.isin(seen, [Label.TERRAIN, Label.SIDEWALK, Label.SKY]).any()
    on_ground = np.isin(seen, [Label.ROAD, Label.LANE_MARKING])
    assert (seen[on_ground] == Label.LANE_MARKING).mean() > 0.85
    assert on_ground.sum() > 50


def test_lines_narrow_in_proportion_to_their_distance(bare_ground):
    size = (1024, 1536)
    mask = render_layout(known_layout(0, 0.0), size).mask
    for s in (6.0, 12.0, 18.0):
        row, column = on_curve(0.0, s, size, 0.0)
        depth = s * math.cos(PITCH) + 1.6 * math.sin(PITCH)
        width = (mask[row, column - 60 : column + 60] == Label.LANE_MARKING).sum()
        assert width == pytest.approx(0.15 * 0.75 * 1536 / depth, abs=1.5)


def test_nearer_things_hide_farther_ones_in_picture_and_mask(monkeypatch):
    def two_boards(layout: SceneLayout) -> DisplayList:
        display = DisplayList(layout.camera, layout.light)
        board = np.array([(-1.0, 0.0, 0.0), (-1.0, 4.0, 0.0), (1.0, 4.0, 0.0), (1.0, 0.0, 0.0)])
        display.add(10.0, board + np.array((1.2, 0, 10.0)), (255, 0, 0), Label.TRAFFIC_SIGN, gain=1.0)  # nearer first
        display.add(20.0, board + np.array((0.0, 0, 20.0)), (0, 0, 255), Label.BUILDING, gain=1.0)
        return display

    monkeypatch.setattr(scene_module, "build_world", two_boards)
    scene = render_layout(known_layout(0), (480, 640))
    expected = np.zeros((480, 640), np.uint8)
    for middle, z, label in ((0.0, 20.0, Label.BUILDING), (1.2, 10.0, Label.TRAFFIC_SIGN)):
        corners = [
            by_hand(middle + x, y, z, 1.6, PITCH, 480.0, (480, 640)) for x, y in ((-1, 0), (-1, 4), (1, 4), (1, 0))
        ]
        cv2.fillPoly(expected, [np.rint(np.array(corners) - 0.5).astype(np.int32)], int(label))
    # Away from the outlines, where rasters may round differently, all must agree.
    uniform = cv2.erode(expected, np.ones((5, 5), np.uint8)) == cv2.dilate(expected, np.ones((5, 5), np.uint8))
    for label, channel in ((Label.TRAFFIC_SIGN, 0), (Label.BUILDING, 2)):
        inside = uniform & (expected == label)
        assert inside.sum() > 1000
        assert (scene.mask[inside] == label).all()
        assert (scene.image[inside].argmax(axis=1) == channel).all()
    assert not np.isin(scene.mask[uniform & (expected == 0)], [Label.TRAFFIC_SIGN, Label.BUILDING]).any()


def test_sky_ends_and_ground_begins_at_the_horizon(scenes):
    for seed, scene in enumerate(scenes[:32]):
        camera = plan_scene(seed).camera
        horizon = 128 - camera.focal_widths * 384 * math.tan(camera.pitch_rad)
        assert not (scene.mask[math.ceil(horizon) + 1 :] == Label.SKY).any()
        flat = np.isin(scene.mask[: max(0, math.floor(horizon) - 1)], [Label.ROAD, Label.LANE_MARKING, Label.SIDEWALK])
        assert not flat.any()


def test_road_edges_converge_on_the_vanishing_point(bare_ground):
    size, layout = (768, 1152), known_layout(0, 0.0)
    layout = dataclasses.replace(layout, road=RoadCurve(-1.5))
    mask = render_layout(layout, size).mask
    rows, edges = [], []
    for row in range(430, 640, 6):
        asphalt = np.flatnonzero(np.isin(mask[row], [Label.ROAD, Label.LANE_MARKING]))
        if 0 < asphalt[0] and asphalt[-1] < 1151:
            rows.append(row + 0.5)
            edges.append((asphalt[0], asphalt[-1] + 1))
    assert len(rows) > 8
    left, right = (np.polyfit(rows, side, 1) for side in zip(*edges, strict=True))
    meet = (right[1] - left[1]) / (left[0] - right[0])
    assert meet == pytest.approx(384 - 0.75 * 1152 * math.tan(PITCH), abs=2.0)
    assert np.polyval(left, meet) == pytest.approx(576, abs=2.0)


def test_mirroring_swaps_left_and_right():
    plan = plan_scene(9)
    pictures = [
        render_layout(dataclasses.replace(plan, camera=dataclasses.replace(plan.camera, mirrored=flip)), SIZE).mask
        for flip in (False, True)
    ]
    assert (pictures[0] == pictures[1][:, ::-1]).mean() > 0.99
