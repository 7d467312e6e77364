"""KITTI semantics in its official layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.datasets.kitti import open_kitti
from roadseg.data.mapped import MappedFrames
from roadseg.errors import DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

NAMES = ["000000_10", "000001_10", "000199_10"]


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "kitti"
    for part in (
        "training/image_2",
        "training/semantic",
        "training/semantic_rgb",
        "training/instance",
        "testing/image_2",
    ):
        (folder / part).mkdir(parents=True)
    for i, name in enumerate(NAMES):
        Image.new("RGB", (24, 8)).save(folder / "training/image_2" / f"{name}.png")
        Image.new("RGB", (24, 8)).save(folder / "training/semantic_rgb" / f"{name}.png")
        Image.fromarray(np.full((8, 24), 26 * 256, np.uint16)).save(folder / "training/instance" / f"{name}.png")
        mask = np.arange(192, dtype=np.uint8).reshape(8, 24) % 34
        mask[0, 0] = 7 + i
        Image.fromarray(mask).save(folder / "training/semantic" / f"{name}.png")
    Image.new("RGB", (24, 8)).save(folder / "testing/image_2/000000_10.png")
    return folder


def test_every_frame_is_train_and_a_drive_of_its_own(root):
    frames = list(open_kitti(root).frames)
    assert [(f.name, f.drive, f.split) for f in frames] == [(name, name, "train") for name in NAMES]
    assert frames[1].image == "training/image_2/000001_10.png" and frames[1].label == "training/semantic/000001_10.png"


def test_masks_hold_the_ids_of_cityscapes(root):
    source = open_kitti(root)
    assert [source.read_labels(i, (8, 24))[0, 0] for i in range(3)] == [7, 8, 9]
    assert source.classes.name == "kitti" and source.classes.licence == "CC BY-NC-SA 3.0"
    taxonomy = load_taxonomy("cityscapes19")
    mask = MappedFrames(source, LabelSets.collect(taxonomy, source.classes.sets_in(taxonomy).values()))[0][1]
    train = {
        7: 0,
        8: 1,
        11: 2,
        12: 3,
        13: 4,
        17: 5,
        19: 6,
        20: 7,
        21: 8,
        22: 9,
        23: 10,
        24: 11,
        25: 12,
        26: 13,
        27: 14,
        28: 15,
        31: 16,
        32: 17,
        33: 18,
    }
    assert np.array_equal(mask, np.vectorize(lambda i: train.get(i, 255))(source.read_labels(0, (8, 24))))


@pytest.mark.parametrize("missing", ["image_2", "semantic"])
def test_a_missing_folder_says_how_to_get_it(root, missing):
    (root / "training" / missing).rename(root / "moved")
    with pytest.raises(
        DataError, match=rf"KITTI semantics: no folder .*{missing} .*; register at .*data_semantics.zip"
    ):
        open_kitti(root)


def test_an_unpaired_frame_is_named(root):
    (root / "training/semantic/000001_10.png").unlink()
    with pytest.raises(DataError, match=r"1 image\(s\) in .*image_2 have no mask .*: 000001_10.png"):
        open_kitti(root)


def test_a_mask_of_another_size_is_named(root):
    Image.new("L", (20, 8), 7).save(root / "training/semantic/000000_10.png")
    with pytest.raises(DataError, match=r"000000_10.png is 24x8 but its mask .* is 20x8"):
        open_kitti(root).read_labels(0, (8, 24))
