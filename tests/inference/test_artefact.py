"""Artefacts: what is in the folder, every way in which it can be wrong, and that it is written whole or not at all."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

import roadseg
from roadseg.errors import ArtefactError, OutputError
from roadseg.inference.artefact import ArtefactFacts, read_artefact, seal
from roadseg.inference.export.staging import check_output, staged
from roadseg.inference.package import read_model_file

FOUND = {"agreement": 0.99995}


@pytest.fixture
def facts(model_file):
    model = read_model_file(model_file)
    return ArtefactFacts("openvino", "bf16", model.header, model.digest, (48, 64), FOUND, {"a": "1"}, {"b": [2]})


@pytest.fixture
def folder(facts, tmp_path):
    folder = tmp_path / "artefact"
    folder.mkdir()
    (folder / "model.xml").write_bytes(b"<net/>")
    (folder / "model.bin").write_bytes(b"weights")
    seal(folder, facts)
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / "artefact.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_reads_back_what_was_written(folder, facts):
    artefact = read_artefact(folder)
    assert artefact.facts.to_dict() == facts.to_dict() and artefact.facts.static_size == (48, 64)
    assert artefact.header.to_json() == facts.header.to_json()
    assert artefact.digest == hashlib.sha256((folder / "artefact.json").read_bytes()).hexdigest()


def test_the_description_is_sorted_json_with_the_digest_of_every_file(folder, model_file):
    text = (folder / "artefact.json").read_text()
    document = json.loads(text)
    assert text == json.dumps(document, indent=2, sort_keys=True) + "\n"
    assert document["files"] == {
        "model.xml": hashlib.sha256(b"<net/>").hexdigest(),
        "model.bin": hashlib.sha256(b"weights").hexdigest(),
    }
    assert document["model_digest"] == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert document["model"]["taxonomy"]["classes"][3]["name"] == "road"


def test_the_digest_changes_with_every_file(folder, facts):
    before = read_artefact(folder).digest
    (folder / "model.bin").write_bytes(b"Weights")
    assert seal(folder, facts).digest != before
    (folder / "model.bin").write_bytes(b"weights")
    assert seal(folder, facts).digest == before == seal(folder, replace(facts)).digest


def test_the_runtime_files_metadata_leaves_out_what_is_found_later(facts):
    document = json.loads(facts.metadata())
    assert "verification" not in document and document["precision"] == "bf16"
    unverified = replace(facts, verification=None, unverified="not now")
    assert facts.metadata() == unverified.metadata() == json.dumps(document, sort_keys=True)


def test_an_artefact_may_say_that_it_was_not_verified(folder, facts):
    seal(folder, replace(facts, verification=None, unverified="nobody did"))
    found = read_artefact(folder).facts
    assert found.verification is None and found.unverified == "nobody did"


def test_it_goes_by_the_name_of_the_model_that_it_was_made_of_else_by_its_folders(folder, facts):
    old = folder / "artefact.json"
    document = json.loads(old.read_text())
    del document["model_name"]  # as artefacts were written before
    old.write_text(json.dumps(document))
    named = folder.rename(folder.with_name("city-v1.2"))
    assert read_artefact(named).name == read_artefact(f"{named}/").name == "city-v1.2"
    seal(named, replace(facts, model_name="road.v2"))
    assert read_artefact(named).name == "road.v2"


@pytest.mark.parametrize("part", ["artefact.json", "model.bin"])
def test_a_pipe_in_a_files_place_is_refused_and_not_waited_for(folder, part):
    (folder / part).unlink()
    os.mkfifo(folder / part)
    with pytest.raises(ArtefactError, match=part):
        read_artefact(folder)


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "artefact.json"])
def test_a_part_of_an_artefact_in_its_place_names_the_folder(folder, name):
    with pytest.raises(ArtefactError, match=rf"{name} is a part of an exported model; give its folder, {folder}$"):
        roadseg.load_predictor(folder / name)


@pytest.mark.parametrize("name", ["model.onnx", "gone.xml", "model.plan", "model.pt2"])
def test_a_runtimes_file_alone_is_no_model(tmp_path, name):
    if not name.startswith("gone"):
        (tmp_path / name).write_bytes(b"of another program")
    with pytest.raises(ArtefactError, match=rf"{name} is no model file; give the folder that `roadseg export"):
        roadseg.load_predictor(str(tmp_path / name))


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_changed_file_is_refused(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(
        ArtefactError, match=rf"{name} is not the file that was exported: its SHA-256 is .*copy the fold"
    ):
        read_artefact(folder)


def test_a_missing_file_is_named(folder):
    (folder / "model.bin").unlink()
    with pytest.raises(ArtefactError, match="lacks model.bin; copy the whole folder, or export the model again"):
        read_artefact(folder)


def test_a_folder_of_something_else_is_no_artefact(tmp_path):
    for wrong in (tmp_path, tmp_path / "gone"):
        with pytest.raises(ArtefactError, match="no exported model: there is no artefact.json in it; make one with"):
            read_artefact(wrong)
    with pytest.raises(ArtefactError, match="there is no artefact.json in it"):
        roadseg.load_predictor(tmp_path)


def test_another_version_is_refused(folder):
    edit(folder, artefact_version=2)
    with pytest.raises(ArtefactError, match="has version 2; this roadseg reads version 1: update roadseg, or export"):
        read_artefact(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "pickle"},
        {"format": ["onnx"]},
        {"precision": "f64"},
        {"artefact_version": "1"},
        {"artefact_version": True},
        {"static_size": [0, 4]},
        {"static_size": [4]},
        {"static_size": ["4", "4"]},
        {"model": 3},
        {"model": {}},
        {"model_digest": None},
        {"files": {}},
        {"files": {"../model.xml": "0", "model.bin": "0"}},
        {"files": [1]},
        {"verification": []},
        {"unverified": None},
    ],
)
def test_a_damaged_description_is_refused(folder, changes):
    edit(folder, **changes)
    with pytest.raises(ArtefactError, match=r"(is damaged|has a damaged header) .*export it again"):
        read_artefact(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_description_that_is_no_json_object_is_refused(folder, text):
    (folder / "artefact.json").write_bytes(text)
    with pytest.raises(ArtefactError, match="artefact.json is damaged .*; export it again"):
        read_artefact(folder)


def test_a_folder_that_lacks_files_is_not_sealed(folder, facts):
    (folder / "model.bin").unlink()
    with pytest.raises(ArtefactError, match="lacks model.bin, which an artefact of the format 'openvino' holds"):
        seal(folder, facts)


def make(folder: Path, facts: ArtefactFacts, weights: bytes) -> None:
    (folder / "model.xml").write_bytes(b"<net/>")
    (folder / "model.bin").write_bytes(weights)
    seal(folder, facts)


def test_an_artefact_appears_whole_and_replaces_an_older_one(tmp_path, facts):
    for weights in (b"first", b"second"):
        with staged(tmp_path / "deep" / "out") as folder:
            make(folder, facts, weights)
            assert folder.parent == tmp_path / "deep"
        assert read_artefact(tmp_path / "deep" / "out").file("model.bin").read_bytes() == weights
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"], "nothing else stays"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_export_leaves_the_older_artefact_whole(tmp_path, facts, error):
    with staged(tmp_path / "out") as folder:
        make(folder, facts, b"first")
    with pytest.raises(error), staged(tmp_path / "out") as folder:
        make(folder, facts, b"second")
        raise error
    assert read_artefact(tmp_path / "out").file("model.bin").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_no_artefact_is_never_replaced(tmp_path, facts):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    (tmp_path / "file").write_bytes(b"b")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for name, message in (
        ("photos", "holds a.jpg and is no exported model"),
        ("file", "is a file, and an exported model is a folder"),
        ("link", "is a link"),
    ):
        with pytest.raises(OutputError, match=f"{name} {message}"):
            check_output(tmp_path / name)
        with pytest.raises(OutputError), staged(tmp_path / name):
            raise AssertionError("refused before anything is computed")
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"a" and (tmp_path / "file").read_bytes() == b"b"


def test_a_folder_that_fills_up_meanwhile_is_not_replaced(tmp_path, facts):
    with pytest.raises(OutputError, match="holds a.jpg"), staged(tmp_path / "out") as folder:
        make(folder, facts, b"first")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a.jpg").write_bytes(b"a")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.jpg"]
