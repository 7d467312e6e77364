"""ApolloScape, scene parsing and lane segmentation: tiny trees in the official layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.class_table import load_class_table
from roadseg.data.datasets.apolloscape import open_apolloscape
from roadseg.data.datasets.apolloscape_lanes import open_apolloscape_lanes
from roadseg.data.labelled import LabelledFrames
from roadseg.data.mapped import MappedFrames
from roadseg.errors import ConfigError, DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

SCENE = np.array([[49, 255, 33], [161, 113, 1]], np.uint8)  # road, unlabelled, car; car group, vegetation, rover
LANE_COLOURS = np.array(  # void, solid white, double yellow; zebra, arrow left, ignored
    [[(0, 0, 0), (70, 130, 180), (255, 0, 0)], [(190, 153, 153), (180, 165, 180), (255, 255, 255)]], np.uint8
)
LANE_IDS = [[0, 200, 209], [214, 224, 255]]
FIRST, SECOND, THIRD = "170908_061502408_Camera_5", "170908_061502408_Camera_6", "170927_063811892_Camera_5"


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_scene(folder: Path, road: str, record: str, name: str) -> None:
    camera = f"Camera {name[-1]}"
    write(folder / road / "ColorImage" / record / camera / f"{name}.jpg", np.full((2, 3, 3), 80, np.uint8))
    write(folder / road / "Label" / record / camera / f"{name}_bin.png", SCENE)
    write(folder / road / "Label" / record / camera / f"{name}_instanceIds.png", SCENE.astype(np.uint16) * 1000)
    (folder / road / "Label" / record / camera / f"{name}.json").write_text("{}")
    pose = folder / road / "Pose" / record / camera / "pose.txt"
    pose.parent.mkdir(parents=True, exist_ok=True)
    pose.write_text("")


def write_lanes(folder: Path, road: str, record: str, name: str, label: np.ndarray = LANE_COLOURS) -> Path:
    camera = f"Camera {name[-1]}"
    image = folder / f"ColorImage_{road}" / "ColorImage" / record / camera / f"{name}.jpg"
    write(image, np.full((2, 3, 3), 80, np.uint8))
    return write(folder / f"Labels_{road}" / "Label" / record / camera / f"{name}_bin.png", label)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    folder = tmp_path / "apolloscape"
    write_scene(folder, "road01_ins", "Record001", FIRST)
    write_scene(folder, "road01_ins", "Record001", SECOND)
    write_scene(folder, "road02_seg", "Record022", THIRD)
    return folder


@pytest.fixture
def lanes(tmp_path: Path) -> Path:
    folder = tmp_path / "apolloscape_lanes"
    write_lanes(folder, "road02", "Record001", THIRD)
    write_lanes(folder, "road04", "Record007", "180116_053947113_Camera_6")
    return folder


def names_in(source: LabelledFrames, taxonomy: str, label: str) -> set[str]:
    target = load_taxonomy(taxonomy)
    return {target.names[c] for c in source.classes.sets_in(target)[source.classes.label(label).id]}


def test_scene_tables_hold_the_published_labels():
    labels = load_class_table("apolloscape").labels
    assert len(labels) == 36 == len({x.name for x in labels}) == len({x.id for x in labels})
    by_name = {x.name: (x.id, x.train_id, x.colour) for x in labels}
    assert by_name["road"] == (49, 9, (0xC0, 0x80, 0xC0))
    assert by_name["car_groups"] == (161, 1, (0, 0, 0x8E))
    assert by_name["vegatation"] == (113, 21, (0x80, 0x80, 0x40))
    assert by_name["unlabeled"] == (255, 255, (255, 255, 255))


def test_scene_frames_carry_record_drives_of_both_cameras(scene):
    apolloscape = open_apolloscape(scene)
    assert [(f.name, f.drive, f.split) for f in apolloscape.frames] == [
        (FIRST, "road01/Record001", "train"),
        (SECOND, "road01/Record001", "train"),
        (THIRD, "road02/Record022", "train"),
    ]
    assert apolloscape.frames[0].label == f"road01_ins/Label/Record001/Camera 5/{FIRST}_bin.png"
    assert apolloscape.read_labels(0, apolloscape.image_size(0)).tolist() == SCENE.tolist()


def test_scene_masks_become_set_ids(scene):
    hdmap = load_taxonomy("hdmap")
    apolloscape = open_apolloscape(scene)
    sets = LabelSets.collect(hdmap, apolloscape.classes.sets_in(hdmap).values())
    mask = MappedFrames(apolloscape, sets).read_mask(0, (2, 3))
    names = [["ignored" if i == 255 else sets.names[i] for i in row] for row in mask.tolist()]
    assert names == [
        ["road+lane_marking+crosswalk+manhole", "ignored", "vehicle"],
        ["vehicle", "vegetation+terrain", "ignored"],
    ]


def test_the_type_may_come_before_the_road_as_the_read_me_has_it(tmp_path):
    write(
        tmp_path / "ColorImage" / "road01_ins" / "Record003" / "Camera 5" / f"{FIRST}.jpg",
        np.zeros((2, 3, 3), np.uint8),
    )
    write(tmp_path / "Label" / "road01_ins" / "Record003" / "Camera 5" / f"{FIRST}_bin.png", SCENE)
    (frame,) = open_apolloscape(tmp_path).frames
    assert (frame.name, frame.drive) == (FIRST, "road01/Record003")


def test_one_road_alone_is_a_dataset(scene):
    assert open_apolloscape(scene / "road01_ins").frames.drives == ["Record001"]


def test_published_lists_give_the_splits(scene):
    for split, name in {
        "train": FIRST,
        "val": SECOND,
        "test": "170908_061502999_Camera_5",
    }.items():  # the last is not here
        camera = f"Record001/Camera {name[-1]}"
        line = f"road01_ins/ColorImage/{camera}/{name}.jpg\troad01_ins/Label/{camera}/{name}_bin.png\r\n"
        (scene / f"road01_ins_{split}.lst").write_bytes(line.encode())
    splits = {frame.name: frame.split for frame in open_apolloscape(scene).frames}
    assert splits == {FIRST: "train", SECOND: "val", THIRD: "train"}


def test_a_frame_in_two_lists_is_refused(scene):
    for split in ("train", "test"):
        (scene / f"road01_ins_{split}.lst").write_text(
            f"road01_ins/ColorImage/Record001/Camera 5/{FIRST}.jpg\tlabel.png\n"
        )
    with pytest.raises(DataError, match=rf"gives {FIRST} to 't\w+', but another list gives it to 't"):
        open_apolloscape(scene)


def test_a_picture_that_is_there_twice_is_refused(scene):
    write_scene(scene, "road01_seg", "Record001", FIRST)
    with pytest.raises(DataError, match=rf"holds road01_ins/.*{FIRST}.jpg and road01_seg/.*{FIRST}.jpg: remove one"):
        open_apolloscape(scene)


def test_scene_errors_name_the_file_or_how_to_get_the_data(scene, tmp_path):
    with pytest.raises(DataError, match=r"ApolloScape: no folder .*gone.*http://apolloscape.auto/scene.html"):
        open_apolloscape(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no image below a folder ColorImage; download"):
        open_apolloscape(tmp_path / "empty")
    (scene / "road01_ins" / "Label" / "Record001" / "Camera 6" / f"{SECOND}_bin.png").unlink()
    with pytest.raises(
        DataError, match=rf"1 image\(s\) .* have no mask .*: road01_ins/ColorImage/Record001/Camera 6/{SECOND}.jpg"
    ):
        open_apolloscape(scene)


def test_lane_table_holds_the_published_labels():
    labels = load_class_table("apolloscape_lanes").labels
    assert len(labels) == 38
    assert len({x.id for x in labels}) == len({x.name for x in labels}) == len({x.colour for x in labels}) == 38
    assert sorted(x.train_id for x in labels) == [*range(36), 255, 255]
    by_name = {x.name: (x.id, x.train_id, x.colour) for x in labels}
    assert by_name["s_w_d"] == (200, 1, (70, 130, 180))
    assert by_name["db_w_s"] == (216, 11, (153, 153, 153))
    assert by_name["om_n_n"] == (250, 35, (102, 0, 204))


def test_lane_frames_pair_images_with_colour_coded_labels(lanes):
    apolloscape = open_apolloscape_lanes(lanes)
    assert [(f.name, f.drive, f.split) for f in apolloscape.frames] == [
        (THIRD, "road02/Record001", "train"),
        ("180116_053947113_Camera_6", "road04/Record007", "train"),
    ]
    assert apolloscape.frames[0].label == f"Labels_road02/Label/Record001/Camera 5/{THIRD}_bin.png"
    assert apolloscape.read_labels(0, (2, 3)).tolist() == LANE_IDS
    assert apolloscape.collection == "apolloscape"  # a picture of both is one picture


def test_lane_archives_may_lie_in_folders_of_their_road(tmp_path):
    write_lanes(tmp_path / "Road02", "road02", "Record001", THIRD)
    (frame,) = open_apolloscape_lanes(tmp_path).frames
    assert frame.drive == "road02/Record001"


def test_lane_masks_of_ids_are_read_when_asked(tmp_path):
    write_lanes(tmp_path, "road02", "Record001", THIRD, np.array(LANE_IDS, np.uint8))
    assert open_apolloscape_lanes(tmp_path, encoding="ids").read_labels(0, (2, 3)).tolist() == LANE_IDS
    with pytest.raises(
        DataError, match=r"_bin.png holds numbers \(L\), but colours that stand for labels are expected"
    ):
        open_apolloscape_lanes(tmp_path).read_labels(0, (2, 3))


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        ("s_w_d", {"lane_solid"}),
        ("b_y_g", {"lane_dashed"}),
        ("ds_y_dn", {"lane_double"}),
        ("sb_w_do", {"lane_double"}),
        ("s_w_s", {"lane_stop_line"}),
        ("s_y_c", {"lane_zebra"}),
        ("c_wy_z", {"crosswalk"}),
        ("a_w_tlr", {"lane_arrow"}),
        ("d_wy_za", {"lane_other"}),
        ("b_n_sr", {"road", "lane_other"}),
        ("void", set()),
        ("noise", set()),
        ("ignored", set()),
    ],
)
def test_lane_marks_are_refined(lanes, label, classes):
    assert names_in(open_apolloscape_lanes(lanes), "hdmap-lanes", label) == classes


def test_every_arrow_is_an_arrow(lanes):
    apolloscape = open_apolloscape_lanes(lanes)
    arrows = [x.name for x in apolloscape.classes.labels if x.name.startswith("a_")]
    assert len(arrows) == 12
    assert all(names_in(apolloscape, "hdmap-lanes", name) == {"lane_arrow"} for name in arrows)
    assert all(names_in(apolloscape, "hdmap", name) == {"lane_marking"} for name in arrows)


def test_void_may_stand_for_everything_unpainted(lanes):
    apolloscape = open_apolloscape_lanes(lanes, void="unmarked")
    assert names_in(apolloscape, "hdmap", "void") == set(load_taxonomy("hdmap").names) - {"lane_marking", "crosswalk"}
    lane_names = set(load_taxonomy("hdmap-lanes").names)
    painted = {"crosswalk"} | {name for name in lane_names if name.startswith("lane_")}
    assert names_in(apolloscape, "hdmap-lanes", "void") == lane_names - painted
    assert names_in(apolloscape, "hdmap", "ignored") == set()


def test_an_unknown_lane_colour_is_named_with_its_file(tmp_path):
    colours = LANE_COLOURS.copy()
    colours[0, 1] = (70, 130, 181)
    write_lanes(tmp_path, "road03", "Record002", THIRD, colours)
    with pytest.raises(DataError, match=rf"{THIRD}_bin.png holds 1 colour\(s\) .* \(70, 130, 181\) in 1 pixels"):
        open_apolloscape_lanes(tmp_path).read_labels(0, (2, 3))


def test_lane_errors_name_the_option_the_file_or_how_to_get_the_data(lanes, tmp_path):
    with pytest.raises(ConfigError, match="encoding is 'rgb'; it is one of colours, ids"):
        open_apolloscape_lanes(lanes, encoding="rgb")
    with pytest.raises(ConfigError, match="void is 'road'; it is one of ignored, unmarked"):
        open_apolloscape_lanes(lanes, void="road")
    with pytest.raises(DataError, match=r"no folder .*gone.*http://apolloscape.auto/lane_segmentation.html"):
        open_apolloscape_lanes(tmp_path / "gone")
    next(lanes.glob("ColorImage_road04/**/*.jpg")).unlink()
    with pytest.raises(DataError, match=r"1 mask\(s\) .* have no image .*: Labels_road04/Label/Record007"):
        open_apolloscape_lanes(lanes)
