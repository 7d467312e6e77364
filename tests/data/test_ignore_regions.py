"""Which pixels an ignore polygon covers, by frame name and by image size."""

import pickle

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from roadseg import ignore_regions
from roadseg.data.mapped import IgnoreRegions as UsedInTraining
from roadseg.errors import ConfigError
from roadseg.ignore_regions import IgnoreRegions, load_regions

HOOD = [[0, 0.75], [0.5, 0.5], [1, 0.75], [1, 1], [0, 1]]


def inside(polygon, size: tuple[int, int]) -> np.ndarray:
    """Matplotlib's answer for every pixel centre (of polygons that do not cross themselves)."""
    height, width = size
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return Outline(polygon).contains_points(np.stack([x.ravel(), y.ravel()], 1)).reshape(size)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (64, 96), (61, 97), (720, 1280)])
@pytest.mark.parametrize("seed", range(4))
def test_star_shaped_concave_polygons_cover_the_pixels_whose_centres_are_inside(seed, size):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
    polygon = 0.5 + rng.uniform(0.1, 0.5, (9, 1)) * np.stack([np.cos(angle), np.sin(angle)], 1)
    covered = IgnoreRegions([{"polygon": polygon.tolist()}]).covered(size)
    assert np.array_equal(covered, inside(polygon, size))
    mirrored = IgnoreRegions([{"polygon": polygon[::-1].tolist()}]).covered(size)
    assert np.array_equal(mirrored, covered)  # clockwise or not


def test_a_concave_polygon_by_hand():
    notch = [[0, 0], [1, 0], [1, 1], [0.5, 0.25], [0, 1]]  # a square without a wedge from below, its tip at a quarter
    drawn = IgnoreRegions([{"polygon": notch}]).apply(np.zeros((4, 4), np.uint8))
    # Row centres 0.5, 1.5, 2.5, 3.5; the wedge is open where |x - 2| < 2 (y - 1) / 3: 0.33, 1, 1.67
    assert (drawn == 255).astype(int).tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]]


def test_edges_at_0_and_1_take_every_pixel_of_the_border():
    whole = [[0, 0], [1, 0], [1, 1], [0, 1]]
    for size in [(1, 1), (3, 5), (480, 641), (333, 777)]:
        assert IgnoreRegions([{"polygon": whole}]).covered(size).all()
        lower = IgnoreRegions([{"polygon": [[0, 2 / 3], [1, 2 / 3], [1, 1], [0, 1]]}]).covered(size)
        rows = [(i + 0.5) / size[0] >= 2 / 3 for i in range(size[0])]
        assert np.array_equal(lower, np.repeat(np.array(rows)[:, None], size[1], 1))


def test_polygons_that_share_an_edge_share_no_pixel_even_if_it_runs_through_centres():
    left = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
    right = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
    a, b = (IgnoreRegions([{"polygon": p}]).covered((3, 3)) for p in (left, right))  # 0.5 is the middle centre
    assert a.tolist() == [[True, False, False]] * 3
    assert np.array_equal(a ^ b, np.ones((3, 3), bool)) and not (a & b).any()


def test_overlapping_regions_do_not_cancel_each_other():
    regions = [{"polygon": [[0, 0], [0.75, 0], [0.75, 1], [0, 1]]}, {"polygon": [[0.25, 0], [1, 0], [1, 1], [0.25, 1]]}]
    assert IgnoreRegions(regions).covered((8, 8)).all()


def test_a_polygon_that_crosses_itself_follows_the_even_odd_rule():
    # The pentagram's middle is wound around twice, so it stays open; its points are covered.
    tips = [[0.5 + 0.5 * np.sin(a), 0.5 - 0.5 * np.cos(a)] for a in np.arange(5) * 4 * np.pi / 5]
    covered = IgnoreRegions([{"polygon": tips}]).covered((101, 101))
    assert not covered[50, 50] and covered[10, 50]


def test_patterns_choose_the_frames_and_a_mask_without_regions_is_untouched():
    regions = IgnoreRegions(
        [{"polygon": [[0, 0.5], [1, 0.5], [1, 1], [0, 1]], "frames": "front_*"},
         {"polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], "frames": "*/rear/*"}]
    )  # fmt: skip
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert regions.apply(mask, "side_001") is mask
    assert regions.apply(mask, "Front_001") is mask  # names are compared with their case
    assert regions.apply(mask, "front_001").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [255] * 4, [255] * 4]
    assert (regions.apply(mask, "d1/rear/7") == 255).tolist() == [[True, True, False, False]] * 4
    assert np.array_equal(mask, np.arange(16).reshape(4, 4))


def test_frames_of_one_size_and_camera_are_drawn_once(monkeypatch):
    drawn = []
    fill = ignore_regions._fill
    monkeypatch.setattr(ignore_regions, "_fill", lambda *a: drawn.append(a[1]) or fill(*a))
    ignore_regions._draw.cache_clear()
    regions = IgnoreRegions([{"polygon": HOOD}, {"polygon": HOOD, "frames": "b*"}])
    for i in range(50):
        regions.apply(np.zeros((20, 30), np.uint8), f"a{i}")
        regions.apply(np.zeros((20, 30), np.uint8), f"b{i}")
        regions.apply(np.zeros((40, 60), np.uint8), f"a{i}")
    assert sorted(drawn) == [(20, 30)] * 3 + [(40, 60)]  # a: one polygon, b: two
    with pytest.raises(ValueError, match="read-only"):
        regions.covered((20, 30))[0, 0] = True  # what is shared cannot be changed


def test_regions_travel_to_worker_processes():
    regions = IgnoreRegions([{"polygon": HOOD, "frames": "cam*"}])
    copy = pickle.loads(pickle.dumps(regions))
    assert np.array_equal(copy.covered((9, 13), "cam1"), inside(HOOD, (9, 13)))
    assert UsedInTraining is IgnoreRegions


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ([[0, 0], [1, 0], [1, 1]], "expected a mapping with polygon, and if wanted frames"),
        ({"frames": "*"}, "expected a mapping with polygon"),
        ({"polygon": HOOD, "camera": "front"}, "expected a mapping with polygon"),
        ({"polygon": [[0, 0], [1, 1]]}, "use three or more"),
        ({"polygon": [[0, 0], [640, 0], [640, 480]]}, r"in parts of the image's width and height, each 0 to 1"),
        ({"polygon": [[0, 0], [float("nan"), 0], [1, 1]]}, "each 0 to 1"),
        ({"polygon": [[0, 0], [1], [1, 1]]}, "use three or more"),
        ({"polygon": "hood"}, "polygon is 'hood'"),
        ({"polygon": [[0, 0], [0.5, 0.5], [1, 1]]}, "lie on one line and enclose nothing"),
        ({"polygon": HOOD, "frames": ""}, "frames is ''; use a pattern"),
        ({"polygon": HOOD, "frames": ["a"]}, r"frames is \['a'\]; use a pattern"),
    ],
)
def test_what_is_no_polygon_is_refused(region, message):
    with pytest.raises(ConfigError, match=rf"^ignore region 1: .*{message}"):
        IgnoreRegions([{"polygon": HOOD}, region])


def test_a_file_of_regions_is_read_and_its_faults_carry_its_name(tmp_path):
    path = tmp_path / "rig.yaml"
    path.write_text("- polygon: [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]\n  frames: 'front*'\n")
    assert load_regions(path).covered((4, 2), "front1").tolist() == [[False] * 2, [False] * 2, [True] * 2, [True] * 2]
    assert load_regions(str(path)).covered((4, 2), "rear1") is None
    for text, message in [
        ("[", "is not a YAML file"),
        ("", "expected a list of regions .*, got None"),
        ("polygon: [[0, 0], [1, 0], [1, 1]]", "expected a list of regions"),
        ("- polygon: [[0, 0], [1, 0]]", "ignore region 0: polygon is"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=message) as caught:
            load_regions(path)
        assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read ignore regions .*none.yaml: No such file"):
        load_regions(tmp_path / "none.yaml")
