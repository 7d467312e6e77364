"""The `roadseg` command: help, refusals, and exit statuses, as a user meets them."""

import base64
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import roadseg
from roadseg.cli import TRAINING_COMMANDS, main
from roadseg.inference.options import InferenceOptions
from roadseg.picked_engine import engine_line, heard_reasons
from tests.inference.fake_engine import FakeEngine


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
        (["segment", "a.jpg", "-o", "out", "--batch-size", "0"], "'0'; use a whole number of at least 1"),
        (["segment", "a.jpg", "-o", "out", "--scales", "1;2"], "'1;2'; use numbers with commas between"),
        (["segment", "a.jpg", "-o", "out", "--to", "via"], "invalid choice: 'via'"),
        (["serve", "--model", "m", "--port", "http"], "argument --port: 'port' is 'http'"),
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
    written = ["a.png", "a_overlay.png", "b.png", "b_overlay.png", "manifest.jsonl"]
    assert sorted(p.name for p in Path("out").iterdir()) == written
    expected = roadseg.load_predictor(model_file, device="cpu")("drive/b.png").mask
    assert np.array_equal(np.asarray(Image.open("out/b.png")), expected)
    shown = capsys.readouterr().out
    assert re.fullmatch(r"wrote 2 masks to out in \d+\.\d s \([\d.]+ images/s\); manifest: out/manifest.jsonl\n", shown)


def test_segment_goes_on_after_a_broken_file_and_ends_with_status_1(photos, model_file, capsys):
    Path("drive/a.jpg").write_bytes(b"<html>not found</html>")
    assert main(["segment", "drive", "--model", str(model_file), "-o", "out"]) == 1
    assert sorted(p.name for p in Path("out").iterdir()) == ["b.png", "manifest.jsonl"]
    captured = capsys.readouterr()
    assert "error: drive/a.jpg is not a JPEG, PNG or WebP image" in captured.err
    assert captured.out.startswith("wrote 1 mask to out in ")
    assert captured.out.endswith("; 1 failed; manifest: out/manifest.jsonl\n")


def test_segment_says_once_which_engine_runs_and_why(photos, model_file, capsys, monkeypatch):
    monkeypatch.setattr("roadseg.inference.automatic._told", set())
    command = ["segment", "drive", "--model", str(model_file), "--device", "cpu"]
    assert main([*command, "-o", "out"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "engine" in line] == [
        "engine torch, f32, on cpu: nothing is converted, because ROADSEG_CACHE is 'off' or there is no home folder"
    ]
    assert main([*command, "--engine", "torch", "--precision", "bf16", "-o", "other"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "engine" in line] == ["engine torch, bf16, on cpu"]


@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG, logging.ERROR])
def test_what_is_logged_while_a_model_is_loaded_is_heard_and_warnings_are_not_held_back(level, capsys, monkeypatch):
    log = logging.getLogger("roadseg.inference")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a process that has set nothing up
    monkeypatch.setattr(logging, "lastResort", logging._StderrHandler(logging.WARNING))
    log.setLevel(level)
    try:
        with heard_reasons() as messages:
            log.debug("a detail")
            log.info("nano: engine openvino, %s, on the CPU", "f32")
            logging.getLogger("roadseg.inference.openvino_engine").info("a detail of the engine")
            log.warning("weights: CC BY-NC")
        assert (log.level, log.filters) == (level, [])
    finally:
        log.setLevel(logging.NOTSET)
    assert capsys.readouterr().err == "weights: CC BY-NC\n"
    assert messages == ["nano: engine openvino, f32, on the CPU"]


def test_the_line_about_the_engine_has_every_reason():
    engine = FakeEngine()
    assert engine_line(engine, []) == "engine fake, f32, on cpu"
    assert engine_line(engine, ["nano: engine fake, f32, on the CPU"]) == "engine fake, f32, on cpu"
    messages = ["onnx is not installed", "nano: engine fake, f32: it could not be converted: truly"]
    assert engine_line(engine, messages) == (
        "engine fake, f32, on cpu: onnx is not installed; it could not be converted: truly"
    )


def test_segment_counts_what_it_leaves_out(photos, model_file, capsys):
    for name in ("drive/scan.TIF", "drive/more/b.tif", "drive/more/c.bmp", "drive/clip.mp4", "drive/notes.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    images = ".jpeg, .jpg, .png, .webp are read: convert them"
    told = f"left out: 2 .tif, 1 .bmp (only {images}); 1 .mp4 (--video mask or --video frames takes them)\n"
    assert main(["segment", "drive", "--model", str(model_file), "-o", "drive/masks"]) == 0
    captured = capsys.readouterr()
    assert captured.err.endswith(told) and captured.out.startswith("wrote 2 masks to drive/masks in ")
    assert main(["segment", "drive/more", "--model", str(model_file), "-o", "out"]) == 1
    assert capsys.readouterr().err == (
        "error: drive/more holds no image; looked for .jpeg, .jpg, .png, .webp in all folders below; "
        f"left out: 1 .tif, 1 .bmp (only {images})\n"
    )
    assert main(["segment", "drive/a.jpg", "--model", str(model_file), "-o", "out"]) == 0
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["drive", "--video", "mask", "--rank", "uncertainty"],
            "--rank lists images, and --video asks for videos, too",
        ),
        (["drive", "clip.mp4", "--to", "coco"], "--to lists images, and clip.mp4 asks for videos, too"),
    ],
)
def test_lists_of_videos_are_refused_before_anything_is_done(photos, capsys, arguments, message):
    Path("clip.mp4").touch()
    Path("drive/folder.mp4").mkdir()
    assert main(["segment", *arguments, "-o", "out", "--model", "gone.safetensors"]) == 1
    error = capsys.readouterr().err
    assert message in error and error.endswith("take their frames first: ffmpeg -i VIDEO FOLDER/%06d.png\n")
    assert not Path("out").exists()


def test_segment_tells_of_broken_files_in_its_own_words_alone(photos, model_file, capfd, recwarn):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name in ("cut.jpg", "torn.png", "half.webp"):
        noise.save(name)
        Path("drive", name).write_bytes(Path(name).read_bytes()[:-100])
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\xff" * 30  # Pillow warns of it
    noise.save("drive/exif.jpg", exif=exif)
    for name, data in (("empty.mp4", b""), ("text.mkv", b"no video" * 999)):
        Path("drive", name).write_bytes(data)
    assert main(["segment", "drive", "--model", str(model_file), "--video", "frames", "-o", "out"]) == 1
    error = capfd.readouterr().err.splitlines()
    assert sorted(line.partition(" ")[0] for line in error) == ["engine"] + 5 * ["error:"]
    assert not [warning for warning in recwarn if "PIL" in warning.filename]
    told = {line.split()[1] for line in error[1:]}
    assert told == {f"drive/{name}" for name in ("cut.jpg", "torn.png", "half.webp", "empty.mp4", "text.mkv")}


def test_segment_takes_names_that_are_no_text(photos, model_file, capsys):
    odd = os.fsdecode(b"caf\xe9")
    for name in ("photo.jpg", "broken.jpg"):
        Path(odd).mkdir(exist_ok=True)
        shutil.copy("drive/a.jpg", f"{odd}/{odd}-{name}")
    Path(f"{odd}/{odd}-broken.jpg").write_bytes(b"broken")
    shutil.copy(model_file, f"{odd}.safetensors")
    extras = ["--rank", "uncertainty", "--to", "coco", "--to", "cvat", "--to", "labelstudio"]
    assert main(["segment", odd, "--model", f"{odd}.safetensors", "-o", f"out-{odd}", *extras]) == 1
    captured = capsys.readouterr()
    captured.out.encode()
    captured.err.encode("utf-8", "backslashreplace")  # as standard error does
    out = Path(f"out-{odd}")
    assert os.fsencode(f"{odd}-photo.png") in os.listdir(os.fsencode(out))
    header, *rows = [json.loads(line) for line in (out / "manifest.jsonl").read_bytes().splitlines()]
    assert header["model"] == "caf\\xe9.safetensors"
    assert sorted(row["image"] for row in rows) == ["caf\\xe9-broken.jpg", "caf\\xe9-photo.jpg"]
    assert {base64.b64decode(row["image_base64"]) for row in rows} == {b"caf\xe9-broken.jpg", b"caf\xe9-photo.jpg"}
    for name in ("ranking.csv", "ranking.jsonl", "prelabels-coco.json", "prelabels-cvat.xml"):
        assert "caf\\xe9-photo.jpg" in (out / name).read_text(encoding="utf-8") or name.endswith((".json", ".jsonl"))
    ElementTree.parse(out / "prelabels-cvat.xml")
    (image,) = json.loads((out / "prelabels-coco.json").read_bytes())["images"]
    assert image["file_name"] == "caf\\xe9-photo.jpg"


def test_segment_options_reach_the_predictor_and_the_manifest(photos, model_file, capsys):
    options = ["--tta", "--window", "64x96", "--overlap", "0.5", "--min-confidence", "0.9", "--max-pixels", "5000"]
    extras = ["--confidence", "--rank", "uncertainty", "--to", "coco", "--to", "cvat", "--shard", "1/1"]
    command = ["segment", "drive", "--model", str(model_file), "-o", "out"]
    assert main([*command, *options, "--confidence-kind", "margin", *extras]) == 0
    header = json.loads(Path("out/manifest-1-of-1.jsonl").read_text().splitlines()[0])
    assert header["options"] == {
        "max_pixels": 5000, "window": [64, 96], "overlap": 0.5, "scales": [0.75, 1.0, 1.25], "flip": True,
        "min_confidence": 0.9, "confidence_kind": "margin",
    }  # fmt: skip
    asked = InferenceOptions(**header["options"])
    expected = roadseg.load_predictor(model_file, device="cpu", options=asked)("drive/b.png", confidence=True)
    assert np.array_equal(np.asarray(Image.open("out/b.png")), expected.mask) and (expected.mask == 255).any()
    grey = np.asarray(Image.open("out/b_confidence.png"))
    assert np.abs(grey / 255.0 - expected.confidence).max() < 0.00197
    listings = ["out/ranking-1-of-1.csv", "out/prelabels-coco-1-of-1.json", "out/prelabels-cvat-1-of-1.xml"]
    assert capsys.readouterr().out.splitlines()[1:] == [f"wrote {path}" for path in listings]
    assert main([*command, *options, *extras]) == 1
    assert 'options.confidence_kind was "margin" and is now "probability"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.jpg", "-o", "out"], "gone.jpg does not exist; give image files, or folders of them"),
        (["drive", "-o", "drive"], "drive/b.png would replace an input image; choose another output folder"),
        (["drive", "-o", "out", "--shard", "3/2"], "shard is '3/2'; use NUMBER/TOTAL"),
        (["drive", "-o", "out", "--window", "100"], "--window is '100'; use HEIGHTxWIDTH in pixels"),
        (
            ["drive", "-o", "out", "--window", "100x100"],
            "window is (100, 100); use (height, width) in px, multiples of",
        ),
        (["drive", "-o", "out", "--tta", "--scales", "1,2"], "--tta has scales of its own"),
        (["drive", "-o", "out", "--resume", "--overwrite"], "give one of them"),
        (["drive", "-o", "out", "--device", "cuda:7"], "device 'cuda:7' cannot be used here"),
        (["drive", "-o", "out", "--precision", "int3"], "no precision 'int3'; known: auto, f32, f16, bf16, int8"),
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
    assert "cannot write out/deep/manifest.jsonl: Not a directory; choose another place" in capsys.readouterr().err


def test_an_interrupted_command_says_so(photos, model_file, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("roadseg.inference.segmenting.pipeline.Pipeline.run", interrupt)
    assert main(["segment", "drive", "--model", str(model_file), "-o", "out"]) == 130
    error = capsys.readouterr().err
    assert error.endswith("interrupted\n")
    assert "recorded in out/manifest.jsonl: the same command with --resume goes on from there" in error


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
