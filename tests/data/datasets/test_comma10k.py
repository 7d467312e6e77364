"""comma10k: a tiny tree in the layout of its repository."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.class_table import load_class_table
from roadseg.data.datasets.comma10k import open_comma10k
from roadseg.data.mapped import MappedFrames
from roadseg.errors import DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

TRAIN = "0000_0085e9e41513078a_2018-08-19--13-26-08_11_864"
VAL = "0001_a23b0de0bc12dcba_2018-06-24--00-29-19_17_79"
COLOURS = {1: "#402020", 2: "#ff0000", 3: "#808060", 4: "#00ff66", 5: "#cc00ff", 6: "#00ccff"}
IDS = np.array([[1, 2, 3], [4, 5, 5]])


def rgb(ids: np.ndarray) -> np.ndarray:
    values = {i: [int(code[k : k + 2], 16) for k in (1, 3, 5)] for i, code in COLOURS.items()}
    return np.array([[values[int(i)] for i in row] for row in ids], np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("imgs", "masks", "imgs2", "masks2"):
        (tmp_path / part).mkdir()
    for name in (TRAIN, VAL):
        Image.new("RGB", (3, 2), (100, 120, 90)).save(tmp_path / "imgs" / f"{name}.png")
        Image.fromarray(rgb(IDS)).save(tmp_path / "masks" / f"{name}.png")
    Image.new("RGB", (3, 2)).save(tmp_path / "imgs2" / "00000_e_20f59690c1da9379_2021-02-08--09-26-00_7_646.png")
    return tmp_path


def classes_of(label: str, taxonomy: str) -> set[str]:
    target, table = load_taxonomy(taxonomy), load_class_table("comma10k")
    return {target.names[c] for c in table.sets_in(target)[table.label(label).id]}


def test_colours_are_those_of_the_guide():
    labels = load_class_table("comma10k").labels
    assert {x.id: "#{:02x}{:02x}{:02x}".format(*x.colour) for x in labels} == COLOURS
    assert [x.name for x in labels] == ["road", "lane markings", "undrivable", "movable", "my car", "movable in my car"]


def test_frames_whose_name_ends_in_9_are_val_and_drives_are_routes(folder):
    assert [tuple(frame) for frame in open_comma10k(folder).frames] == [
        (TRAIN, f"imgs/{TRAIN}.png", f"masks/{TRAIN}.png", "0085e9e41513078a_2018-08-19--13-26-08", "train"),
        (VAL, f"imgs/{VAL}.png", f"masks/{VAL}.png", "a23b0de0bc12dcba_2018-06-24--00-29-19", "val"),
    ]


def test_colours_become_label_ids_and_sets(folder):
    comma10k = open_comma10k(folder)
    assert comma10k.read_labels(0, comma10k.image_size(0)).tolist() == IDS.tolist()
    hdmap = load_taxonomy("hdmap")
    sets = LabelSets.collect(hdmap, comma10k.classes.sets_in(hdmap).values())
    mask = MappedFrames(comma10k, sets).read_mask(1, (2, 3))
    assert mask[0, 1] == hdmap.id_of("lane_marking")
    assert sets.names[mask[0, 0]] == "road+lane_marking+crosswalk+manhole"
    assert sets.names[mask[1, 0]] == "vehicle+two_wheeler+person+other"
    assert mask[1, 1:].tolist() == [255, 255]


def test_palette_masks_are_read_by_their_colours(folder):
    path = folder / "masks" / f"{TRAIN}.png"
    picture = Image.fromarray(rgb(IDS)).quantize(5)
    picture.save(path)
    assert Image.open(path).mode == "P"
    assert open_comma10k(folder).read_labels(0, (2, 3)).tolist() == IDS.tolist()


def test_arrows_and_crosswalks_are_road_and_lines_are_not():
    assert classes_of("lane markings", "hdmap") == {"lane_marking"}
    road, lines = classes_of("road", "hdmap-lanes"), classes_of("lane markings", "hdmap-lanes")
    assert {"lane_arrow", "crosswalk", "road"} <= road and not road & {"lane_solid", "lane_dashed", "lane_double"}
    assert {"lane_solid", "lane_dashed", "lane_double"} <= lines and not lines & {"lane_arrow", "crosswalk", "road"}


def test_together_the_labels_cover_every_class():
    named = [classes_of(name, "hdmap") for name in ("road", "lane markings", "undrivable", "movable")]
    assert set().union(*named) == set(load_taxonomy("hdmap").names)
    assert named[2] & named[3] == {"other"} and not named[2] & named[0]
    assert classes_of("my car", "hdmap") == classes_of("movable in my car", "hdmap") == set()


def test_a_colour_that_anti_aliasing_made_is_named(folder):
    colours = rgb(IDS)
    colours[0, 0] = (160, 16, 16)
    Image.fromarray(colours).save(folder / "masks" / f"{VAL}.png")
    with pytest.raises(
        DataError, match=rf"{VAL}.png holds 1 colour\(s\) that are no label .*: \(160, 16, 16\) in 1 pixels"
    ):
        open_comma10k(folder).read_labels(1, (2, 3))


def test_missing_parts_are_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"comma10k: no folder .*gone/imgs.*git clone .*commaai/comma10k"):
        open_comma10k(tmp_path / "gone")
    (folder / "imgs" / f"{TRAIN}.png").unlink()
    with pytest.raises(DataError, match=rf"1 mask\(s\) in .*masks have no image .*: {TRAIN}.png"):
        open_comma10k(folder)
