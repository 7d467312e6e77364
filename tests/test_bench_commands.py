"""`roadseg bench`, as a user meets it."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from roadseg.benching import results
from roadseg.cli import main
from roadseg.inference.predictor import load_predictor


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engines", "torch,abacus"], "no engine 'abacus'; known: auto, "),
        (["--precisions", "f8"], "no precision 'f8'; known: auto, "),
        (["--sizes", "0x0"], "--sizes is '0x0'; use HEIGHTxWIDTH in pixels"),
        (["--sizes", "512x512,512"], "--sizes is '512'"),
        (["--batches", "100000"], "batch is 100000; use 1 to 1024"),
        (["--json", "gone/bench.json"], "there is no folder gone: make it first"),
        (["--json", "bench.txt"], "use the name of a file that ends in .json"),
        (["--json", "folder.json"], "--json is 'folder.json'; use the name of a file"),
        (["--plot", "bench.jpg"], "use the name of a file that ends in .png"),
        (["gone.safetensors"], "no model at gone.safetensors"),
        (["roadsg-nano"], "no bundled model 'roadsg-nano'"),
        (["folder.json"], "is no exported model"),
    ],
)
def test_what_cannot_work_is_refused_at_once(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("folder.json").mkdir()
    monkeypatch.setattr("roadseg.benching.bench.run_bench", lambda *a: pytest.fail("it was measured"))
    assert main(["bench", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_the_measuring(tmp_path, monkeypatch, capsys, option):
    monkeypatch.setattr("roadseg.benching.bench.run_bench", lambda *a: pytest.fail("it was measured"))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # whoever runs the tests may write everywhere
    path = tmp_path / {"--json": "b.json", "--plot": "b.png"}[option]
    assert main(["bench", option, str(path)]) == 1
    assert f"{tmp_path} cannot be written to: choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batches", "0"], "argument --batches: '0'; use a whole number of at least 1"),
        (["--repeats", "0"], "argument --repeats: '0'; use a whole number of at least 1"),
        (["--repeats=-3"], "argument --repeats: '-3'"),
        (["--threads", "two"], "argument --threads: 'two'"),
        (["--engines", ","], "argument --engines: ','; give at least one, with commas between"),
    ],
)
def test_numbers_and_lists_that_are_none_are_wrong_usage(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *arguments])
    assert message in capsys.readouterr().err


def test_the_help_has_an_example_that_parses(capsys):
    from roadseg.cli import _parser

    with pytest.raises(SystemExit, match="0"):
        main(["bench", "--help"])
    example = capsys.readouterr().out.partition("example:\n")[2].split()
    assert example[:2] == ["roadseg", "bench"]
    parsed = _parser().parse_args(example[1:])
    assert parsed.models == ["roadseg-nano", "deeplabv3plus-mobilenet"] and parsed.engines == ["torch", "openvino"]


def test_models_may_come_after_the_options_and_are_the_bundled_one_where_none_is_named():
    from roadseg.cli import _parser

    assert _parser().parse_args(["bench", "--engines", "torch", "a", "b"]).models == ["a", "b"]
    assert _parser().parse_args(["bench", "--engines", "torch"]).models == ["roadseg-nano"]


def test_a_run_prints_a_table_and_writes_json_and_a_picture(tmp_path, monkeypatch, capsys, model_file, quick_ceiling):
    """Two names of a model file, in torch, and a precision that torch has not."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    shutil.copy(model_file, "other.safetensors")
    options = ["--engines", "torch", "--precisions", "f32,int8", "--sizes", "32x48", "--repeats", "2", "--no-memory"]
    options += ["--device", "cpu", "--json", "b.json", "--plot", "b.png"]
    assert main(["bench", str(model_file), "other.safetensors", *options]) == 0
    shown = capsys.readouterr().out
    assert "other.safetensors" in shown and "100.000 %" in shown and shown.endswith("wrote b.json\nwrote b.png\n")
    document = json.loads(Path("b.json").read_text())
    assert [row["unavailable"] is None for row in document["rows"]] == [True, False, True, False]
    assert "int8" in document["rows"][1]["unavailable"]
    assert document["rows"][0]["model_digest"] == load_predictor(model_file, engine="torch").digest
    assert document["settings"]["repeats"] == 2 and document["settings"]["memory"] is False
    assert Image.open("b.png").format == "PNG"


def test_nothing_that_runs_is_a_failure_which_has_json_and_no_picture(tmp_path, monkeypatch, capsys, model_file):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    options = ["--engines", "torch", "--precisions", "int8", "--sizes", "8x8", "--no-memory"]
    assert main(["bench", str(model_file), *options, "--json", "b.json", "--plot", "b.png"]) == 1
    shown = capsys.readouterr().out
    assert "int8" in shown and shown.endswith("wrote b.json\n") and not Path("b.png").exists()


@pytest.fixture
def quick_ceiling(monkeypatch):
    """Matrices of 32x32."""
    monkeypatch.setattr(results, "Settings", partial(results.Settings, matmul_side=32))
