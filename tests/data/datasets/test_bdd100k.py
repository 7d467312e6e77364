"""BDD100K in its official layout: semantic masks, drivable areas, and lane markings packed into bytes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.class_table import load_class_table
from roadseg.data.datasets.bdd100k import open_bdd100k
from roadseg.data.datasets.bdd100k_lanes import open_bdd100k_lanes
from roadseg.data.mapped import MappedFrames
from roadseg.errors import ConfigError, DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

SIZE = (6, 12)
FRAMES = {"train": ["0000f77c-6257be58", "0000f77c-62c2a288", "7d06fefd-f7be05a6"], "val": ["b1d0a191-03dcecc2"]}


def write(root: Path, images: str, labels: str, mask: np.ndarray) -> None:
    for split, names in FRAMES.items():
        above, beside = root / "images" / images / split, root / "labels" / labels / "masks" / split
        above.mkdir(parents=True, exist_ok=True)
        beside.mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.new("RGB", SIZE[::-1]).save(above / f"{name}.jpg")
            Image.fromarray(mask).save(beside / f"{name}.png")


@pytest.fixture
def root(tmp_path) -> Path:
    ids = np.full(SIZE, 255, np.uint8)
    ids.flat[:19] = range(19)
    write(tmp_path, "10k", "sem_seg", ids)
    write(tmp_path, "100k", "drivable", np.repeat(np.arange(3, dtype=np.uint8), 24).reshape(SIZE))
    write(tmp_path, "100k", "lane", lane_mask())
    for images in ("10k", "100k"):
        (tmp_path / "images" / images / "test").mkdir()
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / images / "test" / "cabc30fc-e7726578.jpg")
    return tmp_path


def lane_mask() -> np.ndarray:
    """Bytes as the published tool packs them: direction << 5 | style << 4 | category, the background all ones."""
    mask = np.full(SIZE, 255, np.uint8)
    mask[0, :8] = range(8)
    mask[1, :8] = np.arange(8) + (1 << 4)
    mask[2, :8] = np.arange(8) + (1 << 5)
    mask[3, :8] = np.arange(8) + (1 << 4) + (1 << 5)
    mask[4, :2] = [1 << 3, 1 << 3 | 5]  # background by its bit, whatever the rest says
    return mask


def masked(source, taxonomy_name: str) -> tuple[np.ndarray, LabelSets]:
    taxonomy = load_taxonomy(taxonomy_name)
    sets = LabelSets.collect(taxonomy, source.classes.sets_in(taxonomy).values())
    return MappedFrames(source, sets)[0][1], sets


def test_frames_drives_and_splits(root):
    source = open_bdd100k(root)
    assert [(f.name, f.drive, f.split) for f in source.frames] == [
        ("0000f77c-6257be58", "0000f77c", "train"),
        ("0000f77c-62c2a288", "0000f77c", "train"),
        ("7d06fefd-f7be05a6", "7d06fefd", "train"),
        ("b1d0a191-03dcecc2", "b1d0a191", "val"),
    ]
    assert source.frames[0].image == "images/10k/train/0000f77c-6257be58.jpg"
    assert source.frames[0].label == "labels/sem_seg/masks/train/0000f77c-6257be58.png"


def test_all_label_sets_are_one_collection(root):
    sources = [open_bdd100k(root), open_bdd100k(root, "drivable"), open_bdd100k_lanes(root)]
    assert {source.collection for source in sources} == {"bdd100k"}
    assert sources[1].frames[0].label == "labels/drivable/masks/train/0000f77c-6257be58.png"
    assert sources[2].frames[3].image == "images/100k/val/b1d0a191-03dcecc2.jpg"


def test_semantic_masks_are_the_19_classes(root):
    mask, _ = masked(open_bdd100k(root), "cityscapes19")
    assert mask.ravel().tolist() == [*range(19), *[255] * 53]


def test_a_pole_of_bdd100k_is_no_street_light(root):
    mask, sets = masked(open_bdd100k(root), "hdmap")
    names = [sets.names[i] for i in mask.ravel()[:19]]
    assert names[:6] == ["road+lane_marking+crosswalk+manhole", "curb+sidewalk", "building", "wall", "barrier", "pole"]
    assert names[11:] == ["person", "two_wheeler", *["vehicle"] * 4, "two_wheeler", "two_wheeler"]


def test_drivable_area_teaches_road_and_ignores_the_background(root):
    mask, sets = masked(open_bdd100k(root, "drivable"), "hdmap")
    assert {sets.names[i] for i in np.unique(mask[:4])} == {"road+lane_marking+crosswalk+manhole"}
    assert (mask[4:] == 255).all()
    assert masked(open_bdd100k(root, "drivable"), "cityscapes19")[0].ravel().tolist() == [0] * 48 + [255] * 24


def test_lane_bytes_are_decoded_and_the_background_bit_wins(root):
    labels = open_bdd100k_lanes(root).read_labels(0, SIZE)
    table = load_class_table("bdd100k_lanes")
    name_of = {label.id: label.name for label in table.labels}
    assert name_of[labels[0, 6]] == "single white, solid, parallel"
    assert name_of[labels[1, 3]] == "double yellow, dashed, parallel"
    assert name_of[labels[2, 0]] == "crosswalk, solid, vertical"
    assert name_of[labels[3, 7]] == "single yellow, dashed, vertical"
    assert (labels[4:] == 255).all() and (labels[:4, 8:] == 255).all()


def test_lane_ids_agree_with_the_bits_they_stand_for():
    categories = [
        "crosswalk",
        "double other",
        "double white",
        "double yellow",
        "road curb",
        "single other",
        "single white",
        "single yellow",
    ]
    labels = load_class_table("bdd100k_lanes").labels
    assert len(labels) == 33 and labels[-1].id == 255
    for label in labels[:-1]:
        style, direction = ("solid", "dashed")[label.id >> 4 & 1], ("parallel", "vertical")[label.id >> 5 & 1]
        assert label.name == f"{categories[label.id & 7]}, {style}, {direction}" and not label.id & 0b11001000


def test_lane_markings_in_hdmap(root):
    mask, sets = masked(open_bdd100k_lanes(root), "hdmap")
    rows = [[sets.names[i] for i in mask[r, :8]] for r in range(4)]
    assert rows[0] == ["crosswalk", *["lane_marking"] * 3, "curb", *["lane_marking"] * 3]
    assert rows[1] == ["crosswalk", *["road+lane_marking"] * 3, "curb", *["road+lane_marking"] * 3]
    assert rows[2] == rows[0] and rows[3] == rows[1]
    assert (mask[4:] == 255).all()


def test_lane_markings_in_hdmap_lanes(root):
    mask, sets = masked(open_bdd100k_lanes(root), "hdmap-lanes")
    named = [[set(sets.names[i].split("+")) for i in mask[r, [1, 4, 6]]] for r in range(4)]
    assert named[0] == [{"lane_double"}, {"curb"}, {"lane_solid"}]
    assert named[1] == [{"lane_double", "road"}, {"curb"}, {"lane_dashed", "road"}]
    assert named[2] == [{"lane_double", "lane_stop_line"}, {"curb"}, {"lane_solid", "lane_stop_line"}]
    assert named[3][2] == {"lane_dashed", "lane_stop_line", "road"}


@pytest.mark.parametrize("value", [64, 128 | 6])
def test_a_lane_byte_with_unused_bits_is_refused(root, value):
    mask = lane_mask()
    mask[5, 5] = value
    Image.fromarray(mask).save(root / "labels/lane/masks/train/0000f77c-6257be58.png")
    with pytest.raises(DataError, match=rf"6257be58.png holds 1 value outside the label set: {value} \(1 pixels\)"):
        masked(open_bdd100k_lanes(root), "cityscapes19")


def test_a_lane_mask_of_16_bits_does_not_wrap(root):
    path = root / "labels/lane/masks/train/0000f77c-6257be58.png"
    Image.fromarray(np.full(SIZE, 256 + 6, np.uint16)).save(path)
    with pytest.raises(DataError, match=r"outside the label set: 262 \(72 pixels\)"):
        masked(open_bdd100k_lanes(root), "cityscapes19")


def test_a_colormap_in_place_of_a_mask_is_refused(root):
    Image.new("RGB", SIZE[::-1]).save(root / "labels/lane/masks/train/0000f77c-6257be58.png")
    with pytest.raises(DataError, match="6257be58.png is an image of colours"):
        open_bdd100k_lanes(root).read_labels(0, SIZE)


def test_an_image_of_100k_without_a_mask_is_left_out_but_one_of_10k_is_named(root):
    for labels in ("drivable", "sem_seg"):
        (root / "labels" / labels / "masks/train/7d06fefd-f7be05a6.png").unlink()
    assert len(open_bdd100k(root, "drivable")) == 3
    with pytest.raises(DataError, match=r"1 image\(s\) in .*10k/train have no mask .*: 7d06fefd-f7be05a6.jpg"):
        open_bdd100k(root)


@pytest.mark.parametrize("labels", ["drivable", "sem_seg"])
def test_a_mask_without_an_image_is_named(root, labels):
    for images in ("10k", "100k"):
        (root / "images" / images / "val/b1d0a191-03dcecc2.jpg").rename(root / f"{images}.jpg")
        Image.new("RGB", SIZE[::-1]).save(root / "images" / images / "val/b1d0a191-00000000.jpg")
    with pytest.raises(DataError, match=r"have no (image|mask) .*: b1d0a191-0"):
        open_bdd100k(root, labels)


def test_folders_without_any_mask_are_refused(root):
    for path in (root / "labels/drivable/masks").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"3 image\(s\) in .*100k/train have no mask"):
        open_bdd100k(root, "drivable")


def test_an_unknown_set_of_labels_lists_the_known():
    with pytest.raises(
        ConfigError, match="bdd100k has no labels 'lane'; use sem_seg, drivable, or the dataset bdd100k_l"
    ):
        open_bdd100k(Path("nowhere"), "lane")


@pytest.mark.parametrize("missing", ["images/10k", "labels/sem_seg"])
def test_a_missing_tree_says_how_to_get_it(root, missing):
    (root / missing).rename(root / "moved")
    with pytest.raises(
        DataError, match=rf"BDD100K: no folder .*{missing}.*; register at https://bdd-data.berkeley.edu"
    ):
        open_bdd100k(root)
