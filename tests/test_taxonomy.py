"""Taxonomies: what comes with roadseg, and what a wrong file is told."""

import json

import numpy as np
import pytest
import yaml

from roadseg.errors import TaxonomyError
from roadseg.taxonomy import RoadClass, Taxonomy, list_taxonomies, load_taxonomy


def test_camvid11_has_the_published_order_and_colours():
    taxonomy = load_taxonomy("camvid11")
    assert taxonomy.names == [
        "sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car", "pedestrian", "bicyclist",
    ]  # fmt: skip
    assert taxonomy.palette[3].tolist() == [128, 64, 128] and taxonomy.palette.shape == (256, 3)
    assert not taxonomy.palette[11:].any() and taxonomy.palette.dtype == np.uint8


@pytest.mark.parametrize("name", list_taxonomies())
def test_every_taxonomy_survives_a_round_trip(name):
    taxonomy = load_taxonomy(name)
    assert taxonomy.name == name
    assert Taxonomy.from_dict(yaml.safe_load(yaml.safe_dump(taxonomy.to_dict()))) == taxonomy


def test_ids_are_positions_and_unknown_names_are_listed():
    taxonomy = load_taxonomy("camvid11")
    assert taxonomy.id_of("road") == 3
    with pytest.raises(TaxonomyError, match="'camvid11' has no class 'lane'; it has sky, building"):
        taxonomy.id_of("lane")


def test_unknown_taxonomies_are_named_with_the_known(tmp_path):
    with pytest.raises(TaxonomyError, match=r"no taxonomy 'camvid12': give one of .*camvid11.*or the path of a .yaml"):
        load_taxonomy("camvid12")
    with pytest.raises(TaxonomyError, match="no taxonomy"):
        load_taxonomy(tmp_path / "gone.yaml")


CLASS = {"name": "road", "colour": [1, 2, 3]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": None}, "'classes' must be a list, got None"),
        ({"classes": []}, "has 0 classes"),
        ({"classes": [CLASS, CLASS]}, "class name road occurs more than once"),
        ({"classes": [CLASS, {**CLASS, "name": "lane"}]}, r"colour \(1, 2, 3\) occurs more than once"),
        (
            {"classes": [{**CLASS, "colour": [1, 2, 300]}]},
            r"'road' has colour \[1, 2, 300\]; each value must be 0..255",
        ),
        ({"classes": [{**CLASS, "colour": "red"}]}, "colour must be three integers .* got 'red'"),
        ({"classes": [{**CLASS, "color": 1}]}, "class 0: unknown key color; known: colour, group"),
        ({"classes": [{"name": "road"}]}, "class 0: missing colour"),
        ({"classes": ["road"]}, "class 0: expected a mapping with name and colour, got 'road'"),
        ({"classes": [{**CLASS, "left_right": "road_2"}]}, "names 'road_2' as its left_right partner"),
        ({"classes": [{**CLASS, "left_right": 1}]}, "must be words, got 'road', 1 and None"),
        ({"classes": [{**CLASS, "refines": ["lane"]}]}, "must be words, got 'road', None and .'lane'."),
        ({"classes": [{**CLASS, "refines": "road"}]}, "class 'road' refines itself"),
        ({"family": ["hdmap"]}, r"'family' must be a word, got \['hdmap'\]"),
        ({"version": True}, "'version' must be a int, got True"),
        ({"ignore_index": 0}, "ignore_index is 0; it must be 255"),
        ({"palette": 1}, "unknown key palette"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(tmp_path, change, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "version": 1, "classes": [CLASS], **change}))
    with pytest.raises(TaxonomyError, match=message):
        load_taxonomy(path)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "is not a YAML file"), ("- 1", "expected a mapping"), ("", "NoneType")]
)
def test_what_is_no_taxonomy_at_all_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(TaxonomyError, match=message):
        load_taxonomy(path)


def test_without_family_and_refinement_to_dict_is_what_it_was_before_there_were_such(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, version: 3, classes: [{name: road, colour: [1, 2, 3]}]}")
    expected = (
        '{"name": "mine", "version": 3, "ignore_index": 255, "classes": '
        '[{"name": "road", "colour": [1, 2, 3], "group": "other", "left_right": null}]}'
    )
    assert json.dumps(load_taxonomy(path).to_dict()) == expected


def test_family_refinement_and_partners_survive_json():
    classes = (
        RoadClass("lane_left", (1, 0, 0), "marking", "lane_right", "lane"),
        RoadClass("lane_right", (2, 0, 0), "marking", "lane_left", "lane"),
        RoadClass("road", (3, 0, 0), "surface"),
    )
    taxonomy = Taxonomy("mine", 2, classes, family="hdmap")
    document = json.loads(json.dumps(taxonomy.to_dict()))
    assert document["family"] == "hdmap" and [c.get("refines", "-") for c in document["classes"]] == [
        "lane",
        "lane",
        "-",
    ]
    assert Taxonomy.from_dict(document) == taxonomy
    assert Taxonomy.from_dict({**document, "family": "other"}) != taxonomy


def subset(**change):
    return yaml.safe_dump({"name": "mine", "version": 4, "subset_of": "hdmap", "classes": ["sky", "road"], **change})


def test_a_subset_keeps_its_own_order_and_the_looks_of_the_whole(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(subset())
    taxonomy, whole = load_taxonomy(path), load_taxonomy("hdmap")
    assert (taxonomy.name, taxonomy.version, taxonomy.family) == ("mine", 4, "hdmap")
    assert taxonomy.classes == (whole.classes[whole.id_of("sky")], whole.classes[0])
    (tmp_path / "smaller.yaml").write_text(subset(name="smaller", subset_of="mine.yaml", classes=["sky"]))
    assert load_taxonomy(tmp_path / "smaller.yaml").names == ["sky"]  # relative to the file, wherever it is run


def test_a_subset_of_a_taxonomy_without_family_is_of_the_family_of_its_name():
    assert load_taxonomy("camvid11").subset("roads", 1, ["road"]).family == "camvid11"


def test_a_subset_forgets_a_partner_that_it_leaves_out():
    classes = (RoadClass("left", (1, 0, 0), left_right="right"), RoadClass("right", (2, 0, 0), left_right="left"))
    taxonomy = Taxonomy("lanes", 1, classes)
    assert taxonomy.subset("half", 1, ["right"]).classes == (RoadClass("right", (2, 0, 0)),)
    assert taxonomy.subset("both", 1, ["right", "left"]).classes == classes[::-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["road", "lane"]}, r"mine.yaml: taxonomy 'hdmap' has no class 'lane'; it has road, lane_marking"),
        ({"classes": ["road", "road"]}, "class name road occurs more than once"),
        ({"classes": []}, "'mine' has 0 classes"),
        ({"classes": "road"}, "'classes' must be a list of class names of 'hdmap', got 'road'"),
        ({"classes": [0]}, r"'classes' must be a list of class names of 'hdmap', got \[0\]"),
        ({"subset_of": "hdmaps"}, "no taxonomy 'hdmaps': give one of"),
        ({"subset_of": "gone.yaml"}, "no taxonomy '.*gone.yaml'"),
        ({"subset_of": None}, "'subset_of' must be a str, got None"),
        ({"subset_of": "mine.yaml"}, "mine.yaml: subset_of leads back to this file"),
        ({"name": ""}, "'name' must be a str, got ''"),
        ({"version": "1"}, "'version' must be a int, got '1'"),
        ({"family": "hdmap"}, "unknown key family; known: classes, name, subset_of, version"),
    ],
)
def test_a_wrong_subset_is_told_what_is_wrong(tmp_path, change, message):
    path = tmp_path / "mine.yaml"
    path.write_text(subset(**change))
    with pytest.raises(TaxonomyError, match=message):
        load_taxonomy(path)


def test_subsets_of_each_other_are_refused(tmp_path):
    (tmp_path / "one.yaml").write_text(subset(subset_of="two.yaml"))
    (tmp_path / "two.yaml").write_text(subset(subset_of="./one.yaml"))
    with pytest.raises(TaxonomyError, match="one.yaml: subset_of leads back to this file"):
        load_taxonomy(tmp_path / "one.yaml")
