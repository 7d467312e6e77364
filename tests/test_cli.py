"""The `roadseg` command: help, refusals, and exit statuses, as a user meets them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import roadseg
import roadseg.inference.files
from roadseg.cli import TRAINING_COMMANDS, main


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working folder with two photos in drive/."""
    monkeypatch.chdir(tmp_path)
    Path("drive").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.png"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(f"drive/{name}")
    return tmp_path


def test_help_lists_every_command_with_its_purpose(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    for name in (*TRAINING_COMMANDS, "package", "segment", "serve"):
        assert f"\n    {name} " in shown


@pytest.mark.parametrize("name", ["package", "segment", "serve"])
def test_every_commands_help_has_an_example_that_parses(name, capsys, monkeypatch):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    example = capsys.readouterr().out.partition("example:\n")[2].split()
    assert example[:2] == ["roadseg", name]
    parsed = roadseg.cli._parser().parse_args(example[1:])
    assert callable(parsed.run)


def test_version_is_the_packages(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"roadseg {roadseg.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: COMMAND"),
        (["fitt"], "invalid choice: 'fitt'"),
        (["segment", "a.jpg", "-o", "out"], "arguments are required: --model"),
        (["segment", "a.jpg", "--model", "m", "-o", "out", "--orientation", "up"], "invalid choice: 'up'"),
        (["serve", "--model", "m", "--port", "http"], "invalid int value: 'http'"),
        (["package", "x.ckpt"], "arguments are required: -o/--output"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_says_what_is_wrong(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_segment_writes_masks_and_overlays(photos, model_file, capsys):
    assert main(["segment", "drive", "--model", str(model_file), "-o", "out", "--overlay"]) == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["a.png", "a_overlay.png", "b.png", "b_overlay.png"]
    expected = roadseg.load_predictor(model_file, device="cpu")("drive/b.png").mask
    assert np.array_equal(np.asarray(Image.open("out/b.png")), expected)
    assert capsys.readouterr().out == "wrote 2 masks to out\n"


def test_segment_goes_on_after_a_broken_file_and_ends_with_status_1(photos, model_file, capsys):
    Path("drive/a.jpg").write_bytes(b"<html>not found</html>")
    assert main(["segment", "drive", "--model", str(model_file), "-o", "out"]) == 1
    assert [p.name for p in Path("out").iterdir()] == ["b.png"]
    captured = capsys.readouterr()
    assert "error: drive/a.jpg is not a JPEG, PNG or WebP image" in captured.err
    assert captured.out == "wrote 1 masks to out; 1 images failed\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.jpg", "-o", "out"], "gone.jpg does not exist; give image files, or folders of them"),
        (["drive", "-o", "drive"], "drive/b.png would replace an input image; choose another output folder"),
        (["drive", "-o", "out", "--device", "cuda:7"], "device 'cuda:7' cannot be used here"),
        (["drive", "-o", "out", "--precision", "int3"], "no precision 'int3'; known: auto, f32, bf16"),
    ],
)
def test_segment_refuses_before_it_writes(photos, model_file, capsys, arguments, message):
    assert main(["segment", *arguments, "--model", str(model_file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert not Path("out").exists() and len(list(Path("drive").iterdir())) == 2


def test_an_output_that_cannot_be_written_is_named(photos, model_file, capsys):
    Path("out").write_bytes(b"a file, not a folder")
    assert main(["segment", "drive", "--model", str(model_file), "-o", "out"]) == 1
    assert "out is a file; give a folder for the masks" in capsys.readouterr().err
    assert main(["segment", "drive", "--model", str(model_file), "-o", "out/deep"]) == 1
    assert "cannot write out/deep/a.png: Not a directory; choose another place" in capsys.readouterr().err


def test_an_interrupted_command_says_so(photos, model_file, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(roadseg.inference.files, "segment_files", interrupt)
    assert main(["segment", "drive", "--model", str(model_file), "-o", "out"]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")


@pytest.mark.parametrize("command", [["segment", "drive", "-o", "out"], ["serve", "--port", "0"]])
def test_a_missing_model_file_is_named(photos, capsys, command):
    assert main([*command, "--model", "gone.safetensors"]) == 1
    assert "no model file at gone.safetensors; make one with `roadseg package" in capsys.readouterr().err


def test_a_checkpoint_in_place_of_a_model_file_says_how_to_make_one(photos, capsys):
    Path("best.ckpt").write_bytes(b"x")
    assert main(["segment", "drive", "-o", "out", "--model", "best.ckpt"]) == 1
    assert "`roadseg package best.ckpt -o best.safetensors`" in capsys.readouterr().err


def test_package_refuses_a_short_side_that_cannot_work(photos, capsys):
    assert main(["package", "x.ckpt", "-o", "m.safetensors", "--short-side-px", "3"]) == 1
    assert "short_side_px is 3; use 32 to 4096" in capsys.readouterr().err


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "roadseg", "--version"], capture_output=True, text=True)
    assert done.stdout == f"roadseg {roadseg.__version__}\n" and done.returncode == 0
