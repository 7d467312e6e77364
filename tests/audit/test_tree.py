"""Bare folders: layouts found by convention, colour-coded trees, trees without a label table."""

import io
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from roadseg.audit import AuditReport, audit_tree
from roadseg.data.class_table import ClassTable, SourceLabel, load_class_table
from roadseg.errors import DataError
from tests.audit.planted import TRAIN, VAL, Tree, colours, jpeg
from tests.audit.test_planted import spoken


def run(root: Path, **options: object) -> AuditReport:
    return audit_tree(root, workers=1, progress=False, **options)


@pytest.fixture
def coloured(tree: Tree) -> Tree:
    """The same frames with masks in RGB."""
    for name in TRAIN + VAL:
        tree.change_mask(lambda m: colours()[m], name)
    return tree


def test_colour_coded_masks_are_read_by_their_colours(coloured):
    report = run(coloured.root)
    assert spoken(report) == {}
    assert report.to_dict()["classes"]["train"]["labelled"] > 60_000


def decode(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


def is_road(rgb: np.ndarray) -> np.ndarray:
    return (rgb == colours()[3]).all(axis=2)


def resize(rgb: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)


def with_clear_left_side(rgb: np.ndarray) -> np.ndarray:
    opacity = np.where(np.arange(rgb.shape[1]) < 9, 100, 255).astype(np.uint8)
    return np.dstack([rgb, np.broadcast_to(opacity, rgb.shape[:2])])


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda rgb: decode(jpeg(rgb, 90)), "lossy-mask"),
        (lambda rgb: resize(resize(rgb, 240, 160), 96, 64), "lossy-mask"),
        (lambda rgb: cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), "grey-colours"),
        (lambda rgb: np.where(is_road(rgb), 255, 0).astype(np.uint8), "binary-mask"),
        (lambda rgb: is_road(rgb).astype(np.uint8) * 3, "index-mask"),
        (with_clear_left_side, "mask-alpha"),
        (lambda rgb: np.where(is_road(rgb)[..., None], (1, 2, 3), rgb).astype(np.uint8), "unknown-label"),
        (lambda rgb: rgb[::2, ::2], "size-mismatch"),
        (lambda rgb: rgb * 0, "mask-all-ignored"),
    ],
)
def test_defects_of_colour_coded_masks(spoil, check, coloured):
    named = coloured.change_mask(spoil, TRAIN[4])
    assert spoken(run(coloured.root)) == {check: {named}}


def test_images_and_labels_with_splits_inside(tree, tmp_path):
    table = load_class_table("camvid")
    for split, annot in (("train", "trainannot"), ("val", "valannot")):
        shutil.move(tree.root / split, tmp_path / "own" / "images" / split)
        shutil.move(tree.root / annot, tmp_path / "own" / "labels" / split)
    report = run(tmp_path / "own", classes=table)
    assert spoken(report) == {} and [(p.split, p.frames) for p in report.parts] == [("train", 12), ("val", 6)]


def test_images_and_masks_below_splits_and_endings_of_masks(tree, tmp_path):
    for split, annot in (("training", "trainannot"), ("validation", "valannot")):
        shutil.move(tree.root / split.removesuffix("ing").removesuffix("idation"), tmp_path / "own" / split / "images")
        shutil.move(tree.root / annot, tmp_path / "own" / split / "masks")
        for path in (tmp_path / "own" / split / "masks").iterdir():
            path.rename(path.with_name(f"{path.stem}_mask.png"))
    report = run(tmp_path / "own")
    assert spoken(report) == {} and [(p.split, p.frames) for p in report.parts] == [("train", 12), ("val", 6)]


def test_the_trees_of_cityscapes(tree, tmp_path):
    """Of the ground truth only the label ids count; cities are drives."""
    lookup = np.array([23, 11, 17, 7, 8, 21, 20, 13, 26, 24, 33, 0], np.uint8)
    for split, names, city in (("train", TRAIN, "aachen"), ("val", VAL, "munster")):
        for name in names:
            stem = tmp_path / "cs" / "gtFine" / split / city / f"{city}_{name}"
            image = tmp_path / "cs" / "leftImg8bit" / split / city / f"{city}_{name}_leftImg8bit.png"
            for path in (stem, image):
                path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree.image(name), image)
            mask = np.array(Image.open(tree.mask(name)))
            Image.fromarray(lookup[mask]).save(f"{stem}_gtFine_labelIds.png")
            Image.fromarray(colours()[mask]).save(f"{stem}_gtFine_color.png")
            Path(f"{stem}_gtFine_polygons.json").write_text("{}")
    found = spoken(run(tmp_path / "cs", waive=["class-missing"]))
    assert found == {}
    victim = tmp_path / "cs" / "gtFine" / "val" / "munster" / f"munster_{VAL[3]}_gtFine_labelIds.png"
    victim.unlink()
    found = spoken(run(tmp_path / "cs", waive=["class-missing"]))
    image = tmp_path / "cs" / "leftImg8bit" / "val" / "munster" / f"munster_{VAL[3]}_leftImg8bit.png"
    assert found == {"unpaired": {str(image)}}


def test_without_a_table_every_id_is_a_label_and_values_still_tell(tree, tmp_path):
    shutil.move(tree.root / "train", tmp_path / "own" / "images")
    shutil.move(tree.root / "trainannot", tmp_path / "own" / "masks")
    assert spoken(run(tmp_path / "own")) == {}
    masks = sorted((tmp_path / "own" / "masks").iterdir())
    through_jpeg(np.array(Image.open(masks[3])), masks[3])
    assert spoken(run(tmp_path / "own")) == {"lossy-mask": {str(masks[3])}}
    for path in masks:
        Image.fromarray(np.where(np.array(Image.open(path)) == 3, 255, 0).astype(np.uint8)).save(path)
    assert spoken(run(tmp_path / "own")) == {"binary-mask": {str(path) for path in masks}}


def through_jpeg(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(decode(jpeg(pixels, 80))).save(path)


def test_a_table_beside_the_folders_is_used(tree, tmp_path):
    shutil.move(tree.root / "train", tmp_path / "own" / "images")
    shutil.move(tree.root / "trainannot", tmp_path / "own" / "masks")
    (tmp_path / "own" / "classes.yaml").write_text(
        "name: own\nlabels:\n" + "".join(f"  - {{id: {i}, name: thing {i}}}\n" for i in range(11))
    )
    (found,) = run(tmp_path / "own").findings
    unlabelled = int((np.array(Image.open(tmp_path / "own" / "masks" / f"{TRAIN[0]}.png")) == 11).sum())
    assert (found.check.name, found.count) == ("unknown-label", 12)
    assert found.examples[0].detail == f"11 ({unlabelled} px) not in own"


def test_two_files_of_one_name_are_unpaired(tree):
    shutil.copy(tree.image(), tree.image().with_suffix(".jpg"))
    assert spoken(run(tree.root)) == {
        "unpaired": {str(tree.image()), str(tree.image().with_suffix(".jpg")), str(tree.mask())}
    }


def test_all_masks_missing_is_a_report_and_no_crash(tree):
    for name in TRAIN + VAL:
        tree.mask(name).unlink()
    report = run(tree.root)
    assert [(f.check.name, f.split, f.count) for f in report.findings] == [
        ("unpaired", "train", 12),
        ("unpaired", "val", 6),
    ]


def test_a_folder_without_images_and_masks_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"looked for train/ with trainannot/, and for one of images, .*SegmentationClass"
    ):
        run(tmp_path)


def test_labels_of_equal_names_and_colours_are_kept_apart(tree):
    """As in Mapillary's and ApolloScape's tables."""
    labels = tuple(SourceLabel(i, "thing", (0, 0, 0)) for i in range(12))
    report = run(tree.root, classes=ClassTable("own", labels))
    names = [entry["set"][0] for entry in report.to_dict()["classes"]["train"]["sets"]]
    assert names == [f"thing-{i}" for i in range(12)] and spoken(report) == {}
