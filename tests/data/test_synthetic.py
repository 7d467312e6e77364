"""Synthetic scenes: exact labels, true perspective, the same bytes everywhere."""

import dataclasses
import hashlib
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from roadseg.data.synthetic import (
    SYNTHETIC_TAXONOMY,
    Camera,
    Label,
    LaneLine,
    RoadCurve,
    Scene,
    SceneLayout,
    SyntheticRoadDataset,
    plan_scene,
    render_layout,
    render_scene,
)
from roadseg.data.synthetic import scene as scene_module
from roadseg.data.synthetic.display import DisplayList
from roadseg.data.synthetic.photograph import reduce_mask
from roadseg.errors import ConfigError
from roadseg.taxonomy import load_taxonomy

SIZE = (256, 384)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """The scenes of seeds 0 to 63."""
    return [render_scene(seed, SIZE) for seed in range(64)]


def digest(scene: Scene) -> str:
    return hashlib.sha256(scene.image.tobytes() + scene.mask.tobytes()).hexdigest()


def test_taxonomy_is_the_one_of_the_labels():
    taxonomy = load_taxonomy(SYNTHETIC_TAXONOMY)
    assert taxonomy.version == 1
    assert taxonomy.names == [label.name.lower() for label in Label]
    assert [int(label) for label in Label] == list(range(len(taxonomy)))


def test_scene_has_the_promised_arrays(scenes):
    for scene in scenes:
        assert scene.image.shape == (*SIZE, 3) and scene.image.dtype == np.uint8
        assert scene.mask.shape == SIZE and scene.mask.dtype == np.uint8
        assert scene.mask.max() < len(Label)
        assert scene.image.std() > 8


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (33, 47), (300, 40), (40, 700)])
def test_any_size_is_rendered(size):
    scene = render_scene(3, size)
    assert scene.image.shape == (*size, 3)
    assert scene.mask.shape == size
    assert scene.mask.max() < len(Label)


# --- the same bytes everywhere


def test_same_seed_same_bytes_in_any_thread(scenes):
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda seed: render_scene(seed, SIZE), range(4)))
    assert [digest(s) for s in again] == [digest(s) for s in scenes[:4]]


def test_same_bytes_in_another_process_which_never_imports_torch(scenes):
    program = (
        "import hashlib, sys; from roadseg.data.synthetic import render_scene; s = render_scene(5, (256, 384));"
        "print(hashlib.sha256(s.image.tobytes() + s.mask.tobytes()).hexdigest(), 'torch' in sys.modules,"
        " 'PIL' in sys.modules, 'albumentations' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [digest(scenes[5]), "False", "False", "False"]


def test_seeds_differ(scenes):
    assert len({digest(scene) for scene in scenes}) == len(scenes)


def test_global_random_state_neither_matters_nor_changes(scenes):
    np.random.seed(123)
    before = np.random.get_state()[1].copy()
    scene = render_scene(1, SIZE)
    assert np.array_equal(before, np.random.get_state()[1])
    assert digest(scene) == digest(scenes[1])


# --- what is in the scenes


def test_every_scene_has_road_marking_and_sky(scenes):
    for seed, scene in enumerate(scenes):
        missing = {Label.ROAD, Label.LANE_MARKING, Label.SKY} - set(np.unique(scene.mask).tolist())
        assert not missing, f"seed {seed} lacks {missing}"


def test_all_classes_occur_often(scenes):
    present = np.stack([np.bincount(s.mask.ravel(), minlength=len(Label)) > 0 for s in scenes]).mean(axis=0)
    assert (present > 0.3).all(), dict(zip(Label, present, strict=True))


def test_class_shares_are_those_of_a_street(scenes):
    share = np.stack([np.bincount(s.mask.ravel(), minlength=len(Label)) / s.mask.size for s in scenes])
    mean = share.mean(axis=0)
    assert 0.25 < mean[Label.ROAD] < 0.4
    assert share[:, Label.ROAD].min() > 0.12 and share[:, Label.ROAD].max() < 0.5
    assert 0.005 < mean[Label.POLE] < 0.02
    assert 0.008 < mean[Label.LANE_MARKING] < 0.04
    assert 0.15 < mean[Label.SKY] < 0.4
    assert 0.0002 < mean[Label.STREET_LIGHT] < 0.003
    assert 0.001 < mean[Label.TRAFFIC_SIGN] < 0.01


# --- perspective, against the pinhole formula written out here


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


# --- labels and picture agree


def test_picture_edges_lie_on_mask_edges(scenes):
    ratios = []
    for scene in scenes:
        grey = scene.image.astype(np.float32).mean(axis=2)
        gradient = np.abs(np.diff(grey, axis=1))[:-1] + np.abs(np.diff(grey, axis=0))[:, :-1]
        mask = scene.mask
        edge = (mask[:-1, 1:] != mask[:-1, :-1]) | (mask[1:, :-1] != mask[:-1, :-1])
        ratios.append(gradient[edge].mean() / gradient[~edge].mean())
        shifted = np.roll(edge, (4, 4), axis=(0, 1))
        assert gradient[edge].mean() > 1.3 * gradient[shifted & ~edge].mean()
    assert np.mean(ratios) > 3.0
    assert min(ratios) > 1.5


def test_markings_are_brighter_than_the_road_they_lie_on(scenes):
    for scene in scenes:
        grey = scene.image.astype(np.float32).mean(axis=2)
        assert grey[scene.mask == Label.LANE_MARKING].mean() > 1.2 * grey[scene.mask == Label.ROAD].mean()


def test_half_covered_pixel_goes_to_the_thin_class():
    # Ranks: the highest that covers at least two of four subpixels wins; a single subpixel never does.
    blocks = np.array([[0, 9, 0, 9, 5, 5], [0, 9, 0, 0, 9, 7]], np.uint8)
    one_by_one = reduce_mask(np.arange(13, dtype=np.uint8)[None], 1)[0]
    assert reduce_mask(blocks, 2).tolist() == [[one_by_one[9], one_by_one[0], one_by_one[7]]]


@pytest.mark.parametrize("seed", range(6))
def test_same_world_at_three_times_the_size(scenes, seed):
    large = render_scene(seed, (3 * SIZE[0], 3 * SIZE[1])).mask[1::3, 1::3]
    agree = large == scenes[seed].mask
    assert agree.mean() > 0.95
    poles = scenes[seed].mask == Label.POLE
    near = np.stack([np.roll(large == Label.POLE, shift, axis=1) for shift in (-1, 0, 1)]).any(axis=0)
    assert near[poles].mean() > 0.75


# --- dataset


def test_dataset_gives_scenes_and_names():
    dataset = SyntheticRoadDataset(3, size=(48, 64), seed=12)
    assert len(dataset) == 3
    assert dataset.names == ["synthetic-00000012-000000", "synthetic-00000012-000001", "synthetic-00000012-000002"]
    assert dataset.taxonomy == load_taxonomy(SYNTHETIC_TAXONOMY)
    for i, (image, mask, name) in enumerate(dataset):
        assert image.shape == (48, 64, 3) and image.dtype == np.uint8
        assert mask.shape == (48, 64) and mask.dtype == np.uint8
        assert name == dataset.names[i]


def test_dataset_is_reproducible_and_longer_ones_begin_alike():
    short, long = SyntheticRoadDataset(2, (48, 64), seed=4), SyntheticRoadDataset(5, (48, 64), seed=4)
    for i in range(2):
        assert np.array_equal(short[i][0], long[i][0])
        assert np.array_equal(short[i][1], long[i][1])


def test_dataset_seeds_share_no_scene():
    # 2**32 is one more word of entropy: concatenated words would make (1, 7) and (1 + 7 * 2**32, 0) the same.
    seeds = [0, 1, 2, 7, 1 + 7 * 2**32, 2**32]
    images = {
        SyntheticRoadDataset(8, (16, 24), seed=seed)[index][0].tobytes() for seed in seeds for index in (0, 1, 2, 7)
    }
    assert len(images) == len(seeds) * 4


@pytest.mark.parametrize("index", [2, 100, -1])
def test_index_out_of_range(index):
    with pytest.raises(IndexError, match=rf"scene {index} of a synthetic dataset of 2; give 0 to 1"):
        SyntheticRoadDataset(2, (8, 8))[index]


# --- errors


@pytest.mark.parametrize("size", [(0, 10), (10, -1), (4097, 10), (10, 8193), (10,), (10.5, 20)])
def test_bad_size_is_named_with_the_fix(size):
    with pytest.raises(ConfigError) as caught:
        render_scene(0, size)
    assert repr(size) in str(caught.value)
    assert "(1, 1) to (4096, 8192)" in str(caught.value)
    with pytest.raises(ConfigError, match="scene size"):
        SyntheticRoadDataset(1, size)


@pytest.mark.parametrize("seed", [-1, 1.5, "7"])
def test_bad_seed_is_named_with_the_fix(seed):
    with pytest.raises(ConfigError, match=r"give an integer of 0 or more") as caught:
        render_scene(seed, (8, 8))
    assert repr(seed) in str(caught.value)
    with pytest.raises(ConfigError, match="seed"):
        SyntheticRoadDataset(1, (8, 8), seed=seed)


@pytest.mark.parametrize("length", [0, -3, 2.0])
def test_bad_length_is_named_with_the_fix(length):
    with pytest.raises(ConfigError, match=r"give an integer of 1 or more") as caught:
        SyntheticRoadDataset(length)
    assert repr(length) in str(caught.value)
