"""KITTI-360 in its official layout: drives, published splits, labels beyond Cityscapes', broken lists."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.class_table import load_class_table
from roadseg.data.datasets.kitti360 import open_kitti360
from roadseg.errors import DataError
from roadseg.taxonomy import load_taxonomy

DRIVES = {"2013_05_28_drive_0000_sync": [250, 251, 252], "2013_05_28_drive_0010_sync": [3]}
SEMANTICS = "data_2d_semantics/train"
LIST = "2013_05_28_drive_{}_frames.txt"


def image_path(drive: str, number: int) -> str:
    return f"data_2d_raw/{drive}/image_00/data_rect/{number:010d}.png"


def mask_path(drive: str, number: int) -> str:
    return f"{SEMANTICS}/{drive}/image_00/semantic/{number:010d}.png"


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_list(root: Path, split: str, frames: list[tuple[str, int]]) -> None:
    lines = [f"{image_path(*frame)} {mask_path(*frame)}\n" for frame in frames]
    (root / SEMANTICS / LIST.format(split)).write_text("".join(lines))


@pytest.fixture
def root(tmp_path) -> Path:
    """Two drives with lists; the image before the first mask and the right camera have no masks that count."""
    folder = tmp_path / "kitti360"
    for drive, numbers in DRIVES.items():
        for number in [0, *numbers]:
            save(Image.new("RGB", (22, 6)), folder / image_path(drive, number))
            save(Image.new("RGB", (22, 6)), folder / image_path(drive, number).replace("image_00", "image_01"))
        for number in numbers:
            save(Image.fromarray(np.full((6, 22), 38, np.uint8)), folder / mask_path(drive, number))
            confidence = mask_path(drive, number).replace("semantic/", "confidence/")
            save(Image.fromarray(np.zeros((6, 22), np.uint16)), folder / confidence)
    first, second = DRIVES
    write_list(folder, "train", [(first, 250), (second, 3)])
    write_list(folder, "val", [(first, 251)])
    return folder


def listed(root: Path) -> list[tuple[str, str, str]]:
    return [(f.name, f.drive, f.split) for f in open_kitti360(root).frames]


def test_the_published_lists_say_the_split_and_leave_out_the_rest(root):
    first, second = DRIVES
    assert listed(root) == [
        (f"{first}/0000000250", first, "train"),
        (f"{first}/0000000251", first, "val"),
        (f"{second}/0000000003", second, "train"),
    ]
    frame = open_kitti360(root).frames[1]
    assert (frame.image, frame.label) == (image_path(first, 251), mask_path(first, 251))


def test_without_lists_every_labelled_frame_is_train(root):
    for split in ("train", "val"):
        (root / SEMANTICS / LIST.format(split)).unlink()
    assert [(name[-3:], split) for name, _, split in listed(root)] == [
        ("250", "train"),
        ("251", "train"),
        ("252", "train"),
        ("003", "train"),
    ]


def test_a_drive_without_images_is_left_out(root):
    first, second = DRIVES
    (root / "data_2d_raw" / first).rename(root / "elsewhere")
    assert listed(root) == [(f"{second}/0000000003", second, "train")]


def test_labels_beyond_those_of_cityscapes():
    table = load_class_table("kitti360")
    assert [label.id for label in table.labels] == [*range(45), 255]
    hdmap, city = load_taxonomy("hdmap"), load_taxonomy("cityscapes19")
    in_hdmap, in_city = table.sets_in(hdmap), table.sets_in(city)
    told = {
        x.name: ({hdmap.names[c] for c in in_hdmap[x.id]}, {city.names[c] for c in in_city[x.id]}) for x in table.labels
    }
    assert told["garage"] == ({"building"}, {"building"}) and told["gate"] == ({"barrier"}, {"fence"})
    assert told["smallpole"] == told["pole"] == ({"pole"}, {"pole"})
    assert told["lamp"] == ({"street_light"}, set()) and told["trash bin"] == ({"other"}, set())
    assert told["unknown object"] == told["license plate"] == (set(), set())
    assert table.label("garage").colour == (64, 128, 128) and table.label("lamp").id == 38


def test_the_first_34_labels_are_those_of_cityscapes():
    own, city = load_class_table("kitti360").labels[:34], load_class_table("cityscapes").labels[:34]
    assert [(x.id, x.name, x.colour, x.train_id) for x in own] == [(x.id, x.name, x.colour, x.train_id) for x in city]


def test_a_mask_without_an_image_is_named(root):
    first = next(iter(DRIVES))
    (root / image_path(first, 250)).unlink()
    with pytest.raises(DataError, match=r"1 mask\(s\) in .*semantic have no image .*data_rect: 0000000250.png"):
        open_kitti360(root)


def test_a_listed_frame_without_a_mask_is_named(root):
    first = next(iter(DRIVES))
    (root / mask_path(first, 251)).unlink()
    with pytest.raises(DataError, match=r"1 mask\(s\) of the published lists are not in .*drive_0000.*: 0000000251;"):
        open_kitti360(root)


def test_a_frame_in_both_lists_is_named(root):
    first = next(iter(DRIVES))
    write_list(root, "val", [(first, 251), (first, 250)])
    with pytest.raises(DataError, match=r"val_frames.txt, line 2: 2013_.*/0000000250 is listed for train, too"):
        open_kitti360(root)


@pytest.mark.parametrize(
    "line", ["nonsense", "a b", "a/b/image_00/c/1.png", "a/d/image_00/x/1.png a/d/image_00/y/2.png"]
)
def test_a_line_that_is_no_pair_of_paths_is_named(root, line):
    path = root / SEMANTICS / LIST.format("train")
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(DataError, match=r"train_frames.txt, line 3: expected the path of an image of image_00"):
        open_kitti360(root)


@pytest.mark.parametrize("missing", ["data_2d_raw", "data_2d_semantics"])
def test_a_missing_tree_says_how_to_get_it(root, missing):
    (root / missing).rename(root / "moved")
    with pytest.raises(DataError, match=rf"KITTI-360: no folder .*{missing}.*; register at https://www.cvlibs.net"):
        open_kitti360(root)


def test_images_of_no_labelled_drive_are_refused(root):
    for i, path in enumerate(sorted((root / "data_2d_raw").iterdir())):
        path.rename(path.with_name(f"2013_05_28_drive_100{i}_sync"))
    with pytest.raises(
        DataError, match="data_2d_raw holds the images of no drive in data_2d_semantics/train; register"
    ):
        open_kitti360(root)
