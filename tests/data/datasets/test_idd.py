"""IDD in its official layout: polygons and the masks that the public tool makes of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.class_table import load_class_table
from roadseg.data.datasets.idd import open_idd
from roadseg.data.mapped import MappedFrames
from roadseg.errors import ConfigError, DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

SIZE = (12, 20)
OBJECTS = [
    ("road", [[0, 6], [19, 6], [19, 11], [0, 11]]),
    ("curb", [[0, 4], [19, 4], [19, 5], [0, 5]]),
    ("autorickshaw", [[2, 2], [6, 2], [6, 8], [2, 8]]),
    ("license plate", [[3, 7], [4, 7], [4, 8], [3, 8]]),
    ("persongroup", [[10, 1], [11, 1], [11, 7], [10, 7]]),
]


def expected(ids: dict[str, int]) -> np.ndarray:
    mask = np.full(SIZE, ids["unlabeled"], np.uint8)
    mask[6:] = ids["road"]
    mask[4:6] = ids["curb"]
    mask[2:9, 2:7] = ids["autorickshaw"]
    mask[7:9, 3:5] = ids["license plate"]
    mask[1:8, 10:12] = ids["person"]
    return mask


IDS = {"unlabeled": 35, "road": 0, "curb": 19, "autorickshaw": 11, "license plate": 39, "person": 6}
LEVEL3 = {"unlabeled": 255, "road": 0, "curb": 13, "autorickshaw": 8, "license plate": 255, "person": 4}


def write_frame(root: Path, split: str, sequence: str, frame: str, suffix: str) -> None:
    images, labels = root / "leftImg8bit" / split / sequence, root / "gtFine" / split / sequence
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(images / f"{frame}_leftImg8bit{suffix}")
    objects = [{"date": "", "deleted": 0, "draw": True, "label": n, "polygon": p, "user": ""} for n, p in OBJECTS]
    document = {"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": objects}
    (labels / f"{frame}_gtFine_polygons.json").write_text(json.dumps(document))
    Image.fromarray(expected(IDS)).save(labels / f"{frame}_gtFine_labelids.png")
    Image.fromarray(expected(LEVEL3)).save(labels / f"{frame}_gtFine_labellevel3Ids.png")


@pytest.fixture
def root(tmp_path) -> Path:
    write_frame(tmp_path, "train", "0", "frame0029", ".png")
    write_frame(tmp_path, "train", "201", "frame0029", ".jpg")
    write_frame(tmp_path, "val", "119", "024541", ".jpg")
    (tmp_path / "leftImg8bit" / "test" / "7").mkdir(parents=True)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "leftImg8bit" / "test" / "7" / "1_leftImg8bit.png")
    return tmp_path


def test_frames_of_equal_numbers_in_two_sequences_keep_apart(root):
    frames = list(open_idd(root).frames)
    assert [(f.name, f.drive, f.split) for f in frames] == [
        ("0/frame0029", "0", "train"),
        ("201/frame0029", "201", "train"),
        ("119/024541", "119", "val"),
    ]
    assert frames[1].image == "leftImg8bit/train/201/frame0029_leftImg8bit.jpg"
    assert frames[2].label == "gtFine/val/119/024541_gtFine_polygons.json"


def test_polygons_are_drawn_by_the_ids_of_the_table(root):
    labels = open_idd(root).read_labels(0, SIZE)
    person = load_class_table("idd").label("person").id
    assert np.array_equal(labels, expected({**IDS, "person": person}))


@pytest.mark.parametrize(("labels", "ids"), [("ids", IDS), ("level3Ids", LEVEL3)])
def test_made_masks_are_read_as_stored(root, labels, ids):
    assert np.array_equal(open_idd(root, labels).read_labels(2, SIZE), expected(ids))


@pytest.mark.parametrize("labels", ["polygons", "ids", "level3Ids"])
def test_every_form_gives_the_same_mask_in_the_19_classes(root, labels):
    source = open_idd(root, labels)
    taxonomy = load_taxonomy("cityscapes19")
    frames = MappedFrames(source, LabelSets.collect(taxonomy, source.classes.sets_in(taxonomy).values()))
    ignored = dict.fromkeys(("unlabeled", "curb", "autorickshaw", "license plate"), 255)
    assert np.array_equal(frames[0][1], expected({**ignored, "road": 0, "person": 11}))


def told(table: str, taxonomy: str) -> dict[str, set[str]]:
    target = load_taxonomy(taxonomy)
    labels = load_class_table(table)
    sets = labels.sets_in(target)
    return {x.name: {target.names[c] for c in sets[x.id]} for x in labels.labels}


def test_meanings_in_hdmap_use_that_curbs_are_told_apart():
    full = told("idd", "hdmap")
    assert full["road"] == {"road", "lane_marking", "crosswalk", "manhole"}
    assert full["sidewalk"] == {"sidewalk"} and full["curb"] == {"curb"}
    assert full["autorickshaw"] == {"vehicle"} and full["animal"] == {"other"} and full["billboard"] == {"other"}
    assert full["vegetation"] == {"vegetation", "terrain"} and full["guard rail"] == {"barrier"}
    assert full["unlabeled"] == full["fallback background"] == full["ego vehicle"] == set()


def test_ids_of_the_published_table():
    table = load_class_table("idd")
    assert table.ids == list(range(40))
    by_name = {x.name: (x.id, x.train_id) for x in table.labels}
    assert by_name["parking"] == (1, 1) and by_name["vehicle fallback"] == (18, 12) and by_name["sky"] == (33, 25)
    assert by_name["fallback background"] == (34, 25) and by_name["license plate"] == (39, 255)


def test_level_3_means_the_union_of_the_labels_it_unites():
    full, level3 = told("idd", "hdmap"), told("idd_level3", "hdmap")
    for x in load_class_table("idd_level3").labels:
        if x.id == 255:
            assert level3[x.name] == set()
            continue
        united = [y.name for y in load_class_table("idd").labels if y.train_id == x.id]
        assert x.name == "/".join(united) and level3[x.name] == set().union(*(full[name] for name in united)), x.name


def test_an_unknown_form_lists_the_known():
    with pytest.raises(ConfigError, match="idd has no labels 'labelIds'; use polygons, ids, level3Ids"):
        open_idd(Path("nowhere"), "labelIds")


def test_masks_that_nobody_made_are_explained(root):
    for path in root.rglob("*_labellevel3Ids.png"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"no file that ends in _gtFine_labellevel3Ids.png; make them with createLabels"
    ):
        open_idd(root, "level3Ids")


def test_a_label_of_cityscapes_that_idd_does_not_have_is_named(root):
    path = root / "gtFine/train/0/frame0029_gtFine_polygons.json"
    path.write_text(path.read_text().replace('"curb"', '"terrain"'))
    with pytest.raises(DataError, match=r"frame0029_gtFine_polygons.json, object 1: label 'terrain' is none of 'idd'"):
        open_idd(root).read_labels(0, SIZE)


def test_an_unpaired_frame_is_named(root):
    (root / "gtFine/train/201/frame0029_gtFine_polygons.json").unlink()
    with pytest.raises(DataError, match=r"1 image\(s\) in .*have no mask .*: 201/frame0029_leftImg8bit.jpg"):
        open_idd(root)


@pytest.mark.parametrize("missing", ["leftImg8bit", "gtFine"])
def test_a_missing_tree_says_how_to_get_it(root, missing):
    (root / missing).rename(root / "moved")
    with pytest.raises(DataError, match=rf"IDD: no folder .*{missing}.*; register at https://idd.insaan.iiit.ac.in"):
        open_idd(root)
