"""A user's own folders: what is paired and read, and the mistakes that are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.datasets.folder import open_folder
from roadseg.data.mapped import MappedFrames
from roadseg.data.own_classes import named_table
from roadseg.errors import ConfigError, DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import list_taxonomies, load_taxonomy

CLASSES = {"road": 0, "lane_marking": 1, "asphalt": 2}
IDS = np.array([[0, 1, 2, 0], [2, 1, 0, 1], [0, 0, 2, 2]], np.uint8)


def write_image(path: Path, size: tuple[int, int] = (3, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (90, 90, 90)).save(path)


def write_mask(path: Path, values: np.ndarray = IDS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def write_pair(root: Path, name: str, values: np.ndarray = IDS) -> None:
    write_image(root / "images" / f"{name}.jpg")
    write_mask(root / "masks" / f"{name}.png", values)


def mapped(root: Path, **options) -> MappedFrames:
    source = open_folder(root, **{"classes": CLASSES, **options})
    taxonomy = load_taxonomy("hdmap")
    return MappedFrames(source, LabelSets.collect(taxonomy, source.classes.sets_in(taxonomy).values()))


def palette_mask(path: Path, colours: list[tuple[int, int, int]]) -> None:
    picture = Image.fromarray(IDS).convert("P")
    picture.putdata(IDS.ravel().tolist())
    picture.putpalette([v for colour in colours for v in colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def test_frames_are_paired_at_any_depth_and_named_by_their_paths(tmp_path):
    for name in ("a/2/x", "a/1/x", "top", "a/1/x.left"):
        write_pair(tmp_path, name)
    frames = open_folder(tmp_path, classes=CLASSES).frames
    assert {f.name: (f.drive, f.split) for f in frames} == {
        "top": ("top", "train"),
        "a/1/x": ("a/1", "train"),
        "a/1/x.left": ("a/1", "train"),
        "a/2/x": ("a/2", "train"),
    }
    assert all(frames.image_path(i).is_file() and frames.label_path(i).is_file() for i in range(4))


def test_index_masks_are_read_and_labels_mean_the_classes_of_their_names(tmp_path):
    write_pair(tmp_path, "x")
    frames = mapped(tmp_path)
    hdmap = load_taxonomy("hdmap")
    expected = np.array([hdmap.id_of("road"), hdmap.id_of("lane_marking"), 255])[IDS]  # hdmap has no asphalt
    assert np.array_equal(frames[0][1], expected) and frames.source.name == tmp_path.name


def test_labels_that_are_called_like_classes_of_a_family_mean_these():
    table = named_table("mine", {"road": 0, "lane_solid": 1, "traffic light": 2, "Bicyclist": 3, "gizmo": 4})
    assert table.label("gizmo").to == {}
    assert table.label("Bicyclist").to == {"camvid32": ("Bicyclist",)}
    assert {"hdmap": ("road",), "camvid11": ("road",)}.items() <= table.label("road").to.items()
    assert "hdmap" not in table.label("traffic light").to and "camvid32" not in table.label("road").to


def test_a_refined_class_is_known_by_name_and_counts_as_its_whole():
    if "hdmap-lanes" not in list_taxonomies():
        pytest.skip("no taxonomy refines a class")
    table = named_table("mine", {"lane_solid": 0, "lane_marking": 1})
    hdmap, lanes = load_taxonomy("hdmap"), load_taxonomy("hdmap-lanes")
    assert table.sets_in(hdmap) == {0: {hdmap.id_of("lane_marking")}, 1: {hdmap.id_of("lane_marking")}}
    parts = {i for i, c in enumerate(lanes.classes) if c.refines == "lane_marking"}
    assert table.sets_in(lanes) == {0: {lanes.id_of("lane_solid")}, 1: parts} and len(parts) > 1


def test_split_folders_are_recognised_when_both_trees_have_them(tmp_path):
    for name in ("Training/a/1", "validation/2", "test/b/c/3"):
        write_pair(tmp_path, name)
    frames = open_folder(tmp_path, classes=CLASSES).frames
    assert {f.name: (f.split, f.drive) for f in frames} == {
        "Training/a/1": ("train", "a"),
        "validation/2": ("val", "2"),
        "test/b/c/3": ("test", "b/c"),
    }


def test_a_frame_beside_the_split_folders_is_refused(tmp_path):
    for name in ("train/1", "val/2", "3"):
        write_pair(tmp_path, name)
    with pytest.raises(DataError, match=r"images/3.jpg lies beside the folders of the splits"):
        open_folder(tmp_path, classes=CLASSES)


def test_a_split_folder_in_one_tree_only_is_an_unpaired_folder(tmp_path):
    write_image(tmp_path / "images" / "train" / "1.png")
    write_mask(tmp_path / "masks" / "1.png")
    with pytest.raises(DataError, match=r"1 mask\(s\) in .*masks have no image, since .*images holds none: 1.png"):
        open_folder(tmp_path, classes=CLASSES)


def test_split_file_takes_frames_and_drives_and_frames_come_first(tmp_path):
    for name in ("a/1", "a/2", "b/1", "c/1"):
        write_pair(tmp_path, name)
    (tmp_path / "splits.yaml").write_text("version: 1\nval: [a, c]\ntest: [a/2]\nseed: 3\n")
    frames = open_folder(tmp_path, classes=CLASSES, split_file="splits.yaml").frames
    assert {f.name: f.split for f in frames} == {"a/1": "val", "a/2": "test", "b/1": "train", "c/1": "val"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val: [a, nowhere]", r"splits.yaml names 1 that are neither a frame nor a drive here: nowhere"),
        ("train: [a]\nval: []", r"names neither frame 'b/1' nor its drive 'b'"),
        ("train: [a]\nval: [a]", r"'a' is in train and in val"),
        ("[a, b]", r"expected lists train, val and test"),
        ("valid: [a]", r"expected lists train, val and test"),
        ("val: [a", r"splits.yaml cannot be read"),
    ],
)
def test_wrong_split_files_are_refused(tmp_path, text, message):
    for name in ("a/1", "b/1"):
        write_pair(tmp_path, name)
    (tmp_path / "splits.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path, classes=CLASSES, split_file="splits.yaml")


def test_drive_pattern_finds_the_drive_or_says_where_it_does_not(tmp_path):
    for name in ("0006R0_f1", "0016E5_f2"):
        write_pair(tmp_path, name)
    frames = open_folder(tmp_path, classes=CLASSES, drive=r"^(\w+?)_").frames
    assert [f.drive for f in frames] == ["0006R0", "0016E5"]
    with pytest.raises(DataError, match=r"frame 0006R0_f1: no drive"):
        open_folder(tmp_path, classes=CLASSES, drive=r"(0016E5)")
    with pytest.raises(ConfigError, match=r"needs one group in parentheses, it has 0"):
        open_folder(tmp_path, classes=CLASSES, drive=r"^\w+_")
    with pytest.raises(ConfigError, match=r"no regular expression"):
        open_folder(tmp_path, classes=CLASSES, drive=r"(")


def test_unpaired_files_are_named_on_either_side(tmp_path):
    write_pair(tmp_path, "a/1")
    write_image(tmp_path / "images" / "a" / "2.png")
    with pytest.raises(DataError, match=r"1 image\(s\) in .*images/a have no mask .*: a/2.png"):
        open_folder(tmp_path, classes=CLASSES)
    (tmp_path / "images" / "a" / "2.png").unlink()
    write_mask(tmp_path / "masks" / "a" / "3.png")
    with pytest.raises(DataError, match=r"1 mask\(s\) in .*masks/a have no image .*: a/3.png"):
        open_folder(tmp_path, classes=CLASSES)


def test_two_images_of_one_name_with_other_endings_are_refused(tmp_path):
    write_pair(tmp_path, "x")
    write_image(tmp_path / "images" / "x.png")
    with pytest.raises(DataError, match=r"holds x.jpg and x.png"):
        open_folder(tmp_path, classes=CLASSES)


def test_missing_and_empty_folders_are_explained(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*images.*put your own images.*`roadseg data pseudo-label"):
        open_folder(tmp_path, classes=CLASSES)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match=r"images holds no image; looked for .jpeg, .jpg"):
        open_folder(tmp_path, classes=CLASSES)


def test_mask_suffix_pairs_and_leaves_other_files_alone_also_in_one_folder(tmp_path):
    write_image(tmp_path / "all" / "x.png")
    write_mask(tmp_path / "all" / "x_Mask.png")
    frames = open_folder(tmp_path, images="all", masks="all", mask_suffix="_mask", classes=CLASSES).frames
    assert [(f.name, f.image, f.label) for f in frames] == [("x", "all/x.png", "all/x_Mask.png")]
    with pytest.raises(ConfigError, match=r"images and masks both lie in .*all: set mask_suffix"):
        open_folder(tmp_path, images="all", masks="./all", classes=CLASSES)
    write_image(tmp_path / "images" / "x.png")
    write_mask(tmp_path / "all" / "x_colour.png")
    assert len(open_folder(tmp_path, masks="all", mask_suffix="_mask", classes=CLASSES)) == 1


def test_a_binary_mask_of_0_and_255_is_refused_with_counts(tmp_path):
    write_pair(tmp_path, "x", np.where(IDS == 1, 255, 0).astype(np.uint8))
    with pytest.raises(DataError, match=r"x.png holds 1 value outside the label set: 255 \(3 pixels\)"):
        mapped(tmp_path)[0]


def test_a_jpeg_mask_is_refused_as_such(tmp_path):
    write_image(tmp_path / "images" / "x.png")
    write_image(tmp_path / "masks" / "x.jpg")
    with pytest.raises(DataError, match=r"x.jpg is a JPEG"):
        mapped(tmp_path)[0]


def test_16_bit_ids_are_read_whole(tmp_path):
    ids = IDS.astype(np.uint16) * 1000
    write_pair(tmp_path, "x", ids)
    classes = {"road": 0, "sky": 1000, "person": 2000}
    for form in ("16bit", "index"):
        assert np.array_equal(open_folder(tmp_path, classes=classes, form=form).read_labels(0, (3, 4)), ids)
    hdmap = load_taxonomy("hdmap")
    expected = np.array([hdmap.id_of(name) for name in classes])[IDS]
    assert np.array_equal(mapped(tmp_path, classes=classes, form="16bit")[0][1], expected)


def test_16bit_form_refuses_8_bits_and_palette_form_refuses_what_has_none(tmp_path):
    write_pair(tmp_path, "x")
    with pytest.raises(DataError, match=r"x.png has pixels of type L, but form 16bit means I;16.*set form to index"):
        open_folder(tmp_path, classes=CLASSES, form="16bit").read_labels(0, (3, 4))
    with pytest.raises(DataError, match=r"type L, but form palette means P"):
        open_folder(tmp_path, classes=CLASSES, form="palette").read_labels(0, (3, 4))


def test_palette_masks_are_read_by_index_or_by_colour_as_asked(tmp_path):
    colours = {"sky": (9, 9, 9), "lane_marking": (255, 255, 255), "road": (128, 64, 128)}
    write_image(tmp_path / "images" / "x.png")
    palette_mask(tmp_path / "masks" / "x.png", [(128, 64, 128), (255, 255, 255), (9, 9, 9)])
    for form in ("palette", "index"):
        assert np.array_equal(open_folder(tmp_path, classes=CLASSES, form=form).read_labels(0, (3, 4)), IDS)
    by_colour = open_folder(tmp_path, classes=colours, form="colour")
    assert np.array_equal(by_colour.read_labels(0, (3, 4)), np.array([2, 1, 0])[IDS])


def test_an_rgb_mask_read_as_index_is_refused(tmp_path):
    write_image(tmp_path / "images" / "x.png")
    write_image(tmp_path / "masks" / "x.png")
    with pytest.raises(DataError, match=r"x.png is an image of colours \(RGB\), but an index mask is expected"):
        open_folder(tmp_path, classes=CLASSES).read_labels(0, (3, 4))


def test_a_colour_outside_the_table_is_named_with_its_count(tmp_path):
    colours = np.array([(128, 64, 128), (255, 255, 255), (1, 2, 3)], np.uint8)
    write_pair(tmp_path, "x", colours[IDS])
    classes = {"road": [128, 64, 128], "lane_marking": [255, 255, 255]}
    with pytest.raises(DataError, match=r"x.png holds 1 colour.*\(1, 2, 3\) in 4 pixels"):
        open_folder(tmp_path, classes=classes, form="colour").read_labels(0, (3, 4))


def test_class_table_files_are_found_in_the_folder_and_by_name(tmp_path):
    write_pair(tmp_path, "x")
    (tmp_path / "classes.yaml").write_text("name: own\nlabels:\n- {id: 0, name: street, to: {hdmap: [road, curb]}}\n")
    assert open_folder(tmp_path).classes.label("street").to == {"hdmap": ("road", "curb")}
    assert open_folder(tmp_path, classes="camvid").classes.name == "camvid"
    (tmp_path / "classes.yaml").unlink()
    with pytest.raises(DataError, match=r"no class table 'classes.yaml'"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": {"road": 0, "sky": [1, 2, 3]}}, ConfigError, r"every label an id .* or every label a colour"),
        ({"classes": {"road": True}}, ConfigError, r"every label an id"),
        ({"classes": {"road": [1, 2, 256]}}, ConfigError, r"each 0..255"),
        ({"classes": {False: 0}}, ConfigError, r"names as words \(quote no, yes"),
        ({"classes": {}}, ConfigError, r"names as words"),
        ({"classes": {"road": 1, "sky": 1}}, DataError, r"id 1 occurs more than once"),
        ({"classes": {"road": 70000}}, DataError, r"'road' has id 70000"),
        ({"classes": CLASSES, "form": "colour"}, ConfigError, r"form is colour, but no label"),
        ({"classes": CLASSES, "form": "rgb"}, ConfigError, r"form is 'rgb'; use index, palette, colour, 16bit"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path, options, error, message):
    write_pair(tmp_path, "x")
    with pytest.raises(error, match=message):
        open_folder(tmp_path, **options)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    write_pair(tmp_path, "x", IDS.T.copy())
    with pytest.raises(DataError, match=r"x.jpg is 4x3 but its mask .*x.png is 3x4 .*turned by 90"):
        mapped(tmp_path)[0]
