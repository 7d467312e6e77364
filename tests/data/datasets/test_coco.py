"""COCO annotation files: geometry against pycocotools and Pillow, and every contradiction that is named."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from roadseg.data.annotation_files import PackedRecords
from roadseg.data.datasets.coco import open_coco
from roadseg.data.mapped import MappedFrames
from roadseg.data.shapes import decode_counts
from roadseg.errors import ConfigError, DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

SIZE = (40, 60)
ROAD, CAR = 7, 3  # ids of categories need be neither small nor sorted
CATEGORIES = [
    {"id": ROAD, "name": "road", "supercategory": "none"},
    {"id": CAR, "name": "vehicle", "supercategory": "none"},
]
SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]


def entry(file: str = "a/x.jpg", key: int = 5, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    return {"id": key, "file_name": file, "height": size[0], "width": size[1]}


def annotation(segmentation: Any, category: int = ROAD, key: int = 1, image: int = 5, **more) -> dict[str, Any]:
    found = {"id": key, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0}
    return found | {"area": 1.0, "bbox": [0, 0, 1, 1]} | more


def write(root: Path, annotations: list[dict[str, Any]], images: list[dict[str, Any]] | None = None, **changes) -> Path:
    images = [entry()] if images is None else images
    for image in images:
        path = root / "images" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(path)
    document = {"info": {}, "images": images, "categories": CATEGORIES, "annotations": annotations}
    (root / "annotations.json").write_text(json.dumps(document | changes))
    return root


def labels(root: Path, annotations: list[dict[str, Any]], **options) -> np.ndarray:
    return open_coco(write(root, annotations), **options).read_labels(0, SIZE)


def rle(bits: np.ndarray, compressed: bool) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(bits.astype(np.uint8)))
    if compressed:
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    flat = bits.T.ravel().astype(np.int8)  # down the columns
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(bits.shape), "counts": [0, *counts] if flat[0] else counts}


def pillow(parts: list[list[float]]) -> np.ndarray:
    canvas = Image.new("1", SIZE[::-1])
    for part in parts:
        ImageDraw.Draw(canvas).polygon(part, fill=1)
    return np.array(canvas)


def test_polygons_are_those_of_pillow_and_parts_are_united(tmp_path):
    parts = [[3.4, 38.2, 20.7, 10.1, 41.2, 10.9], [30.5, 5, 57.9, 5, 57.9, 30, 33.3, 30]]
    expected = pillow(parts)
    assert np.array_equal(labels(tmp_path, [annotation(parts)]), np.where(expected, 1, 0))
    assert 300 < expected.sum() < 1500


def test_polygons_agree_with_pycocotools_but_for_their_outlines(tmp_path):
    rng = np.random.default_rng(3)
    for i in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        points = np.stack([30 + 25 * np.cos(angles), 20 + 17 * np.sin(angles)], 1)
        part = points.ravel().tolist()
        found = labels(tmp_path, [annotation([part], key=i)]) == 1
        theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([part], *SIZE))).astype(bool)
        outline = np.zeros(SIZE, bool)
        for t in np.linspace(0, 1, 200):
            x, y = (points * (1 - t) + np.roll(points, -1, 0) * t).T
            outline[np.clip(y.astype(int), 0, 39), np.clip(x.astype(int), 0, 59)] = True
        wide = outline.copy()
        wide[1:] |= outline[:-1]
        wide[:, 1:] |= wide[:, :-1].copy()
        wide[:-1] |= outline[1:]
        wide[:, :-1] |= wide[:, 1:].copy()
        assert np.array_equal(found[~wide], theirs[~wide]) and theirs[~wide].any()


@pytest.mark.parametrize("compressed", [True, False])
def test_run_length_masks_are_exact_with_their_holes(tmp_path, compressed):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ring = (np.hypot(x - 30, y - 20) < 18) & (np.hypot(x - 30, y - 20) > 7)
    masks = [ring, rng.random(SIZE) < 0.5, np.ones(SIZE, bool), np.zeros(SIZE, bool), (y == 0) & (x == 0), ~ring]
    for i, bits in enumerate(masks):
        assert np.array_equal(labels(tmp_path, [annotation(rle(bits, compressed), key=i)]), bits.astype(int))


def test_counts_are_decoded_as_pycocotools_does_also_for_long_runs():
    rng = np.random.default_rng(2)
    for share in (0.0, 0.0001, 0.01, 0.5, 1.0):
        bits = rng.random((700, 900)) < share
        assert decode_counts("x", rle(bits, True)["counts"]) == rle(bits, False)["counts"]


def test_smaller_areas_cover_larger_ones_whatever_their_order_and_kind(tmp_path):
    large = np.zeros(SIZE, bool)
    large[5:35, 5:55] = True
    shapes = [
        annotation([SQUARE], CAR, 1, area=10_000_000),  # what the file says of areas is often wrong
        annotation(rle(large, True), ROAD, 2, area=0),
        annotation([[12, 12, 14, 12, 14, 14, 12, 14]], ROAD, 3),
    ]
    expected = np.zeros(SIZE, int)
    expected[5:35, 5:55] = 1
    expected[10:21, 10:21] = 2
    expected[12:15, 12:15] = 1
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        assert np.array_equal(labels(tmp_path, [shapes[i] for i in order]), expected)


def test_of_equal_areas_the_later_annotation_is_on_top(tmp_path):
    first, second = annotation([SQUARE], CAR, 1), annotation([SQUARE], ROAD, 2)
    assert labels(tmp_path, [first, second])[15, 15] == 1 and labels(tmp_path, [second, first])[15, 15] == 2


def test_crowds_count_as_their_category(tmp_path):
    bits = np.eye(*SIZE, dtype=bool)
    assert np.array_equal(labels(tmp_path, [annotation(rle(bits, False), CAR, iscrowd=1)]), 2 * bits.astype(int))


def test_categories_become_labels_by_position_and_mean_the_classes_of_their_names(tmp_path):
    source = open_coco(write(tmp_path, [annotation([SQUARE], CAR)]))
    assert [(x.id, x.name) for x in source.classes.labels] == [(0, "unannotated"), (1, "road"), (2, "vehicle")]
    hdmap = load_taxonomy("hdmap")
    mask = MappedFrames(source, LabelSets.collect(hdmap, source.classes.sets_in(hdmap).values()))[0][1]
    assert mask[15, 15] == hdmap.id_of("vehicle") and mask[0, 0] == 255


def test_background_may_be_a_category_or_another_name(tmp_path):
    write(tmp_path, [annotation([SQUARE], CAR)])
    assert open_coco(tmp_path, background="road").read_labels(0, SIZE)[0, 0] == 1
    other = open_coco(tmp_path, background="other")
    assert other.classes.label("other").to["hdmap"] == ("other",) and other.read_labels(0, SIZE)[0, 0] == 0


def test_categories_of_one_name_are_one_label(tmp_path):
    categories = [{"id": 0, "name": "road"}, {"id": 1, "name": "road"}, {"id": 2, "name": "sky"}]
    write(tmp_path, [annotation([SQUARE], 1)], categories=categories)
    source = open_coco(tmp_path)
    assert [x.name for x in source.classes.labels] == ["unannotated", "road", "sky"]
    assert source.read_labels(0, SIZE)[15, 15] == 1


def test_an_image_without_annotations_is_background_and_each_image_has_its_own(tmp_path):
    images = [entry("a/x.jpg", 5), entry("b.png", 2**40), entry("a/y.jpg", -1)]
    write(tmp_path, [annotation([SQUARE]), annotation([SQUARE], CAR, 2, image=-1)], images)
    source = open_coco(tmp_path)
    found = {f.name: source.read_labels(i, SIZE)[15, 15] for i, f in enumerate(source.frames)}
    assert found == {"a/x": 1, "a/y": 2, "b": 0}
    assert [(f.drive, f.label) for f in source.frames][2] == ("b", f"annotations.json#{2**40}")
    assert source.frames[0].drive == "a"


def test_images_of_the_folder_that_the_file_does_not_list_are_left_out(tmp_path):
    write(tmp_path, [])
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "more.png")
    assert len(open_coco(tmp_path)) == 1


@pytest.mark.parametrize("file", ["./a/x.jpg", "images/a/x.jpg", "a\\x.jpg"])
def test_paths_are_found_as_other_tools_write_them(tmp_path, file):
    write(tmp_path, [annotation([SQUARE])])
    document = json.loads((tmp_path / "annotations.json").read_text())
    document["images"][0]["file_name"] = file
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    assert open_coco(tmp_path).frames[0].image == "images/a/x.jpg"


def test_splits_come_from_the_option_the_file_name_or_the_folder(tmp_path):
    write(tmp_path, [], [entry("train/1.jpg", 1), entry("val/2.jpg", 2), entry("3.jpg", 3)])
    (tmp_path / "instances_val2017.json").write_bytes((tmp_path / "annotations.json").read_bytes())
    assert {f.name: f.split for f in open_coco(tmp_path).frames} == {"train/1": "train", "val/2": "val", "3": "train"}
    assert open_coco(tmp_path, annotations="instances_val2017.json").frames.splits == ["val"]
    assert open_coco(tmp_path, annotations="instances_val2017.json", split="test").frames.splits == ["test"]
    with pytest.raises(ConfigError, match=r"split is 'dev'; use train, val or test"):
        open_coco(tmp_path, split="dev")


def test_the_reader_survives_pickling_and_never_opens_the_file_again(tmp_path):
    source = open_coco(write(tmp_path, [annotation([SQUARE])]))
    (tmp_path / "annotations.json").unlink()
    copy = pickle.loads(pickle.dumps(source)).take([0])
    assert np.array_equal(copy.read_labels(0, SIZE), source.read_labels(0, SIZE)) and copy.read_labels(0, SIZE).any()


def test_many_annotations_take_less_memory_than_their_file(tmp_path):
    rng = np.random.default_rng(0)
    many = [annotation([np.round(rng.uniform(0, 60, 60), 2).tolist()], key=i) for i in range(500)]
    source = open_coco(write(tmp_path, many))
    assert len(pickle.dumps(source)) < (tmp_path / "annotations.json").stat().st_size


def test_packed_records_give_back_what_was_packed():
    values = {-5: [1, [2.5, None]], 0: [], 7: {"a": b"\x00"}, 2**62: "é"}
    packed = PackedRecords(values.items())
    assert {key: packed[key] for key in values} == values


def test_an_image_of_another_size_than_the_file_says_is_refused(tmp_path):
    write(tmp_path, [], [entry(size=(60, 40))])
    with pytest.raises(DataError, match=r"annotations.json#5 was drawn on an image of 40x60, but the image is 60x40"):
        open_coco(tmp_path).read_labels(0, SIZE)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, 5, 5]], r"annotations.json#5, annotation 1 has 2 point\(s\), 3 are needed"),
        ([[1, 1, 5, 5, 7]], r"annotation 1: a polygon must be a list of numbers .*it is \[1.0, 1.0, 5"),
        ([1, 1, 5, 5, 9, 9], r"annotation 1: a polygon must be a list of numbers .*it is 1"),
        ([[1, 1, 5, 5, 9, None]], r"list of numbers .*it is \[1, 1, 5, 5, 9, None\]"),
        ([[1, 1, 5, 5, 9, float("inf")]], r"points must be pairs of numbers"),
        ([[1, 1, 5, 5, 9, 1e9]], r"annotations.json#5: .*nowhere near"),
        ([], r"annotation 1 has no outline"),
        (None, r"annotation 1 has no outline .*a box is not enough"),
        ({"size": [60, 40], "counts": [2400]}, r"its mask has size \[60, 40\], the image \[40, 60\]"),
        ({"size": [40, 60], "counts": [2399]}, r"describes 2399 pixels, but 60x40 has 2400"),
        ({"size": [40, 60], "counts": [10**12]}, r"describes 1000000000000 pixels"),
        ({"size": [40, 60], "counts": [2500, -100]}, r"run lengths must be whole numbers of 0 or more"),
        ({"size": [40, 60], "counts": [2400.0]}, r"run lengths must be whole"),
        ({"size": [40, 60], "counts": 17}, r"run lengths must be whole"),
        ({"size": [40, 60], "counts": "é1"}, r"counts hold 'é'"),
        ({"size": [40, 60], "counts": "o" * 40}, r"counts hold 'o', which no"),
        ({"size": [40, 60], "counts": "ooo"}, r"counts end in the middle of a number"),
        ({"size": [40, 60], "counts": "O5"}, r"run lengths must be whole numbers of 0 or more"),
    ],
)
def test_broken_shapes_are_named(tmp_path, segmentation, message):
    with pytest.raises(DataError, match=message):
        labels(tmp_path, [annotation(segmentation)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"annotations": [annotation([SQUARE], image=99)]},
            r"annotation 1 belongs to image 99, which is not in the file",
        ),
        (
            {"annotations": [annotation([SQUARE], category=99)]},
            r"annotation 1 has category 99, which is not in the file",
        ),
        ({"annotations": [{"image_id": 5, "segments_info": []}]}, r"is a panoptic file"),
        ({"annotations": [4]}, r"annotations holds 4, which is no mapping"),
        ({"annotations": None}, r"needs the lists images, categories, annotations"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, r"category .*'b'.* needs an id of its own"),
        ({"categories": [{"id": "1", "name": "a"}]}, r"needs an id of its own, a whole number"),
        ({"images": [entry(), entry("a/y.jpg")]}, r"image 'a/y.jpg' has id 5; every image needs"),
        ({"images": [entry(), entry(key=6)]}, r"lists a/x.jpg twice, as images 5 and 6"),
        ({"images": [entry("gone.jpg")]}, r"lists 1 image\(s\) that are not in .*images: gone.jpg"),
        ({"images": [entry("../annotations.json")]}, r"not in .*images: ../annotations.json"),
        ({"images": [{"id": 5, "file_name": "a/x.jpg"}]}, r"image 5 needs file_name, height and width"),
        ({"images": [entry(key="abc")]}, r"has id 'abc'; every image needs a whole number"),
        ({"images": [entry(key=2**63)]}, r"every image needs a whole number"),
        ({"images": []}, r"lists no image"),
    ],
)
def test_contradictions_of_the_file_are_named(tmp_path, changes, message):
    write(tmp_path, [])
    document = json.loads((tmp_path / "annotations.json").read_text())
    (tmp_path / "annotations.json").write_text(json.dumps(document | changes))
    with pytest.raises(DataError, match=message):
        open_coco(tmp_path)


def test_two_images_of_one_name_with_other_endings_are_refused(tmp_path):
    write(tmp_path, [], [entry("x.jpg", 1), entry("x.png", 2)])
    with pytest.raises(DataError, match=r"holds x.jpg and x.png"):
        open_coco(tmp_path)


def test_truncated_and_missing_files_are_named(tmp_path):
    write(tmp_path, [annotation([SQUARE])])
    path = tmp_path / "annotations.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(DataError, match=r"annotations.json is not JSON, or was cut off"):
        open_coco(tmp_path)
    path.write_text("[]")
    with pytest.raises(DataError, match=r"is not a COCO annotation file"):
        open_coco(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read .*annotations.json .*export your annotations as COCO"):
        open_coco(tmp_path)
    with pytest.raises(DataError, match=r"no folder .*pictures"):
        open_coco(tmp_path, images="pictures")
