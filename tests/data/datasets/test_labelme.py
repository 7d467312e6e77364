"""LabelMe files, written as the tool writes them."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from roadseg.data.datasets.labelme import open_labelme
from roadseg.data.mapped import MappedFrames
from roadseg.data.shapes import disc, stroke
from roadseg.errors import ConfigError, DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

SIZE = (40, 60)


def shape(label: str, points: list[list[float]], kind: str | None = "polygon") -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}


def write(root: Path, name: str, shapes: list[dict[str, Any]], image: str | None = None, **changes) -> Path:
    path = root / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "version": "5.0.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": image or f"{Path(name).name}.jpg",
        "imageData": "not base64 at all",
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
    }
    path.write_text(json.dumps(document | changes))
    return path


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(path)


def one(root: Path, shapes: list[dict[str, Any]], **options) -> np.ndarray:
    write_image(root / "x.jpg")
    write(root, "x", shapes)
    return open_labelme(root, **options).read_labels(0, SIZE)


def drawn(*calls: tuple[str, Any, int]) -> np.ndarray:
    """What Pillow draws: (method, coordinates, id)."""
    canvas = Image.new("L", SIZE[::-1])
    draw = ImageDraw.Draw(canvas)
    for method, xy, value in calls:
        getattr(draw, method)(xy, fill=value)
    return np.array(canvas)


def test_polygons_and_rectangles_are_those_of_pillow_and_later_ones_lie_on_top(tmp_path):
    road = [[3.4, 38.2], [20.7, 10.1], [41.2, 10.9], [57.5, 39.0]]
    labels = one(
        tmp_path,
        [
            shape("road", road),
            shape("sign", [[30, 8], [22, 20]], "rectangle"),
            shape("car", [[25, 15], [40, 15], [33, 30]], None),
        ],
        classes={"road": 1, "sign": 2, "car": 3},
    )
    expected = drawn(
        ("polygon", [tuple(p) for p in road], 1),
        ("rectangle", [(22, 8), (30, 20)], 2),
        ("polygon", [(25, 15), (40, 15), (33, 30)], 3),
    )
    assert set(np.unique(expected)) == {0, 1, 2, 3} and np.array_equal(labels, expected)


def test_a_circle_holds_the_pixels_within_its_radius(tmp_path):
    labels = one(tmp_path, [shape("sign", [[30, 20], [30, 32]], "circle")], classes={"sign": 1})
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot(x - 30, y - 20)
    assert (labels[distance < 11] == 1).all() and (labels[distance > 13.5] == 0).all()


def test_a_disc_stays_within_a_fifth_of_a_pixel_of_the_circle():
    for radius in (0.5, 3, 40, 900, 10_000):
        (x0, y0), (x1, y1) = disc((0, 0), radius)[:2]
        assert radius - math.hypot((x0 + x1) / 2, (y0 + y1) / 2) < 0.2


@pytest.mark.parametrize("width", [1, 2, 5, 10])
def test_a_line_is_as_wide_as_asked_for_and_ends_at_its_points(tmp_path, width):
    labels = one(tmp_path, [shape("mark", [[10, 20], [50, 20]], "line")], classes={"mark": 1}, line_width_px=width)
    rows = (labels == 1).sum(0)
    assert abs(int(rows[12:49].max()) - width) <= 1 and (rows[12:49] == rows[12]).all()
    assert rows[:10].sum() == 0 and rows[51:].sum() == 0
    centre = np.flatnonzero(labels[:, 30]).mean()
    assert abs(centre - 20) <= 0.5


def test_a_line_strip_is_unbroken_at_its_joints(tmp_path):
    points = [[5, 35], [30, 5], [55, 35]]
    labels = one(tmp_path, [shape("mark", points, "linestrip")], classes={"mark": 1}, line_width_px=7)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    near = np.full(SIZE, np.inf)
    for (x0, y0), (x1, y1) in pairwise(points):
        along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        near = np.minimum(near, np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)))
    inside = (x > 9) & (x < 51)  # the ends are cut off square
    assert (labels[(near < 2.5) & inside] == 1).all() and (labels[near > 4.8] == 0).all()


def test_a_line_of_no_length_is_a_dot():
    assert [len(part) >= 3 for part in stroke([(5, 5), (5, 5)], 4)] == [True]


def test_background_is_ignored_unless_it_is_named(tmp_path):
    labels = one(tmp_path, [shape("road", [[0, 20], [59, 20], [59, 39], [0, 39]])], classes={"road": 0, "sky": 1})
    assert labels[0, 0] == 2  # the first id that is free
    taxonomy = load_taxonomy("hdmap")
    ids = {}
    for background in (None, "sky", "other"):
        source = open_labelme(tmp_path, classes={"road": 0, "sky": 1}, background=background)
        frames = MappedFrames(source, LabelSets.collect(taxonomy, source.classes.sets_in(taxonomy).values()))
        mask = frames[0][1]
        assert mask[30, 30] == taxonomy.id_of("road")
        ids[background] = mask[0, 0]
    assert ids == {None: 255, "sky": taxonomy.id_of("sky"), "other": taxonomy.id_of("other")}


def test_labels_come_from_the_list_beside_the_images_or_else_from_the_files(tmp_path):
    write_image(tmp_path / "x.jpg")
    write(tmp_path, "x", [shape("road", [[0, 0], [9, 0], [9, 9]]), shape("car", [[1, 1], [5, 1], [5, 5]])])
    assert [(x.id, x.name) for x in open_labelme(tmp_path).classes.labels] == [
        (0, "unannotated"),
        (1, "car"),
        (2, "road"),
    ]
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nroad\n\ncar\n")
    table = open_labelme(tmp_path).classes
    assert {x.name: x.id for x in table.labels} == {
        "unannotated": 0,
        "__ignore__": 1,
        "_background_": 2,
        "road": 3,
        "car": 4,
    }
    assert not table.label("__ignore__").to
    (tmp_path / "labels.txt").write_text("road\nroad\n")
    with pytest.raises(DataError, match=r"labels.txt names road more than once"):
        open_labelme(tmp_path)


def test_files_may_lie_apart_from_the_images_with_windows_paths(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / "images" / split / "a" / "x.png")
        write(tmp_path / "json", f"{split}/a/x", [], image=r"..\..\images\x.png")
    frames = open_labelme(tmp_path, images="images", annotations="json", classes={"road": 1}).frames
    assert [(f.name, f.split, f.drive) for f in frames] == [("train/a/x", "train", "a"), ("val/a/x", "val", "a")]
    assert frames[1].image == "images/val/a/x.png" and frames[1].label == "json/val/a/x.json"


def test_a_file_without_shapes_is_background_everywhere(tmp_path):
    assert (one(tmp_path, [], classes={"road": 1}) == 0).all()


def test_an_unlabelled_image_is_refused_or_left_out(tmp_path):
    write_image(tmp_path / "x.jpg")
    write_image(tmp_path / "y.jpg")
    write(tmp_path, "x", [])
    with pytest.raises(DataError, match=r"1 image\(s\) .* have no mask of the same name .*: y.jpg"):
        open_labelme(tmp_path, classes={"road": 1})
    assert [f.name for f in open_labelme(tmp_path, classes={"road": 1}, skip_unlabelled=True).frames] == ["x"]
    write(tmp_path, "gone", [])
    with pytest.raises(DataError, match=r"1 mask\(s\) .* have no image .*: gone.json"):
        open_labelme(tmp_path, classes={"road": 1}, skip_unlabelled=True)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (shape("tree", [[0, 0], [5, 0], [5, 5]]), r"x.json, shape 1 \('tree'\): no such label; there are .*road"),
        (shape("road", [[0, 0]], "point"), r"shape 1 \('road'\) is a point, which has no area"),
        (shape("road", [[0, 0], [9, 9]], "mask"), r"is a mask, which has no area here; use polygon"),
        (shape("road", [[0, 0], [5, 0]]), r"shape 1 \('road'\) has 2 point\(s\), 3 are needed"),
        (shape("road", [[0, 0]], "line"), r"has 1 point\(s\), 2 are needed"),
        (shape("road", [[0, 0], [1, 1], [2, 2]], "circle"), r"is a circle of 3 points; it needs 2"),
        (shape("road", []), r"has 0 point\(s\), 3 are needed"),
        (shape("road", [[0, 0], [5], [5, 5]]), r"points must be pairs of numbers"),
        (shape("road", [[0, 0], [5, "a"], [5, 5]]), r"points must be pairs of numbers"),
        (shape("road", [[0, 0], [5, float("nan")], [5, 5]]), r"points must be pairs of numbers"),
        (shape("road", [[0, 0], [5, 1e30], [5, 5]]), r"x.json: .*nowhere near the image"),
        ({"label": "road", "shape_type": "polygon"}, r"points must be pairs of numbers"),
    ],
)
def test_broken_shapes_are_named(tmp_path, bad, message):
    good = shape("road", [[0, 0], [5, 0], [5, 5]])
    with pytest.raises(DataError, match=message):
        one(tmp_path, [good, bad], classes={"road": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imageHeight": 60, "imageWidth": 40}, r"x.json was drawn on an image of 40x60, but the image is 60x40"),
        ({"imagePath": "other.jpg"}, r"x.json was drawn on other.jpg by its imagePath"),
        ({"shapes": None}, r"x.json is not a LabelMe file"),
        ({"shapes": [{"points": []}]}, r"x.json is not a LabelMe file"),
    ],
)
def test_files_of_another_image_or_form_are_refused(tmp_path, changes, message):
    write_image(tmp_path / "x.jpg")
    write(tmp_path, "x", **{"shapes": [], **changes})
    with pytest.raises(DataError, match=message):
        open_labelme(tmp_path, classes={"road": 1}).read_labels(0, SIZE)


@pytest.mark.parametrize("text", ['{"shapes": [', "", "[" * 100_000, "[1, 2]", b"\xff\xfe\x00"])
def test_truncated_or_strange_json_is_named(tmp_path, text):
    write_image(tmp_path / "x.jpg")
    (tmp_path / "x.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=r"x.json is not (JSON|a LabelMe file)"):
        open_labelme(tmp_path, classes={"road": 1}).read_labels(0, SIZE)


def test_options_that_cannot_work_are_refused(tmp_path):
    for options, message in (({"split": "dev"}, "use train, val or test"), ({"line_width_px": 0}, "use 1 or more")):
        with pytest.raises(ConfigError, match=message):
            open_labelme(tmp_path, **options)
    with pytest.raises(DataError, match=r"no folder .*save each image's shapes with LabelMe"):
        open_labelme(tmp_path, images="images")
