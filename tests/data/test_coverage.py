"""What datasets teach, by hand, and `roadseg data coverage` as a user meets it."""

import json

import pytest
import yaml

from roadseg.cli import main
from roadseg.data.class_table import ClassTable, SourceLabel, load_class_table
from roadseg.data.coverage import coverage
from roadseg.taxonomy import RoadClass, Taxonomy, load_taxonomy

TAXONOMY = Taxonomy("three", 1, tuple(RoadClass(name, (i, 0, 0)) for i, name in enumerate(["road", "lane", "sky"])))


def table(*sets):
    return ClassTable("t", tuple(SourceLabel(i, f"l{i}", None, {"three": s}) for i, s in enumerate(sets)))


def test_a_class_is_taught_where_a_label_says_exactly_it():
    coarse, fine = table(("road", "lane"), ("sky",)), table(("lane",), ("road", "lane", "sky"), ())
    found = coverage([("coarse", coarse), ("fine", fine)], TAXONOMY)
    assert found.cells == {
        "coarse": {"road": "with lane", "lane": "with road", "sky": "yes"},
        "fine": {"road": "with lane, sky", "lane": "yes", "sky": "with road, lane"},
    }
    assert found.untaught == ["road"]


def test_a_dataset_that_is_named_twice_has_two_columns():
    found = coverage([("a", table(("sky",))), ("a", table(("road",), ("lane",)))], TAXONOMY)
    assert list(found.cells) == ["a", "a (2)"] and found.untaught == []
    assert found.to_text().splitlines()[0].split() == ["class", "a", "a", "(2)"]


def test_camvid_teaches_the_subset_only_with_its_fine_labels():
    taxonomy = load_taxonomy("hdmap-camvid")
    coarse = coverage([("camvid", load_class_table("camvid"))], taxonomy)
    assert coarse.untaught == ["road", "lane_marking", "wall", "traffic_sign", "traffic_light", "building"]
    assert coverage([("camvid32", load_class_table("camvid32"))], taxonomy).untaught == []


@pytest.fixture
def config(tmp_path):
    def write(**data):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({"data": data}))
        return str(path)

    return write


def test_the_command_prints_a_table_and_succeeds(config, capsys):
    path = config(taxonomy="hdmap-camvid", datasets=[{"dataset": "camvid"}, {"dataset": "camvid32"}])
    assert main(["data", "coverage", "-c", path]) == 0
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert rows[0][0] == "class" and len(rows) == 15
    assert [cell.strip() for cell in rows[2] if cell.strip()] == ["lane_marking", "with road", "yes"]


def test_the_command_fails_when_a_class_is_taught_by_none(config, capsys):
    path = config(taxonomy="hdmap-camvid", datasets=[{"dataset": "camvid"}, {"dataset": "camvid32", "splits": ["val"]}])
    assert main(["data", "coverage", "-c", path, "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["untaught"][:2] == ["road", "lane_marking"]
    assert "no dataset labels road, lane_marking, wall, " in shown.err and "'hdmap-camvid' by itself" in shown.err


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"dataset": "kamvid"}, "no dataset 'kamvid'; known: ade20k"),
        ({"taxonomy": "hdmapp"}, "no taxonomy 'hdmapp': give one of"),
        ({"datasets": [{"name": "camvid"}]}, "dataset"),
        ({"batchsize": 3}, "batchsize"),
        ({"waive": ["leak-drives"]}, "there is no check 'leak-drives'"),
    ],
)
def test_a_wrong_configuration_is_one_line(config, capsys, data, message):
    path = config(**data)
    assert main(["data", "coverage", "-c", path]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error


def test_the_data_section_may_be_the_whole_file_or_named_by_another(tmp_path, capsys):
    (tmp_path / "data.yaml").write_text("taxonomy: camvid11\n")
    (tmp_path / "whole.yaml").write_text("trainer: {max_epochs: 1}\ndata: data.yaml\n")
    for name in ("data.yaml", "whole.yaml"):
        assert main(["data", "coverage", "-c", str(tmp_path / name)]) == 0
        assert capsys.readouterr().out.count("yes") == 11


def test_a_missing_file_is_named(capsys, tmp_path):
    assert main(["data", "coverage", "-c", str(tmp_path / "none.yaml")]) == 1
    assert f"cannot read the configuration {tmp_path / 'none.yaml'}" in capsys.readouterr().err
