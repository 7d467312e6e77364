"""The `roadseg` command: help, refusals, and exit statuses, as a user meets them."""

import json
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
    for name in (*TRAINING_COMMANDS, "package", "segment", "models", "serve", "data"):
        assert f"\n    {name} " in shown


@pytest.mark.parametrize("name", ["package", "segment", "models", "serve"])
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
        (["segment", "a.jpg", "--model", "m"], "arguments are required: -o/--output"),
        (["segment", "a.jpg", "--model", "m", "-o", "out", "--orientation", "up"], "invalid choice: 'up'"),
        (["serve", "--model", "m", "--port", "http"], "invalid int value: 'http'"),
        (["package", "x.ckpt"], "arguments are required: -o/--output"),
        (["models", "--layers", "a", "--backbone", "b"], "not allowed with argument --layers"),
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


def test_models_prints_counts_licences_and_sources(capsys):
    assert main(["models", "--backbone", "resnet18", "twins_svt_nano", "--size", "64x96", "--size", "32x32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["backbone", "parameters", "64x96", "32x32", "licence", "public", "weights"]
    assert lines[2].split()[:2] == ["twins_svt_nano", "4.22"] and lines[2].endswith("-           none: train it")
    assert lines[4].split()[:2] == ["resnet18", "11.18"]
    assert lines[4].endswith("apache-2.0  timm/resnet18.a1_in1k")


def test_models_json_has_whole_numbers(capsys):
    assert main(["models", "--backbone", "twins_svt_nano", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = document.pop("models")
    assert document == {"decoder": None, "num_classes": None, "sizes": ["512x512", "512x1024"]}
    network = roadseg.build_model("twins_svt_nano")
    assert row["parameters"] == sum(p.numel() for p in network.backbone.parameters())
    assert row["macs"].keys() == {"512x512", "512x1024"} and all(type(n) is int for n in row["macs"].values())
    assert (row["licence"], row["weights"], row["unfit"]) == (None, None, None)
    options = ["--decoder", "deeplabv3plus", "--classes", "3", "--size", "64x64", "--json"]
    assert main(["models", "--backbone", "twins_svt_nano", "resnet18", *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["decoder"], document["num_classes"]) == ("deeplabv3plus", 3)
    unfit, fit = document["models"]
    assert unfit["parameters"] is None and unfit["macs"] == {} and "'twins_svt_nano' does not fit" in unfit["unfit"]
    network = roadseg.build_model("resnet18", "deeplabv3plus", 3)
    assert fit["parameters"] == sum(p.numel() for p in network.parameters()) and fit["unfit"] is None


def test_models_layers_add_up(capsys):
    assert main(["models", "--layers", "twins_svt_nano", "--size", "64x64"]) == 0
    text = capsys.readouterr().out
    assert main(["models", "--layers", "twins_svt_nano", "--size", "64x64", "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    total = text.splitlines()[-1].split()
    assert total[0] == "total" and total[1] == f"{sum(part['parameters'] for part in parts):,}"
    assert total[2] == f"{sum(part['macs']['64x64'] for part in parts) / 1e9:.3f}"
    assert {"attention products", "attention projections", "subsampling", "MLP"} < {part["part"] for part in parts}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "resnet18", "twins"], "no backbone 'twins'; known: convnext_base, "),
        (["--layers", "twins"], "no backbone 'twins'; known: convnext_base, "),
        (["--decoder", "unet"], "no decoder 'unet'; known: deeplabv3plus, fpn, linear_concat, upernet"),
        (["--size", "512"], "size is '512'; use HEIGHTxWIDTH in pixels, such as 512x1024"),
        (["--size", "0x5"], "size is '0x5'; use HEIGHTxWIDTH in pixels, such as 512x1024, each from 1 to 65536"),
        (["--classes", "3"], "--classes is 3, but backbones alone have no classes; give --decoder too"),
        (["--backbone", "resnet18", "--decoder", "fpn", "--classes", "0"], "num_classes is 0; use 1 to 255"),
    ],
)
def test_models_names_what_is_wrong(arguments, message, capsys):
    assert main(["models", *arguments]) == 1
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "roadseg", "--version"], capture_output=True, text=True)
    assert done.stdout == f"roadseg {roadseg.__version__}\n" and done.returncode == 0
