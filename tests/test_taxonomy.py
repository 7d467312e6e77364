"""Taxonomies: what comes with roadseg, and what a wrong file is told."""

import numpy as np
import pytest
import yaml

from roadseg.errors import TaxonomyError
from roadseg.taxonomy import Taxonomy, list_taxonomies, load_taxonomy


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
    with pytest.raises(TaxonomyError, match=r"no taxonomy 'camvid12': give one of camvid11.*or the path of a .yaml"):
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
