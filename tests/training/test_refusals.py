"""What a training command refuses, and what it says."""

import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from roadseg.cli import lightning_main
from roadseg.taxonomy import load_taxonomy
from tests.training.conftest import TINY
from tests.training.tiny_run import checkpoint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.lrr", "1"], "lrr"),
        (["--trainer.max_epoch", "3"], "--trainer.max_epoch 3"),
        (["--model.lr", "fast"], "Parser key \"model.lr\":\n  Expected a <class 'float'>. Got value: fast"),
        (["--data.crop_size", "320"], 'Parser key "data.crop_size"'),
        (["--trainer.accelerator", "gpus"], "accelerator"),
        (["--model.lr", "-1"], "model.lr is -1.0; use a finite value above 0"),
        (["--model.lr", ".inf"], "model.lr is inf; use a finite value above 0"),
        (["--model.decoder_options", "{num_classes: 3}"], "decoder 'linear_concat' has no option 'num_classes'"),
        (["--model.decoder_options", "{pretrained: true}"], "decoder 'linear_concat' has no option 'pretrained'"),
        (["--model.decoder_options", "{width: 1000000000}"], "cannot be built with the options {'width': 1000000000}"),
        (["--model.seed", "5"], "model.seed is 5, but seed_everything is 0; set seed_everything alone"),
        (["--data.seed", "5"], "data.seed is 5, but seed_everything is 0"),
        (
            ["--data.scale_range", "[1, 100000]"],
            "scale_range is [1.0, 100000.0]; use [smallest, largest], both 0.1 to 10",
        ),
        (["--data.crop_size", "[1000000, 1000000]"], "crop_size is [1000000, 1000000]"),
        (["--trainer.devices", "x"], "trainer: "),
        (["--trainer.check_val_every_n_epoch", "0"], "trainer.check_val_every_n_epoch is 0; use at least 1"),
        (["--trainer.default_root_dir", "tiny.yaml"], "tiny.yaml"),
        (["--ckpt_path", "last"], "no checkpoint at last"),
        (["--model.backbone", "twins_svt_smal"], "no backbone 'twins_svt_smal'; known: convnext_base"),
        (["--model.decoder", "unet"], "no decoder 'unet'; known: deeplabv3plus, fpn, linear_concat, upernet"),
        (["--model.decoder_options", "{widht: 3}"], "decoder 'linear_concat' has no option 'widht'"),
        (
            ["--model.decoder_options", "{width: wide}"],
            "linear_concat' cannot be built with the options {'width': 'wide'}",
        ),
        (["--model.decoder_options", "{width: 2.5}"], "cannot be built with the options {'width': 2.5}"),
        (["--seed_everything", "-1"], "seed_everything is -1; use 0 to 4294967295"),
        (["--model.decoder", "deeplabv3plus", "--model.decoder_options", "{}"], "can be dilated"),
        (["--model.class_weights", "{raod: 2}"], "model.class_weights: taxonomy 'camvid11' has no class 'raod'"),
        (["--model.class_weights", "{road: -2}"], "model.class_weights.road is -2"),
        (["--model.class_weights", "{road: .inf}"], "model.class_weights.road is inf"),
        (["--model.class_weights", str(dict.fromkeys(load_taxonomy("camvid11").names, 0))], "class_weights are all 0"),
        (["--data.dataset", "camvid12"], "no dataset 'camvid12'; known: ade20k, apolloscape, "),
        (["--data.root", "nowhere"], "CamVid: no folder nowhere/camvid/train (. holds runs, tiny.yaml); get it with"),
        (["--data.batch_size", "99"], "batch_size is 99, but a process has only 8 training frames"),
        (["--data.crop_size", "[8, 8]"], "crop_size is [8, 8]"),
        (["--ema.decay", "2"], "ema.decay is 2"),
        (["--trainer.max_epochs", "-1"], "set trainer.max_epochs or trainer.max_steps"),
        (["--trainer.use_distributed_sampler", "true"], "use_distributed_sampler is true; the data module has its own"),
        (["--ckpt_path", "gone.ckpt"], "no checkpoint at gone.ckpt"),
        (["--ckpt_path", "tiny.yaml"], "tiny.yaml is not a readable checkpoint"),
    ],
)
def test_what_cannot_work_is_refused_before_training(run, capsys, arguments, message):
    assert run("fit", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert len(error.strip().splitlines()[-1]) < 1000
    assert not list(Path().glob("runs/**/*.ckpt"))


def test_a_training_that_diverges_has_an_exit_status_of_its_own(run, capsys):
    assert run("fit", "--model.lr", "1e30") == 3
    assert "the training diverged; lower model.lr, which is 1e+30" in capsys.readouterr().err
    assert not list(Path().glob("runs/**/*.ckpt"))


def test_a_yaml_file_with_an_unknown_key_is_refused_with_the_key(run, capsys):
    Path("tiny.yaml").write_text(yaml.safe_dump({**TINY, "optimiser": {"lr": 1}}))
    assert run("fit") == 1
    assert "optimiser" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "tiny.yaml is not a proper YAML file"),
        ("- 1\n", "tiny.yaml holds no settings"),
        ("", "holds no settings"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(run, capsys, text, message):
    Path("tiny.yaml").write_text(text)
    assert run("fit") == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_an_untrained_network_is_never_scored(run, capsys, command):
    assert run(command) == 1
    assert f"{command} needs trained weights: give --ckpt_path runs/NAME" in capsys.readouterr().err


def test_the_bare_command_says_what_it_takes(monkeypatch, capsys):
    for arguments in (["lightning"], ["lightning", "-c"]):
        monkeypatch.setattr(sys, "argv", arguments)
        assert lightning_main() == 1
        assert "Traceback" not in capsys.readouterr().err


def test_no_configuration_at_all_is_refused(run, capsys):
    assert lightning_main(["fit"]) == 1
    assert "no configuration given; for example: lightning fit -c configs/roadseg.yaml" in capsys.readouterr().err


def test_a_missing_configuration_is_named(run, capsys):
    assert lightning_main(["fit", "-c", "missing.yaml"]) == 1
    assert "cannot read the configuration missing.yaml: No such file" in capsys.readouterr().err


def test_a_broken_label_stops_the_run_with_its_name(run, camvid_root, capsys):
    path = camvid_root / "camvid" / "trainannot" / "frame_004.png"
    Image.new("L", (96, 64), 99).save(path)
    assert run("fit", "--data.num_workers", 1) == 1
    error = capsys.readouterr().err
    assert f"mask {path} holds 1 value outside the label set: 99 (6144 pixels)" in error and "Traceback" not in error


def test_an_error_in_a_loading_process_is_one_message(run, camvid_root, capsys):
    assert run("fit", "--trainer.max_epochs", 1) == 0
    (camvid_root / "photo.jpg").write_bytes(b"<html>")
    images = f"--data.predict_images=[{camvid_root}/photo.jpg]"
    assert run("predict", "--ckpt_path", checkpoint(), images, "--data.num_workers", 1) == 1
    error = capsys.readouterr().err
    assert f"error: {camvid_root}/photo.jpg is not a JPEG, PNG or WebP image" in error and "Traceback" not in error
