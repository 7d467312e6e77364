"""ADE20K: a tiny tree in the layout of ADEChallengeData2016."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.class_table import load_class_table
from roadseg.data.datasets.ade20k import open_ade20k
from roadseg.data.mapped import MappedFrames
from roadseg.errors import DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

IDS = np.array([[0, 7, 12], [3, 88, 150]], np.uint8)  # nothing, road, sidewalk; sky, streetlight, flag
NAMES = {"training": ["ADE_train_00000001", "ADE_train_00000002"], "validation": ["ADE_val_00000001"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, names in NAMES.items():
        for part in ("images", "annotations"):
            (tmp_path / part / split).mkdir(parents=True)
        for name in names:
            Image.new("RGB", (3, 2), (50, 60, 70)).save(tmp_path / "images" / split / f"{name}.jpg")
            Image.fromarray(IDS).save(tmp_path / "annotations" / split / f"{name}.png")
    (tmp_path / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n")
    (tmp_path / "sceneCategories.txt").write_text("ADE_train_00000001 airport_terminal\n")
    return tmp_path


def test_the_taxonomy_has_the_150_classes_in_published_order():
    taxonomy = load_taxonomy("ade150")
    assert len(taxonomy) == 150 and taxonomy.names[:7] == [
        "wall",
        "building",
        "sky",
        "floor",
        "tree",
        "ceiling",
        "road",
    ]
    assert taxonomy.names[136] == "traffic light" and taxonomy.names[149] == "flag"
    colours = {c.name: c.colour for c in taxonomy.classes}
    assert colours["road"] == (140, 140, 140) and colours["sidewalk"] == (235, 255, 7)
    assert colours["tree"] == (4, 200, 3) and colours["flag"] == (92, 0, 255)
    assert colours["skyscraper"] == (140, 140, 141)  # published as the colour of road


def test_labels_are_the_classes_moved_by_one():
    table, taxonomy = load_class_table("ade20k"), load_taxonomy("ade150")
    assert table.ids == list(range(151)) and len({x.name for x in table.labels}) == 151
    assert [x.name for x in table.labels[1:]] == taxonomy.names
    sets = table.sets_in(taxonomy)
    assert sets[0] == frozenset() and all(sets[i] == {i - 1} for i in range(1, 151))
    different = [x.name for x, c in zip(table.labels[1:], taxonomy.classes, strict=True) if x.colour != c.colour]
    assert different == ["skyscraper"]


def test_frames_and_label_ids(folder):
    ade20k = open_ade20k(folder)
    assert [(f.name, f.drive, f.split) for f in ade20k.frames] == [
        ("ADE_train_00000001", "ADE_train_00000001", "train"),
        ("ADE_train_00000002", "ADE_train_00000002", "train"),
        ("ADE_val_00000001", "ADE_val_00000001", "val"),
    ]
    assert ade20k.image_size(0) == (2, 3)
    assert np.array_equal(ade20k.read_labels(2, (2, 3)), IDS)


def test_masks_in_its_own_taxonomy_and_in_hdmap(folder):
    ade20k = open_ade20k(folder)
    own = load_taxonomy("ade150")
    frames = MappedFrames(ade20k, LabelSets.collect(own, ade20k.classes.sets_in(own).values()))
    assert frames.read_mask(0, (2, 3)).tolist() == [[255, 6, 11], [2, 87, 149]]
    hdmap = load_taxonomy("hdmap")
    sets = LabelSets.collect(hdmap, ade20k.classes.sets_in(hdmap).values())
    mask = MappedFrames(ade20k, sets).read_mask(0, (2, 3))
    assert mask[0, 0] == 255
    assert [sets.names[i] for i in mask.reshape(-1)[1:]] == [
        "road+lane_marking+crosswalk+curb+manhole",
        "curb+sidewalk",
        "sky",
        "street_light",
        "other",
    ]


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        ("building", {"building"}),
        ("windowpane", {"building"}),
        ("wall", {"wall", "building"}),
        ("fence", {"barrier"}),
        ("railing", {"barrier"}),
        ("tree", {"vegetation"}),
        ("grass", {"terrain"}),
        ("water", {"terrain"}),
        ("van", {"vehicle"}),
        ("minibike", {"two_wheeler"}),
        ("person", {"person", "two_wheeler"}),
        ("signboard", {"traffic_sign", "other"}),
        ("pole", {"pole"}),
        ("bed", {"other"}),
    ],
)
def test_labels_in_hdmap(label, classes):
    hdmap, table = load_taxonomy("hdmap"), load_class_table("ade20k")
    assert {hdmap.names[c] for c in table.sets_in(hdmap)[table.label(label).id]} == classes


def test_only_0_is_ignored_in_hdmap():
    sets = load_class_table("ade20k").sets_in(load_taxonomy("hdmap"))
    assert [id_ for id_, classes in sets.items() if not classes] == [0]


def test_a_mask_that_was_moved_by_one_below_0_is_refused(folder):
    hdmap = load_taxonomy("hdmap")
    path = folder / "annotations" / "training" / "ADE_train_00000001.png"
    Image.fromarray(IDS - np.uint8(1)).save(path)
    ade20k = open_ade20k(folder)
    frames = MappedFrames(ade20k, LabelSets.collect(hdmap, ade20k.classes.sets_in(hdmap).values()))
    with pytest.raises(DataError, match=r"outside the label set: 255 \(1 pixels\); allowed are 0 to 150"):
        frames.read_mask(0, (2, 3))


def test_colour_masks_of_the_full_ade20k_are_refused(folder):
    Image.new("RGB", (3, 2)).save(folder / "annotations" / "training" / "ADE_train_00000001.png")
    with pytest.raises(DataError, match="is an image of colours"):
        open_ade20k(folder).read_labels(0, (2, 3))


def test_missing_parts_are_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"ADE20K: no folder .*gone/images/training.*ADEChallengeData2016"):
        open_ade20k(tmp_path / "gone")
    (folder / "annotations" / "validation" / "ADE_val_00000001.png").unlink()
    with pytest.raises(DataError, match=r"1 image\(s\) in .*images/validation have no mask .*: ADE_val_00000001.jpg"):
        open_ade20k(folder)
    (folder / "annotations" / "validation").rmdir()
    with pytest.raises(DataError, match=r"no folder .*annotations/validation"):
        open_ade20k(folder)
