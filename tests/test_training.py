"""Whole training runs through the command line: scores, resuming, repeating, several processes, and refusals."""

import csv
import logging
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import roadseg
from roadseg.cli import lightning_main
from roadseg.data.camvid import CamVidDataset
from roadseg.taxonomy import load_taxonomy

TINY = {
    "trainer": {
        "max_epochs": 2,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "precision": "32-true",
        "log_every_n_steps": 1,
    },
    "model": {
        "backbone": "twins_svt_nano",
        "decoder_options": {"width": 16},
        "drop_path_rate": 0.2,
        "lr": 1.0e-3,
        "decoder_lr_multiple": 2.0,
        "warmup_steps": 2,
    },
    "data": {"dataset": "camvid", "batch_size": 2, "crop_size": [32, 48], "num_workers": 0},
}


@pytest.fixture
def run(camvid_root, tmp_path, monkeypatch):
    """Runs the training command in an empty folder, on the tiny CamVid; gives its exit status."""
    monkeypatch.setenv("ROADSEG_DATA", str(camvid_root))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.setattr(sys, "argv", ["lightning"])
    # Lightning's log handler keeps the standard error of the test that imported it first, which is closed by now.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    return lambda command, *arguments: lightning_main([command, "-c", "tiny.yaml", *map(str, arguments)])


def scores(version: int = 0) -> list[float]:
    with Path(f"runs/tiny/version_{version}/metrics.csv").open() as file:
        return [float(row["val/miou"]) for row in csv.DictReader(file) if row["val/miou"]]


def checkpoint(name: str = "last", version: int = 0) -> Path:
    return Path(f"runs/tiny/version_{version}/checkpoints/{name}.ckpt")


def own_miou(masks: dict[str, np.ndarray], root: Path, split: str = "val") -> float:
    """The mean IoU written out again, in numpy, from masks by frame name."""
    inter, union = np.zeros(11), np.zeros(11)
    dataset = CamVidDataset(root, split)
    for i in range(len(dataset)):
        _, truth, name = dataset[i]
        labelled = truth != 255
        for c in range(11):
            p, t = (masks[name] == c) & labelled, truth == c
            inter[c] += (p & t).sum()
            union[c] += (p | t).sum()
    return float(np.mean(inter[union > 0] / union[union > 0]))


def test_a_run_leaves_logs_configuration_and_checkpoints(run):
    assert run("fit") == 0
    folder = Path("runs/tiny/version_0")
    assert {"config.yaml", "metrics.csv"} <= {p.name for p in folder.iterdir()}
    assert any(p.name.startswith("events.out.tfevents") for p in folder.iterdir())
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["model"]["lr"] == 1e-3 and saved["data"]["crop_size"] == [32, 48]
    with (folder / "metrics.csv").open() as file:
        columns = next(csv.reader(file))
    assert {"train/loss", "train/lr", "val/miou", "val/accuracy", "val/iou/sky"} <= set(columns)
    assert sorted(p.name for p in Path().iterdir()) == ["runs", "tiny.yaml"], "nothing else is written"


def test_the_same_command_works_twice_and_gives_the_same_scores(run):
    assert run("fit") == 0 and run("fit") == 0
    assert scores(0) == scores(1) and len(scores(0)) == 2


def test_validate_package_and_segment_agree_with_each_other_and_with_own_scoring(run, camvid_root, capsys):
    assert run("fit") == 0
    capsys.readouterr()
    assert run("validate", "--ckpt_path", checkpoint()) == 0
    printed = float(re.search(r"val/miou\D+([\d.]+)", capsys.readouterr().out)[1])
    assert printed == pytest.approx(scores()[-1], abs=1e-6), "the averaged weights are validated and saved"
    assert roadseg.cli.main(["package", str(checkpoint()), "-o", "model.safetensors"]) == 0
    images = camvid_root / "camvid" / "val"
    assert roadseg.cli.main(["segment", str(images), "--model", "model.safetensors", "-o", "masks"]) == 0
    masks = {p.stem: np.asarray(Image.open(p)) for p in Path("masks").iterdir()}
    assert own_miou(masks, camvid_root) == pytest.approx(printed, abs=1e-6)


def test_test_and_predict_run_on_a_checkpoint(run, camvid_root, capsys):
    assert run("fit") == 0
    capsys.readouterr()
    assert run("test", "--ckpt_path", checkpoint()) == 0
    printed = float(re.search(r"test/miou\D+([\d.]+)", capsys.readouterr().out)[1])
    images = camvid_root / "camvid" / "test"
    assert run("predict", "--ckpt_path", checkpoint(), f"--data.predict_images=[{images}]") == 0
    masks = {p.stem: np.asarray(Image.open(p)) for p in Path("masks").iterdir()}
    assert own_miou(masks, camvid_root, "test") == pytest.approx(printed, abs=1e-6)


def test_a_resumed_run_equals_the_undisturbed_one_bit_for_bit(run, monkeypatch):
    assert run("fit", "--trainer.max_epochs", 4) == 0
    undisturbed = torch.load(checkpoint(), weights_only=True)

    from roadseg.task import SegmentationTask

    def stop_after_two(self) -> None:
        if self.current_epoch == 1:
            self.trainer.should_stop = True

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "on_train_epoch_end", stop_after_two)
        assert run("fit", "--trainer.max_epochs", 4, "--name", "cut") == 0
    stopped = Path("runs/cut/version_0/checkpoints/last.ckpt")
    assert torch.load(stopped, weights_only=True)["epoch"] == 1
    torch.manual_seed(12345)  # the state of the generators must not matter
    assert run("fit", "--trainer.max_epochs", 4, "--name", "resumed", "--ckpt_path", stopped) == 0
    resumed = torch.load("runs/resumed/version_0/checkpoints/last.ckpt", weights_only=True)
    assert resumed["epoch"] == undisturbed["epoch"] == 3 and resumed["global_step"] == undisturbed["global_step"]
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert resumed[part].keys() == undisturbed[part].keys()
        assert all(torch.equal(resumed[part][k], undisturbed[part][k]) for k in undisturbed[part]), part
    assert resumed["lr_schedulers"] == undisturbed["lr_schedulers"]


def test_averaging_does_not_lose_the_counts_of_the_last_batches(run):
    """The averaging callback swaps every buffer before the scores are computed."""
    assert run("fit", "--ema.decay", 0.5, "--trainer.max_epochs", 1) == 0
    stored = torch.load(checkpoint(), weights_only=True)
    averaged, current = stored["state_dict"], stored["current_model_state"]
    assert any(not torch.equal(averaged[k], current[k]) for k in averaged), "the two differ, so a mix-up would show"
    assert stored["roadseg"]["scores"]["val/miou"] == pytest.approx(scores()[-1], abs=1e-6)


def launch(*arguments: str, processes: int) -> str:
    command = [sys.executable, "-m", "roadseg", *arguments, "--trainer.devices", str(processes)]
    strategy = ["--trainer.strategy", "ddp"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *strategy], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_processes_score_like_one(run, monkeypatch):
    """5 frames on 2 processes: a sampler that pads would count one of them twice."""
    monkeypatch.setenv("PYTHONPATH", str(Path(roadseg.__file__).parents[1]))
    launch("fit", "-c", "tiny.yaml", processes=2)
    printed = [
        re.findall(r"val/(?:miou|accuracy|iou/\w+)\D+?([\d.]+)", launch(
            "validate", "-c", "tiny.yaml", "--ckpt_path", str(checkpoint()), processes=n
        ))
        for n in (1, 2)
    ]  # fmt: skip
    assert len(printed[0]) > 5 and printed[0] == printed[1]
    assert printed[0][-1].startswith(f"{scores()[-1]:.6f}")


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
        (["--model.lr", "1e30"], "the training diverged; lower model.lr, which is 1e+30"),
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
        (["--model.backbone", "twins_svt_smal"], "no backbone 'twins_svt_smal'; known: resnet101"),
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
        (["--data.dataset", "camvid12"], "no dataset 'camvid12'; known: camvid, synthetic"),
        (["--data.root", "nowhere"], "CamVid: no folder nowhere/camvid/train; get it with"),
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


def test_training_in_bfloat16_throughout_averages_in_float32(run):
    assert run("fit", "--trainer.precision", "bf16-true", "--trainer.max_epochs", 1) == 0
    stored = torch.load(checkpoint(), weights_only=True)
    assert stored["state_dict"]["network.decoder.head.weight"].isfinite().all()
    assert roadseg.cli.main(["package", str(checkpoint()), "-o", "m.safetensors"]) == 0


def test_scores_in_a_checkpoint_say_after_which_epoch_they_were_taken(run):
    assert run("fit", "--trainer.max_epochs", 3, "--trainer.check_val_every_n_epoch", 2) == 0
    header = torch.load(checkpoint(), weights_only=True)
    assert header["epoch"] == 2 and header["roadseg"]["scores"]["epoch"] == 1


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


def test_resuming_with_other_hyperparameters_is_refused(run, capsys):
    assert run("fit", "--trainer.max_epochs", 1) == 0
    assert run("fit", "--ckpt_path", checkpoint(), "--model.lr", 0.5) == 1
    assert "lr is 0.001 in the checkpoint, 0.5 now" in capsys.readouterr().err


def test_a_checkpoint_of_another_network_is_refused(run, capsys):
    assert run("fit", "--trainer.max_epochs", 1) == 0
    assert run("validate", "--ckpt_path", checkpoint(), "--model.backbone", "resnet18") == 1
    error = capsys.readouterr().err
    assert 'backbone is "twins_svt_nano" in the checkpoint, "resnet18" now' in error and "Traceback" not in error


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="reads the processor's flags as Linux shows them")
def test_precision_is_bf16_where_the_processor_has_it(run):
    assert run("fit", "--trainer.max_epochs", 1, "--trainer.precision", "null") == 0
    chosen = yaml.safe_load(Path("runs/tiny/version_0/config.yaml").read_text())["trainer"]["precision"]
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert chosen == ("bf16-mixed" if flags & {"avx512_bf16", "amx_bf16", "bf16"} else "32-true")


def test_without_loggers_nothing_is_written_into_the_working_folder(run):
    assert run("fit", "--trainer.logger", "false", "--trainer.max_epochs", 1) == 0
    assert "config.yaml" not in {p.name for p in Path().iterdir()}


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
    assert header.provenance["recipe"]["lr"] == 1e-3 and header.provenance["data"]["frames"] == {"train": 8, "val": 5}
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
