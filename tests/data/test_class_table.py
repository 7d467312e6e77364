"""Class tables: what a dataset's labels mean in a taxonomy, and what a wrong table is told."""

from pathlib import Path

import numpy as np
import pytest
import yaml

import roadseg.data.class_table as module
from roadseg.data.class_table import ClassTable, SourceLabel, colour_lookup, load_class_table
from roadseg.data.synthetic.classes import Label
from roadseg.errors import DataError
from roadseg.taxonomy import RoadClass, Taxonomy, list_taxonomies, load_taxonomy

PACKAGED = sorted(path.stem for path in (Path(module.__file__).parent / "class_tables").glob("*.yaml"))
LANES = {"lane_solid", "lane_dashed", "lane_double", "lane_stop_line", "lane_arrow", "lane_zebra", "lane_other"}


def table(family="hdmap", **targets):
    """A table whose labels are named and mapped so."""
    labels = [SourceLabel(i, name, None, {family: tuple(to)}) for i, (name, to) in enumerate(targets.items())]
    return ClassTable("mine", tuple(labels))


def names_in(class_table, taxonomy):
    """Label name -> names of the classes that it may be."""
    name_of = {label.id: label.name for label in class_table.labels}
    sets = class_table.sets_in(taxonomy)
    return {name_of[i]: {taxonomy.names[c] for c in members} for i, members in sets.items()}


def test_a_label_is_the_set_of_the_classes_it_may_be():
    taxonomy = load_taxonomy("hdmap")
    street = table(void=[], street=["road", "lane_marking", "manhole"], sky=["sky", "sky"])
    ids = {name: taxonomy.id_of(name) for name in taxonomy.names}
    expected = {0: frozenset(), 1: frozenset({ids["road"], ids["lane_marking"], ids["manhole"]}), 2: {ids["sky"]}}
    assert street.sets_in(taxonomy) == expected


def test_a_label_without_the_family_is_ignored_as_one_with_no_classes_is():
    labels = (SourceLabel(7, "sky", None, {"hdmap": ("sky",)}), SourceLabel(9, "void"))
    sets = ClassTable("mine", labels).sets_in(load_taxonomy("hdmap-camvid"))
    assert sets == {7: {load_taxonomy("hdmap-camvid").id_of("sky")}, 9: frozenset()}


def test_a_coarse_label_may_be_any_refinement():
    lanes = load_taxonomy("hdmap-lanes")
    sets = names_in(table(mark=["lane_marking"], paint=["road", "lane_marking"], arrow=["lane_arrow"]), lanes)
    assert sets == {"mark": LANES, "paint": LANES | {"road"}, "arrow": {"lane_arrow"}}


def test_a_refined_label_is_its_whole_in_a_coarse_taxonomy():
    fine = table(solid=["lane_solid"], lines=["lane_solid", "lane_dashed"], edge=["road", "lane_solid"], sky=["sky"])
    assert names_in(fine, load_taxonomy("hdmap")) == {
        "solid": {"lane_marking"},
        "lines": {"lane_marking"},
        "edge": {"road", "lane_marking"},
        "sky": {"sky"},
    }
    assert names_in(fine, load_taxonomy("hdmap-synthetic"))["solid"] == {"lane_marking"}


def test_a_class_that_a_subset_leaves_out_is_ignored():
    camvid = load_taxonomy("hdmap-camvid")  # which has neither crosswalk nor manhole
    sets = names_in(table(crossing=["crosswalk"], street=["road", "crosswalk", "manhole"]), camvid)
    assert sets == {"crossing": set(), "street": {"road"}}
    bare = load_taxonomy("hdmap").subset("bare", 1, ["road", "sky"])
    assert names_in(table(arrow=["lane_arrow"], mark=["lane_marking"]), bare) == {"arrow": set(), "mark": set()}


def test_a_refinement_that_a_subset_leaves_out_does_not_become_its_sibling():
    solid = load_taxonomy("hdmap-lanes").subset("solid", 1, ["road", "lane_solid", "lane_arrow"])
    sets = names_in(table(dashed=["lane_dashed"], mark=["lane_marking"], lane=["lane_solid", "lane_other"]), solid)
    assert sets == {"dashed": set(), "mark": {"lane_solid", "lane_arrow"}, "lane": {"lane_solid"}}


def test_refinements_of_refinements_are_parts_too():
    classes = (
        RoadClass("road", (1, 0, 0)),
        RoadClass("lane_solid_white", (2, 0, 0), refines="lane_solid"),
        RoadClass("lane_solid_yellow", (3, 0, 0), refines="lane_solid"),
        RoadClass("lane_dashed", (4, 0, 0), refines="lane_marking"),
    )
    colours = Taxonomy("colours", 1, classes, family="hdmap")
    white, yellow = "lane_solid_white", "lane_solid_yellow"
    sets = names_in(table(mark=["lane_marking"], solid=["lane_solid"], white=[white], zebra=["lane_zebra"]), colours)
    assert sets == {"mark": {white, yellow, "lane_dashed"}, "solid": {white, yellow}, "white": {white}, "zebra": set()}


def test_beside_its_parts_a_coarse_class_is_the_rest_of_them():
    classes = (RoadClass("lane_marking", (1, 0, 0)), RoadClass("lane_solid", (2, 0, 0), refines="lane_marking"))
    taxonomy = Taxonomy("solid", 1, classes, family="hdmap")
    sets = names_in(table(mark=["lane_marking"], solid=["lane_solid"], dashed=["lane_dashed"]), taxonomy)
    assert sets == {"mark": {"lane_marking", "lane_solid"}, "solid": {"lane_solid"}, "dashed": {"lane_marking"}}


def test_classes_that_refine_each_other_in_a_circle_end():
    a, b = RoadClass("a", (1, 0, 0), refines="b"), RoadClass("b", (2, 0, 0), refines="a")
    assert names_in(table(family="odd", x=["a"]), Taxonomy("odd", 1, (a, b)))["x"] == {"a", "b"}


@pytest.mark.parametrize("name", ["hdmap", "hdmap-lanes", "hdmap-camvid"])
def test_an_unknown_class_is_named_with_the_table_and_what_there_is(name):
    with pytest.raises(DataError, match=f"class table 'mine': taxonomy '{name}' has no class 'roads'; it has road"):
        table(sky=["sky"], street=["roads"]).sets_in(load_taxonomy(name))
    with pytest.raises(DataError, match=f"taxonomy '{name}' has no class 'Animal'"):  # which is camvid32's, no relative
        table(sky=["sky"], cow=["Animal"]).sets_in(load_taxonomy(name))


def test_a_table_that_says_nothing_of_the_family_is_refused():
    with pytest.raises(DataError, match="'mine' are mapped to camvid11, but not to taxonomy 'hdmap-lanes'.*label_map"):
        table("camvid11", sky=["sky"]).sets_in(load_taxonomy("hdmap-lanes"))
    with pytest.raises(
        DataError, match="what labels of dataset 'mine' are in taxonomy 'camvid11': give it a label_map .* {sky: "
    ):
        ClassTable("mine", (SourceLabel(0, "sky"),)).sets_in(load_taxonomy("camvid11"))


def test_new_targets_replace_those_of_one_family_and_of_the_labels_named():
    labels = (
        SourceLabel(3, "street", (9, 9, 9), {"hdmap": ("road",), "camvid11": ("road",)}, 0),
        SourceLabel(4, "sky", None, {"hdmap": ("sky",)}),
    )
    before = ClassTable("mine", labels, "here", "free")
    after = before.with_targets("hdmap", {"street": ["road", "manhole"]})
    changed = SourceLabel(3, "street", (9, 9, 9), {"hdmap": ("road", "manhole"), "camvid11": ("road",)}, 0)
    assert after == ClassTable("mine", (changed, labels[1]), "here", "free")
    assert before.labels == labels
    ignored = after.with_targets("hdmap", {"street": []}).sets_in(load_taxonomy("hdmap"))
    assert ignored == {3: frozenset(), 4: {load_taxonomy("hdmap").id_of("sky")}}
    with pytest.raises(DataError, match="class table 'mine' has no label 'steet'; it has street, sky"):
        before.with_targets("hdmap", {"steet": ["road"]})


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_table_means_something_in_every_taxonomy_that_it_maps_to(name):
    class_table = load_class_table(name)
    assert class_table.name == name and class_table.source and class_table.licence
    families = {family for label in class_table.labels for family in label.to}
    taxonomies = [load_taxonomy(taxonomy) for taxonomy in list_taxonomies()]
    relatives = [taxonomy for taxonomy in taxonomies if (taxonomy.family or taxonomy.name) in families]
    assert {taxonomy.family or taxonomy.name for taxonomy in relatives} == families  # no family is misspelt
    assert "hdmap" in families
    for taxonomy in relatives:
        sets = class_table.sets_in(taxonomy)  # no class is misspelt
        assert set(sets) == set(class_table.ids) and any(sets.values())


def test_the_scenes_labels_are_exactly_the_classes_of_their_taxonomy():
    taxonomy, class_table = load_taxonomy("hdmap-synthetic"), load_class_table("synthetic")
    assert class_table.sets_in(taxonomy) == {i: frozenset({i}) for i in range(13)}
    assert [label.name for label in class_table.labels] == taxonomy.names == [label.name.lower() for label in Label]
    assert [label.colour for label in class_table.labels] == [c.colour for c in taxonomy.classes]


def test_the_scenes_labels_say_what_they_do_not_tell_apart():
    # Kerbs are labelled sidewalk, manhole covers road, zebra crossings stripes of lane_marking on road.
    sets = names_in(load_class_table("synthetic"), load_taxonomy("hdmap"))
    merged = {name: classes for name, classes in sets.items() if classes != {name}}
    assert merged == {
        "road": {"road", "crosswalk", "manhole"},
        "lane_marking": {"lane_marking", "crosswalk"},
        "sidewalk": {"sidewalk", "curb"},
    }
    lanes = names_in(load_class_table("synthetic"), load_taxonomy("hdmap-lanes"))
    assert lanes["lane_marking"] == LANES | {"crosswalk"}


LABEL = {"id": 1, "name": "street", "colour": [1, 2, 3], "to": {"hdmap": ["road"]}}


def test_a_users_own_table_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "drives.yaml"
    path.write_text(yaml.safe_dump({"source": "us", "labels": [LABEL, {"id": 65535, "name": "void", "train_id": 255}]}))
    street = SourceLabel(1, "street", (1, 2, 3), {"hdmap": ("road",)})
    expected = ClassTable("drives", (street, SourceLabel(65535, "void", train_id=255)), "us")
    assert load_class_table(path) == load_class_table(str(path)) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([{"name": "street"}], "label 0: expected id and name.*got {'name': 'street'}"),
        ([{"id": 1}], "label 0: expected id and name"),
        ([LABEL, {**LABEL, "id": 2, "color": 1}], "label 1: expected id and name.*'color': 1"),
        (["street"], "label 0: expected id and name.*got 'street'"),
        ([LABEL, LABEL], "class table 'mine': id 1 occurs more than once"),
        ([{**LABEL, "id": "1"}], "id and train_id must be whole numbers, got '1' and None"),
        ([{**LABEL, "id": True}], "id and train_id must be whole numbers, got True"),
        ([{**LABEL, "train_id": 1.0}], "id and train_id must be whole numbers, got 1 and 1.0"),
        ([{**LABEL, "id": -1}], "label 'street' has id -1; use 0..65535"),
        ([{**LABEL, "id": 65536}], "label 'street' has id 65536; use 0..65535"),
        ([{**LABEL, "colour": [1, 2]}], r"colour must be \[red, green, blue\], each 0..255, got \[1, 2\]"),
        ([{**LABEL, "colour": [1, 2, 256]}], r"colour must be .* got \[1, 2, 256\]"),
        ([{**LABEL, "colour": [1, 2, -1]}], r"colour must be .* got \[1, 2, -1\]"),
        ([{**LABEL, "colour": "red"}], "colour must be .* got 'red'"),
        ([{**LABEL, "colour": []}], r"colour must be .* got \[\]"),
        ([{**LABEL, "to": ["road"]}], r"'to' must give a list of class names for each taxonomy family, got \['road'\]"),
        ([{**LABEL, "to": {"hdmap": "road"}}], "'to' must give a list of class names.*got {'hdmap': 'road'}"),
        ([{**LABEL, "to": {"hdmap": [0]}}], "'to' must give a list of class names"),
        ("street", "expected a mapping with name and a list of labels"),
    ],
)
def test_a_wrong_table_is_told_what_is_wrong(tmp_path, labels, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "labels": labels}))
    with pytest.raises(DataError, match=message):
        load_class_table(path)


def test_what_is_no_table_at_all_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    for text, message in [("a: [", "is not a YAML file"), ("", "expected a mapping"), ("- 1", "expected a mapping")]:
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            load_class_table(path)
    path.write_bytes(b"name: caf\xe9")
    with pytest.raises(DataError, match="is not a YAML file"):
        load_class_table(path)
    path.write_text("{labels: [], colours: [], families: []}")
    with pytest.raises(DataError, match="unknown key colours, families"):
        load_class_table(path)
    with pytest.raises(
        DataError, match="no class table 'camvid99': give one of .*camvid, camvid32.*or the path of a .ya"
    ):
        load_class_table("camvid99")
    with pytest.raises(DataError, match="no class table '.*gone.yaml'"):
        load_class_table(tmp_path / "gone.yaml")


def test_labels_of_one_colour_are_told_apart_only_when_nothing_depends_on_it():
    road = SourceLabel(300, "road", (1, 2, 3), {"hdmap": ("road",)})
    lane = SourceLabel(2, "lane", (1, 2, 3), {"hdmap": ("road",)})
    red, void = SourceLabel(9, "red", (255, 0, 0)), SourceLabel(4, "void")
    colours, ids = colour_lookup(ClassTable("mine", (road, red, void, lane)))
    assert colours.tolist() == [0x010203, 0xFF0000] and ids.tolist() == [300, 9] and ids.dtype == np.uint16
    with pytest.raises(DataError, match=r"class table 'mine': labels 300 and 5 share the colour \[1, 2, 3\]"):
        colour_lookup(ClassTable("mine", (road, SourceLabel(5, "kerb", (1, 2, 3), {"hdmap": ("curb",)}))))
