"""Checkpoints: what they carry, and which are refused."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import roadseg
from roadseg.inference.package import Architecture, ModelHeader
from roadseg.packaging import scale_advice
from roadseg.taxonomy import load_taxonomy
from tests.training.tiny_run import checkpoint, scores


def test_scores_in_a_checkpoint_say_after_which_epoch_they_were_taken(run):
    assert run("fit", "--trainer.max_epochs", 3, "--trainer.check_val_every_n_epoch", 2) == 0
    header = torch.load(checkpoint(), weights_only=True)
    assert header["epoch"] == 2 and header["roadseg"]["scores"]["epoch"] == 1
    # A run that goes on knows them too until it has validated again.
    more = ["--trainer.max_epochs", 5, "--trainer.check_val_every_n_epoch", 5, "--trainer.max_steps", 13]
    assert run("fit", *more, "--ckpt_path", checkpoint()) == 0
    resumed = torch.load(checkpoint(version=1), weights_only=True)
    assert resumed["global_step"] == 13 and resumed["roadseg"]["scores"] == header["roadseg"]["scores"]


def test_resuming_with_other_hyperparameters_is_refused(run, capsys):
    assert run("fit", "--trainer.max_epochs", 1) == 0
    assert run("fit", "--ckpt_path", checkpoint(), "--model.lr", 0.5) == 1
    assert "lr is 0.001 in the checkpoint, 0.5 now" in capsys.readouterr().err


def test_a_checkpoint_of_another_network_is_refused(run, capsys):
    assert run("fit", "--trainer.max_epochs", 1) == 0
    assert run("validate", "--ckpt_path", checkpoint(), "--model.backbone", "resnet18") == 1
    error = capsys.readouterr().err
    assert 'backbone is "twins_svt_nano" in the checkpoint, "resnet18" now' in error and "Traceback" not in error


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"cos\nsystem\n(S'touch hacked'\ntR."])
def test_files_that_are_no_checkpoints_are_not_packaged(tmp_path, capsys, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    Path("x.ckpt").write_bytes(content)
    assert roadseg.cli.main(["package", "x.ckpt", "-o", "m.safetensors"]) == 1
    assert "x.ckpt is not a readable checkpoint" in capsys.readouterr().err
    assert sorted(p.name for p in Path().iterdir()) == ["x.ckpt"]


def test_checkpoints_of_other_programs_are_not_packaged(tmp_path, capsys):
    torch.save({"state_dict": {}}, tmp_path / "x.ckpt")
    assert roadseg.cli.main(["package", str(tmp_path / "x.ckpt"), "-o", str(tmp_path / "m.safetensors")]) == 1
    assert "x.ckpt was not written by roadseg; give a checkpoint of `lightning fit`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scales", "own", "advice"),
    [
        ([None, 360], None, "camvid32 at a short side of 360 px, but runs .*package it with --short-side-px 360$"),
        ([480, 360], None, "camvid at .* 480 px, camvid32 at .* with --short-side-px 480 or --short-side-px 360$"),
        ([360, 360], None, "with --short-side-px 360$"),
        ([None, 360], 480, "^$"),
        ([None, None], None, "^$"),
        (None, None, "^$"),
    ],
)
def test_a_scale_of_training_that_a_model_file_does_not_have_is_told(scales, own, advice):
    names, rgb = ("camvid", "camvid32"), (1.0, 1.0, 1.0)
    datasets = [{"dataset": n, "short_side_px": px} for n, px in zip(names, scales or (), strict=False)]
    provenance = {"data": {"datasets": datasets}} if scales else {"data": None}
    architecture = Architecture("twins_svt_nano", "linear_concat", 11)
    header = ModelHeader(architecture, load_taxonomy("camvid11"), rgb, rgb, own, provenance=provenance)
    assert re.search(advice, scale_advice(header))


def test_package_warns_of_the_scale_of_training(run, capsys):
    data = "[{dataset: camvid, short_side_px: 48}]"
    assert run("fit", "--trainer.max_steps", 1, "--trainer.limit_val_batches", 0, "--data.datasets", data) == 0
    package = ["package", str(checkpoint()), "-o", "m.safetensors"]
    assert roadseg.cli.main(package) == 0
    assert "warning: the model was trained and validated on camvid at a short side of 48 px" in capsys.readouterr().err
    assert roadseg.cli.main([*package, "--short-side-px", "48"]) == 0 and "warning" not in capsys.readouterr().err


def test_a_packaged_model_carries_its_provenance(run):
    assert run("fit", "--trainer.max_epochs", 1) == 0
    assert (
        roadseg.cli.main(
            [
                "package",
                str(checkpoint()),
                "-o",
                "m.safetensors",
                "--short-side-px",
                "48",
                "--weights-licence",
                "research",
            ]
        )
        == 0
    )
    header = roadseg.load_predictor("m.safetensors", device="cpu").header
    assert header.short_side_px == 48 and header.weights_licence == "research"
    frames = {"train": {"camvid": 8}, "val": {"camvid": 5}, "test": {"camvid": 3}}
    assert header.provenance["recipe"]["lr"] == 1e-3 and header.provenance["data"]["frames"] == frames
    assert header.provenance["scores"]["val/miou"] == pytest.approx(scores()[-1], abs=1e-6)
    assert header.provenance["averaged_weights"] is True and header.provenance["software"]["torch"] == version("torch")


def damage(**changes) -> Path:
    """A copy of the last checkpoint with some of its parts replaced, or taken out (None)."""
    stored = torch.load(checkpoint(), weights_only=True)
    stored = {k: v for k, v in {**stored, **changes}.items() if v is not None}
    torch.save(stored, "damaged.ckpt")
    return Path("damaged.ckpt")


def test_damaged_checkpoints_are_refused_with_the_part(run, capsys):
    assert run("fit", "--trainer.max_epochs", 1) == 0
    stored = torch.load(checkpoint(), weights_only=True)
    header, weights = stored["roadseg"], stored["state_dict"]
    bias, mean = "network.decoder.head.bias", "network.mean"
    cases = [
        ({"roadseg": 3}, "was not written by roadseg"),
        ({"roadseg": {}}, "its description is wrong (KeyError: 'architecture')"),
        ({"roadseg": {**header, "architecture": {}}}, "its description is wrong"),
        ({"roadseg": {**header, "architecture": [1]}}, "[1] where a dict is expected"),
        ({"roadseg": {**header, "taxonomy": {**header["taxonomy"], "version": "abc"}}}, "'version' must be a int"),
        ({"state_dict": None}, "its 'state_dict' is missing"),
        ({"state_dict": [1]}, "its 'state_dict' is missing or no dict"),
        ({"state_dict": {}}, "it holds no normalisation 'mean'"),
        ({"state_dict": {**weights, bias: 3}}, f"weight '{bias}' is no dense tensor"),
        ({"state_dict": {**weights, bias: torch.full((11,), torch.nan)}}, f"weight '{bias}' holds NaN"),
        ({"state_dict": {**weights, mean: torch.zeros(2)}}, "it holds no normalisation 'mean'"),
        ({"state_dict": {**weights, bias: torch.zeros(4)}}, "has shape (4,)"),
        ({"state_dict": {k: v for k, v in weights.items() if k != bias}}, "decoder.head.bias"),
        ({"epoch": None}, "its 'epoch' is missing"),
    ]
    for changes, message in cases:
        path = damage(**changes)
        assert roadseg.cli.main(["package", str(path), "-o", "m.safetensors"]) == 1
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error
        assert run("validate", "--ckpt_path", path) == 1
        assert "Traceback" not in capsys.readouterr().err
    for part in ("optimizer_states", "loops", "averaging_state", "pytorch-lightning_version"):
        assert run("fit", "--ckpt_path", damage(**{part: None})) == 1
        assert f"its '{part}' is missing" in capsys.readouterr().err
    assert not Path("m.safetensors").exists()
