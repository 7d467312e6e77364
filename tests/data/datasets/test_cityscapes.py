"""Cityscapes in its official layout: names, splits, labels in every form, and what breaks them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.class_table import ClassTable, load_class_table
from roadseg.data.datasets.cityscapes import open_cityscapes
from roadseg.data.mapped import MappedFrames
from roadseg.errors import ConfigError, DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

HEIGHT, WIDTH = 16, 32
FRAMES = {
    "train": ["aachen_000000_000019", "aachen_000001_000019", "zurich_000000_000019"],
    "val": ["frankfurt_000000_000294"],
}
OBJECTS = [
    ("out of roi", [[0, 0], [31, 0], [31, 15], [0, 15]]),
    ("road", [[0, 8], [31, 8], [31, 15], [0, 15]]),
    ("cargroup", [[4, 6], [12, 6], [12, 12], [4, 12]]),
    ("license plate", [[7, 10], [9, 10], [9, 11], [7, 11]]),
    ("polegroup", [[20, 0], [22, 0], [22, 8], [20, 8]]),
]


def expected_ids() -> np.ndarray:
    """The labels of OBJECTS by hand: outlines belong to the object, the plate stays car."""
    mask = np.full((HEIGHT, WIDTH), 3, np.uint8)
    mask[8:] = 7
    mask[6:13, 4:13] = 26
    mask[0:9, 20:23] = 18
    return mask


def write_polygons(path: Path, objects=OBJECTS, height=HEIGHT, width=WIDTH) -> None:
    listed = [{"label": label, "polygon": polygon} for label, polygon in objects]
    path.write_text(json.dumps({"imgHeight": height, "imgWidth": width, "objects": listed}))


def write_frame(root: Path, split: str, name: str, truth: str = "gtFine") -> None:
    city = name.partition("_")[0]
    images, labels = root / "leftImg8bit" / split / city, root / truth / split / city
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 9)).save(images / f"{name}_leftImg8bit.png")
    ids = expected_ids()
    Image.fromarray(ids).save(labels / f"{name}_{truth}_labelIds.png")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(labels / f"{name}_{truth}_instanceIds.png")
    Image.new("RGBA", (WIDTH, HEIGHT)).save(labels / f"{name}_{truth}_color.png")
    train = np.full(256, 255, np.uint8)
    train[[7, 26]] = 0, 13
    Image.fromarray(train[ids]).save(labels / f"{name}_{truth}_labelTrainIds.png")
    write_polygons(labels / f"{name}_{truth}_polygons.json")


@pytest.fixture
def root(tmp_path) -> Path:
    for split, names in FRAMES.items():
        for name in names:
            write_frame(tmp_path / "cityscapes", split, name)
    return tmp_path / "cityscapes"


def label_file(root: Path, ending: str, name: str = "aachen_000000_000019") -> Path:
    return root / "gtFine" / "train" / name.partition("_")[0] / f"{name}_gtFine_{ending}"


def meanings(table: ClassTable, taxonomy: str) -> dict[str, set[str]]:
    target = load_taxonomy(taxonomy)
    sets = table.sets_in(target)
    return {label.name: {target.names[c] for c in sets[label.id]} for label in table.labels}


def test_frames_have_their_names_cities_and_splits_and_other_files_are_passed_over(root):
    frames = list(open_cityscapes(root).frames)
    assert [(f.name, f.drive, f.split) for f in frames] == [
        ("aachen_000000_000019", "aachen", "train"),
        ("aachen_000001_000019", "aachen", "train"),
        ("zurich_000000_000019", "zurich", "train"),
        ("frankfurt_000000_000294", "frankfurt", "val"),
    ]
    assert frames[0].image == "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
    assert frames[0].label == "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"


def test_label_ids_and_polygons_are_the_same_pixels(root):
    for labels in ("labelIds", "polygons"):
        source = open_cityscapes(root, labels)
        assert np.array_equal(source.read_labels(0, source.image_size(0)), expected_ids()), labels


@pytest.mark.parametrize("labels", ["labelIds", "trainIds", "polygons"])
def test_every_form_gives_the_same_mask_in_the_19_classes(root, labels):
    source = open_cityscapes(root, labels)
    taxonomy = load_taxonomy("cityscapes19")
    frames = MappedFrames(source, LabelSets.collect(taxonomy, source.classes.sets_in(taxonomy).values()))
    expected = np.full((HEIGHT, WIDTH), 255, np.uint8)
    expected[expected_ids() == 7] = 0
    expected[expected_ids() == 26] = 13
    assert np.array_equal(frames[0][1], expected)


def test_a_mask_in_hdmap_holds_sets_where_cityscapes_does_not_tell_apart(root):
    source = open_cityscapes(root)
    taxonomy = load_taxonomy("hdmap")
    sets = LabelSets.collect(taxonomy, source.classes.sets_in(taxonomy).values())
    mask = MappedFrames(source, sets)[0][1]
    named = {255: "ignored", **dict(enumerate(sets.names))}
    assert named[mask[15, 0]] == "road+lane_marking+crosswalk+manhole"
    assert (
        named[mask[8, 8]] == "vehicle" and named[mask[0, 20]] == "pole+street_light" and named[mask[0, 0]] == "ignored"
    )


def test_train_ids_of_the_table_are_the_19_classes_in_order():
    table = load_class_table("cityscapes")
    taxonomy = load_taxonomy("cityscapes19")
    assert [label.id for label in table.labels] == [*range(34), 255]
    by_train_id = {label.train_id: label for label in table.labels if label.train_id not in (None, 255)}
    assert sorted(by_train_id) == list(range(19))
    for i, c in enumerate(taxonomy.classes):
        assert (by_train_id[i].name, by_train_id[i].colour) == (c.name, c.colour)
        assert by_train_id[i].to["cityscapes19"] == (c.name,)
    assert not any(x.to.get("cityscapes19") for x in table.labels if x.train_id in (None, 255))


def test_meanings_in_hdmap():
    told = meanings(load_class_table("cityscapes"), "hdmap")
    road = {"road", "lane_marking", "crosswalk", "manhole"}
    assert told["road"] == told["parking"] == road
    assert told["sidewalk"] == {"sidewalk", "curb"} and told["terrain"] == {"terrain", "curb"}
    assert told["guard rail"] == told["fence"] == {"barrier"} and told["rider"] == {"two_wheeler"}
    assert told["pole"] == {"pole", "street_light"} and told["train"] == {"vehicle"}
    for name in ("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "license plate"):
        assert told[name] == set(), name


def test_the_test_split_is_left_out(root):
    write_frame(root, "test", "berlin_000000_000019")
    assert open_cityscapes(root).frames.splits == ["train", "val"]


def test_coarse_labels_read_train_extra_as_train_but_not_the_corrupt_frame(root):
    for split, names in FRAMES.items():
        for name in names:
            write_frame(root, split, name, "gtCoarse")
    for name in ("bad-honnef_000000_000000", "troisdorf_000000_000073"):
        write_frame(root, "train_extra", name, "gtCoarse")
    source = open_cityscapes(root, "polygons", coarse=True)
    extra = [f for f in source.frames if f.name.startswith(("bad-honnef", "troisdorf"))]
    assert [(f.name, f.drive, f.split) for f in extra] == [("bad-honnef_000000_000000", "bad-honnef", "train")]
    assert len(source) == 5
    assert np.array_equal(source.read_labels(0, (HEIGHT, WIDTH)), expected_ids())


def test_coarse_labels_without_the_images_of_train_extra_are_fine(root):
    write_frame(root, "val", "frankfurt_000000_000294", "gtCoarse")
    for split, name in [("train", name) for name in FRAMES["train"]]:
        write_frame(root, split, name, "gtCoarse")
    (root / "gtCoarse" / "train_extra" / "bonn").mkdir(parents=True)
    assert len(open_cityscapes(root, coarse=True)) == 4


def test_an_unknown_form_lists_the_known():
    with pytest.raises(ConfigError, match="cityscapes has no labels 'labelids'; use labelIds, trainIds, polygons"):
        open_cityscapes(Path("nowhere"), "labelids")


@pytest.mark.parametrize("missing", ["leftImg8bit", "gtFine"])
def test_a_missing_tree_says_how_to_get_it(root, missing):
    (root / missing).rename(root / "other")
    with pytest.raises(DataError, match=rf"no folder .*{missing} \(.*\); register at https://www.cityscapes-dataset"):
        open_cityscapes(root)


def test_trees_without_train_and_val_are_refused(root):
    for tree in ("leftImg8bit", "gtFine"):
        for split in ("train", "val"):
            (root / tree / split).rename(root / tree / f"{split}_old")
    with pytest.raises(DataError, match="leftImg8bit has neither train nor val; register"):
        open_cityscapes(root)


def test_train_ids_that_nobody_made_are_explained(root):
    for path in root.rglob("*_labelTrainIds.png"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"gtFine/train holds no file that ends in _gtFine_labelTrainIds.png; make them"
    ):
        open_cityscapes(root, "trainIds")


def test_an_image_without_labels_is_named(root):
    label_file(root, "labelIds.png").unlink()
    with pytest.raises(DataError, match=r"1 image\(s\) in .* have no mask .*: aachen/aachen_000000_000019_leftImg8bit"):
        open_cityscapes(root)


def test_labels_without_an_image_are_named(root):
    (root / "leftImg8bit/train/zurich/zurich_000000_000019_leftImg8bit.png").unlink()
    with pytest.raises(
        DataError, match=r"1 mask\(s\) in .* have no image .*: zurich/zurich_000000_000019_gtFine_labelI"
    ):
        open_cityscapes(root)


def read_polygons(root: Path) -> np.ndarray:
    return open_cityscapes(root, "polygons").read_labels(0, (HEIGHT, WIDTH))


def test_an_unknown_label_of_a_polygon_is_named_with_its_file(root):
    write_polygons(label_file(root, "polygons.json"), [*OBJECTS, ("lane marking", [[0, 0], [1, 0], [1, 1]])])
    with pytest.raises(
        DataError, match=r"aachen_000000_000019_gtFine_polygons.json, object 5: label 'lane marking' is"
    ):
        read_polygons(root)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_truncated_json_is_named(root, keep):
    path = label_file(root, "polygons.json")
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(
        DataError, match=r"aachen_000000_000019_gtFine_polygons.json is not a JSON file, or is cut short"
    ):
        read_polygons(root)


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"imgHeight": 16, "imgWidth": 32, "objects": {}}', '{"imgHeight": "16"}']
)
def test_json_of_another_kind_is_refused(root, text):
    label_file(root, "polygons.json").write_text(text)
    with pytest.raises(DataError, match="holds no polygons of Cityscapes' form"):
        read_polygons(root)


@pytest.mark.parametrize("polygon", [None, [[1]], [[1, 2, 3]], [["1", "2"]], [[0, 0], [1, None], [2, 2]]])
def test_a_malformed_polygon_is_named(root, polygon):
    write_polygons(label_file(root, "polygons.json"), [("road", polygon)])
    with pytest.raises(DataError, match=r"polygons.json, object 0: expected a label and a polygon"):
        read_polygons(root)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, -1e300])
def test_a_coordinate_that_is_no_place_is_named(root, value):
    write_polygons(label_file(root, "polygons.json"), [("road", [[0, 0], [4, 0], [4, value]])])
    with pytest.raises(DataError, match=r"polygons.json: a polygon of label 7 has the point \(4, .*nowhere near"):
        read_polygons(root)


def test_labels_drawn_on_another_size_are_refused_before_anything_is_drawn(root):
    write_polygons(label_file(root, "polygons.json"), height=10**9, width=10**9)
    with pytest.raises(DataError, match=r"was drawn on an image of 1000000000x1000000000, but its image is 32x16"):
        read_polygons(root)


def test_deleted_objects_and_polygons_without_area_are_not_drawn(root):
    path = label_file(root, "polygons.json")
    document = json.loads(path.read_text())
    document["objects"].append({"label": "sky", "polygon": [[0, 0], [9, 0], [9, 9]], "deleted": 1, "id": 7})
    document["objects"].append({"label": "sky", "polygon": [[0, 0], [9, 0]], "deleted": 0})
    document["objects"].append({"label": "sky", "polygon": []})
    path.write_text(json.dumps(document))
    assert np.array_equal(read_polygons(root), expected_ids())


def test_an_id_that_cityscapes_does_not_have_is_refused(root):
    Image.new("L", (WIDTH, HEIGHT), 34).save(label_file(root, "labelIds.png"))
    source = open_cityscapes(root)
    taxonomy = load_taxonomy("cityscapes19")
    frames = MappedFrames(source, LabelSets.collect(taxonomy, source.classes.sets_in(taxonomy).values()))
    with pytest.raises(DataError, match=r"1 value outside the label set: 34 \(512 pixels\); allowed are 0 to 33, 255"):
        frames[0]
