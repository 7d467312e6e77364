"""Bundled models by name: what a name means, and what is told when one loads."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import roadseg
from roadseg.cli import main
from roadseg.errors import ModelFileError
from roadseg.inference.bundled import BUNDLED_MODELS, DEFAULT_MODEL, model_path
from roadseg.inference.licence import licence_line
from tests.inference.conftest import TERMS
from tests.inference.test_package import rewrite

LINE = f"roadseg-nano: weights: {TERMS}; code: Apache-2.0"


def digest_of(path):
    return sha256(Path(path).read_bytes()).hexdigest()


def test_without_a_name_the_default_model_loads(bundled):
    expected = digest_of(bundled)
    assert roadseg.load_predictor(device="cpu").digest == expected
    assert roadseg.load_predictor("roadseg-nano", device="cpu").digest == expected


def test_a_file_of_a_bundled_models_name_does_not_take_its_place(bundled, model_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("roadseg-nano").write_bytes(model_file.read_bytes())
    own, theirs = digest_of("roadseg-nano"), digest_of(bundled)
    assert own != theirs
    assert roadseg.load_predictor("roadseg-nano", device="cpu").digest == theirs
    assert roadseg.load_predictor("./roadseg-nano", device="cpu").digest == own
    assert roadseg.load_predictor(Path("roadseg-nano"), device="cpu").digest == own


def test_a_file_beside_which_a_bundled_name_would_be_meant_is_a_path(bundled, model_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("roadseg-nano.safetensors", "mine"):
        Path(name).write_bytes(model_file.read_bytes())
        assert roadseg.load_predictor(name, device="cpu").digest == digest_of(model_file)


@pytest.mark.parametrize("name", ["roadseg-nan", "Roadseg-Nano", " roadseg-nano", "nano"])
def test_what_is_no_bundled_name_is_told_with_those_that_are(bundled, name):
    with pytest.raises(
        ModelFileError,
        match=rf"no bundled model '{name}', and no such file; bundled: deeplabv3plus-mobilenet, roadseg-nano\. Name "
        r"one of them, or make a model file with `roadseg package CKPT -o FILE`",
    ):
        roadseg.load_predictor(name)


@pytest.mark.parametrize("path", ["gone.safetensors", "./roadseg-nano", "models/roadseg-nano", Path("roadseg-nano")])
def test_a_path_is_missing_as_a_path(bundled, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match="^no model file at .*; make one with `roadseg package"):
        roadseg.load_predictor(path)


def test_an_installation_without_the_weights_is_named(bundled):
    bundled.unlink()
    with pytest.raises(
        ModelFileError, match=r"'roadseg-nano' is not at .*weights.roadseg-nano\.safetensors: this inst"
    ):
        roadseg.load_predictor()


def test_a_cut_off_bundled_file_is_refused(bundled):
    bundled.write_bytes(bundled.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match="roadseg-nano.safetensors is not a readable .safetensors file"):
        roadseg.load_predictor()


def test_the_default_is_a_bundled_model_and_no_name_looks_like_a_path():
    assert DEFAULT_MODEL in BUNDLED_MODELS and list(BUNDLED_MODELS) == sorted(BUNDLED_MODELS)
    assert all(Path(name).name == name and not Path(name).suffix for name in BUNDLED_MODELS)


def test_the_licence_is_told_once_however_often_and_wherever_the_model_is_loaded(bundled, caplog):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: roadseg.load_predictor(device="cpu"), range(4)))
    assert [record.getMessage() for record in caplog.records] == [LINE]


def test_another_models_licence_is_told_too_and_an_unspecified_one_is_not(bundled, model_file, tmp_path, caplog):
    own = rewrite(model_file, tmp_path / "mine.safetensors", header={"weights_licence": "CC-BY-4.0"})
    for path in (model_file, own, "roadseg-nano"):
        roadseg.load_predictor(path, device="cpu")
    assert [record.getMessage() for record in caplog.records] == [
        "mine: weights: CC-BY-4.0; code: Apache-2.0",
        LINE,
    ]


def test_a_model_that_does_not_load_tells_no_licence(bundled, caplog):
    with pytest.raises(roadseg.RoadsegError, match="no device"):
        roadseg.load_predictor(device="gpu")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("terms", "shown"),
    [
        ("unspecified", None),
        ("", None),
        (" \n", None),
        ("research\nuse\x1b[2J only\ud800", "m: weights: research use [2J only; code: Apache-2.0"),
        ("a b " * 1000, f"m: weights: {'a b ' * 73}a [...]; code: Apache-2.0"),
    ],
)
def test_a_licence_of_any_text_is_one_line_that_a_terminal_can_show(terms, shown):
    assert licence_line("m", terms) == shown


def test_a_library_user_who_has_set_nothing_up_sees_the_licence_on_standard_error(bundled):
    code = (  # what `load_predictor` does, without the seconds that torch takes
        "import sys; from roadseg.inference import licence, package; model = package.read_model_file(sys.argv[1]); "
        "licence.tell_licence(model); licence.tell_licence(model); print(model.header.weights_licence)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundled)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert (done.stdout, done.stderr) == (f"{TERMS}\n", f"{LINE}\n")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (48, 32), (90, 90, 90)).save(path)
    return path


def test_segment_takes_the_bundled_model_and_tells_its_licence_beside_its_output(
    bundled, photo, tmp_path, capsys, caplog
):
    assert main(["segment", str(photo), "-o", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith(f"wrote 1 mask to {tmp_path / 'out'} in ")
    assert [record.getMessage() for record in caplog.records] == [LINE]
    mask = np.asarray(Image.open(tmp_path / "out" / "photo.png"))
    assert np.array_equal(mask, roadseg.load_predictor(bundled, device="cpu")(photo).mask)


def test_segment_names_a_model_that_it_does_not_know(bundled, photo, tmp_path, capsys):
    assert main(["segment", str(photo), "-o", str(tmp_path / "out"), "--model", "roadseg-huge"]) == 1
    assert "error: no bundled model 'roadseg-huge'" in capsys.readouterr().err


def test_every_path_object_and_every_existing_file_is_taken_as_it_is(tmp_path):
    for path in (tmp_path, tmp_path / "gone", Path("x.safetensors")):
        assert model_path(path) == path
    assert model_path(str(tmp_path)) == tmp_path
