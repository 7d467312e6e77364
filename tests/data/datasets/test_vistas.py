"""Mapillary Vistas: tiny trees in the official layouts of both releases, read with their official meanings."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.class_table import load_class_table
from roadseg.data.datasets.vistas import open_vistas
from roadseg.data.mapped import MappedFrames
from roadseg.data.masks import LabelTable
from roadseg.errors import ConfigError, DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

KEYS = {"training": ["_8kXBySYZMmKBAEAjpVrXA", "0035fkbjWljhaftpVM37-g"], "validation": ["-zrlvGaXgcqCdRtcGXA5aA"]}
LABELS = np.array([[13, 24, 65], [23, 45, 44]], np.uint8)  # of 1.2: road, marking, void; crosswalk, pole, street light


def write_image(path: Path, size: tuple[int, int] = (3, 2)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 90, 90)).save(path)


def write_labels(path: Path, ids: np.ndarray, table: str) -> None:
    """A palette PNG as published: indices are ids, the palette holds the colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(ids, "P")
    palette = np.zeros((256, 3), np.uint8)
    for label in load_class_table(table).labels:
        palette[label.id] = label.colour
    picture.putpalette(palette.tobytes())
    picture.save(path)


def write_config(folder: Path, version: str, table: str) -> Path:
    labels = [
        {"name": x.name, "readable": "-", "instances": False, "evaluate": True, "color": list(x.colour or ())}
        for x in load_class_table(table).labels
    ]
    document = {
        "labels": labels,
        "version": version,
        "mapping": "mvd",
        "folder_structure": "{split}/{content}/{key}.{ext}",
    }
    path = folder / f"config_v{version}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def release12(tmp_path: Path) -> Path:
    for split, keys in KEYS.items():
        for key in keys:
            write_image(tmp_path / split / "images" / f"{key}.jpg")
            write_labels(tmp_path / split / "labels" / f"{key}.png", LABELS, "vistas12")
            (tmp_path / split / "instances").mkdir(exist_ok=True)
            instances = LABELS.astype(np.uint16) * 256 + np.arange(6, dtype=np.uint16).reshape(2, 3)
            Image.fromarray(instances).save(tmp_path / split / "instances" / f"{key}.png")
    write_image(tmp_path / "testing" / "images" / "0a0AqxDNvLqEF5XkhHHV5Q.jpg")
    write_config(tmp_path, "1.2", "vistas12")
    return tmp_path


@pytest.fixture
def release20(tmp_path: Path) -> Path:
    ids = np.array([[21, 35, 36], [45, 51, 123]], np.uint8)  # road, dashed, solid; zebra, stop line, unlabelled
    for split, keys in KEYS.items():
        for key in keys:
            write_image(tmp_path / split / "images" / f"{key}.jpg")
            write_labels(tmp_path / split / "v2.0" / "labels" / f"{key}.png", ids, "vistas20")
            (tmp_path / split / "v2.0" / "polygons").mkdir(exist_ok=True)
            (tmp_path / split / "v2.0" / "polygons" / f"{key}.json").write_text("{}")
    write_config(tmp_path, "2.0", "vistas20")
    return tmp_path


def classes_of(table: str, taxonomy: str, label: str) -> set[str]:
    target = load_taxonomy(taxonomy)
    classes = load_class_table(table)
    return {target.names[c] for c in classes.sets_in(target)[classes.label(label).id]}


@pytest.mark.parametrize(("table", "count"), [("vistas12", 66), ("vistas20", 124)])
def test_ids_are_the_positions_in_the_published_config(table, count):
    labels = load_class_table(table).labels
    assert [label.id for label in labels] == list(range(count))
    assert len({label.name for label in labels}) == count
    assert labels[-1].name == "void--unlabeled" and labels[-1].colour == (0, 0, 0)


def test_published_ids_and_colours_of_both_releases():
    first, second = load_class_table("vistas12"), load_class_table("vistas20")
    for table, name, id_, colour in [
        (first, "construction--flat--road", 13, (128, 64, 128)),
        (first, "marking--general", 24, (255, 255, 255)),
        (first, "object--vehicle--car", 55, (0, 0, 142)),
        (first, "void--ego-vehicle", 64, (120, 10, 10)),
        (second, "construction--flat--road", 21, (128, 64, 128)),
        (second, "object--traffic-light--general-single", 90, (250, 170, 30)),
        (second, "object--traffic-light--cyclists", 94, (250, 170, 30)),
        (second, "object--vehicle--car", 108, (0, 0, 142)),
        (second, "void--ground", 121, (81, 0, 81)),
    ]:
        assert (table.label(name).id, table.label(name).colour) == (id_, colour), name


def test_release_12_gives_names_splits_and_label_ids(release12):
    vistas = open_vistas(release12, version="1.2")
    assert [(f.name, f.split) for f in vistas.frames] == [
        ("0035fkbjWljhaftpVM37-g", "train"),
        ("_8kXBySYZMmKBAEAjpVrXA", "train"),
        ("-zrlvGaXgcqCdRtcGXA5aA", "val"),
    ]
    assert [f.drive for f in vistas.frames] == [f.name for f in vistas.frames]
    assert vistas.image_size(0) == (2, 3) and vistas.read_image(0).shape == (2, 3, 3)
    assert np.array_equal(vistas.read_labels(0, (2, 3)), LABELS)
    assert (vistas.name, vistas.collection) == ("vistas12", "vistas")


def test_a_mask_becomes_set_ids_of_hdmap(release12):
    hdmap = load_taxonomy("hdmap")
    vistas = open_vistas(release12, version="1.2")
    frames = MappedFrames(vistas, LabelSets.collect(hdmap, vistas.classes.sets_in(hdmap).values()))
    expected = [
        [hdmap.id_of("road"), hdmap.id_of("lane_marking"), 255],
        [hdmap.id_of("crosswalk"), *map(hdmap.id_of, ("pole", "street_light"))],
    ]
    assert frames.read_mask(2, (2, 3)).tolist() == expected


def test_instances_are_divided_by_256(release12):
    vistas = open_vistas(release12, version="1.2", labels="instances")
    labels = vistas.read_labels(1, (2, 3))
    assert labels.dtype == np.uint8 and np.array_equal(labels, LABELS)


def test_an_8_bit_file_among_instances_is_refused(release12):
    path = release12 / "training" / "instances" / "0035fkbjWljhaftpVM37-g.png"
    Image.fromarray(LABELS).save(path)
    with pytest.raises(DataError, match=r"0035fkbjWljhaftpVM37-g.png has 8 bits, but an instance mask has 16"):
        open_vistas(release12, version="1.2", labels="instances").read_labels(0, (2, 3))


def test_release_20_is_the_default_and_reads_its_own_folder(release20):
    vistas = open_vistas(release20)
    assert len(vistas) == 3 and vistas.frames[0].label == "training/v2.0/labels/0035fkbjWljhaftpVM37-g.png"
    assert vistas.read_labels(0, (2, 3)).tolist() == [[21, 35, 36], [45, 51, 123]]
    assert (vistas.name, vistas.collection) == ("vistas20", "vistas")


def test_both_releases_in_one_folder_are_read_from_their_own(release20):
    for split, keys in KEYS.items():
        for key in keys:
            write_labels(release20 / split / "v1.2" / "labels" / f"{key}.png", LABELS, "vistas12")
    write_config(release20, "1.2", "vistas12")
    first, second = open_vistas(release20, version="1.2"), open_vistas(release20, version="2.0")
    assert np.array_equal(first.read_labels(0, (2, 3)), LABELS)
    assert [f.name for f in first.frames] == [f.name for f in second.frames]
    assert second.read_labels(0, (2, 3))[0, 0] == 21


def test_a_version_written_as_a_number_is_understood(release20):
    assert open_vistas(release20, version=2.0).name == "vistas20"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        ("marking--continuous--dashed", {"lane_dashed"}),
        ("marking-only--continuous--dashed", {"lane_dashed"}),
        ("marking--continuous--solid", {"lane_solid", "lane_double"}),
        ("marking--discrete--stop-line", {"lane_stop_line"}),
        ("marking--discrete--arrow--split-left-or-straight", {"lane_arrow"}),
        ("marking--discrete--hatched--chevron", {"lane_zebra"}),
        ("marking--discrete--give-way-row", {"lane_stop_line"}),
        ("marking-only--discrete--text", {"lane_other"}),
        ("marking--discrete--crosswalk-zebra", {"crosswalk"}),
        ("marking-only--discrete--crosswalk-zebra", {"crosswalk"}),
        ("construction--flat--crosswalk-plain", {"crosswalk"}),
    ],
)
def test_markings_of_release_20_are_refined(label, classes):
    assert classes_of("vistas20", "hdmap-lanes", label) == classes
    assert classes_of("vistas20", "hdmap", label) == ({"crosswalk"} if "crosswalk" in label else {"lane_marking"})


def test_every_marking_is_paint_and_nothing_else_is():
    for table in ("vistas12", "vistas20"):
        for label in load_class_table(table).labels:
            painted = classes_of(table, "hdmap", label.name) & {"lane_marking", "crosswalk"}
            assert bool(painted) == (label.name.startswith("marking") or label.name.endswith("crosswalk-plain"))


@pytest.mark.parametrize("label", ["void--car-mount", "void--ego-vehicle", "void--unlabeled", "void--ground"])
def test_void_is_ignored(label):
    assert classes_of("vistas20", "hdmap", label) == classes_of("vistas20", "cityscapes19", label) == set()


def test_only_void_is_ignored_in_hdmap():
    for table, ignored in (("vistas12", 3), ("vistas20", 6)):
        sets = load_class_table(table).sets_in(load_taxonomy("hdmap"))
        assert sum(not classes for classes in sets.values()) == ignored


def test_labels_that_cityscapes_draws_differently():
    assert classes_of("vistas20", "cityscapes19", "marking--continuous--solid") == {"road"}
    assert classes_of("vistas20", "cityscapes19", "construction--barrier--guard-rail") == set()
    assert classes_of("vistas20", "cityscapes19", "object--traffic-light--other") == {"traffic light"}
    assert classes_of("vistas20", "cityscapes19", "object--traffic-sign--front") == {"traffic sign"}
    assert classes_of("vistas20", "cityscapes19", "object--traffic-sign--back") == set()
    assert classes_of("vistas12", "cityscapes19", "human--rider--bicyclist") == {"rider"}
    assert classes_of("vistas12", "hdmap", "human--rider--bicyclist") == {"two_wheeler"}
    taught = load_class_table("vistas12").sets_in(load_taxonomy("cityscapes19")).values()
    assert set().union(*(classes for classes in taught if len(classes) == 1)) == set(range(19))


def test_an_id_beyond_the_table_is_refused(release12):
    path = release12 / "training" / "labels" / "0035fkbjWljhaftpVM37-g.png"
    write_labels(path, np.full((2, 3), 66, np.uint8), "vistas12")
    vistas = open_vistas(release12, version="1.2")
    table = LabelTable(dict.fromkeys(vistas.classes.ids, 0))
    with pytest.raises(DataError, match=r"outside the label set: 66 \(6 pixels\); allowed are 0 to 65"):
        table.apply(vistas.read_labels(0, (2, 3)), path)


def test_masks_of_release_12_do_not_pass_for_20(release12):
    with pytest.raises(
        DataError, match=r"no folder .*training/v2.0/labels \(.*training holds images.*register at https"
    ):
        open_vistas(release12)


def test_a_config_of_other_labels_is_refused_with_the_place(release20):
    path = write_config(release20, "2.0", "vistas20")
    document = json.loads(path.read_text())
    document["labels"][90], document["labels"][94] = document["labels"][94], document["labels"][90]
    path.write_text(json.dumps(document))
    message = "label 90 is 'object--traffic-light--cyclists' in place of 'object--traffic-light--general-single'"
    with pytest.raises(DataError, match=rf"config_v2.0.json is not the published one: {message}"):
        open_vistas(release20)


def test_a_config_with_fewer_labels_is_refused(release12):
    path = release12 / "config_v1.2.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({"labels": document["labels"][:65]}))
    with pytest.raises(DataError, match="it lists 65 labels in place of 66"):
        open_vistas(release12, version="1.2")


@pytest.mark.parametrize("text", ["{", "[]", '{"labels": [1]}', '{"classes": []}'])
def test_a_config_that_is_none_is_refused(release12, text):
    (release12 / "config_v1.2.json").write_text(text)
    with pytest.raises(DataError, match="config_v1.2.json is not a config of Vistas"):
        open_vistas(release12, version="1.2")


def test_missing_folders_say_how_to_get_the_data(tmp_path, release12):
    with pytest.raises(DataError, match=r"no folder .*gone/training/images.*register at https://www.mapillary.com"):
        open_vistas(tmp_path / "gone")
    for path in (release12 / "validation" / "labels").iterdir():
        path.unlink()
    (release12 / "validation" / "labels").rmdir()
    with pytest.raises(DataError, match=r"no folder .*validation/labels"):
        open_vistas(release12, version="1.2")


def test_one_split_alone_is_enough(release20):
    (release20 / "validation").rename(release20 / "set_aside")
    assert open_vistas(release20).frames.splits == ["train"]


def test_an_image_without_mask_is_named(release12):
    (release12 / "training" / "labels" / "_8kXBySYZMmKBAEAjpVrXA.png").unlink()
    with pytest.raises(
        DataError, match=r"1 image\(s\) in .*training/images have no mask .*: _8kXBySYZMmKBAEAjpVrXA.jpg"
    ):
        open_vistas(release12, version="1.2")


def test_unknown_options_list_the_known(release12):
    with pytest.raises(ConfigError, match="vistas has no version '1.1'; it has 1.2, 2.0"):
        open_vistas(release12, version="1.1")
    with pytest.raises(ConfigError, match="no masks 'panoptic'; labels is one of labels, instances"):
        open_vistas(release12, version="1.2", labels="panoptic")
