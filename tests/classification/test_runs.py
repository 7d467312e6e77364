"""Whole runs: learning, scores, resuming, several processes, and what the weights are good for afterwards."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

import roadseg
from roadseg.classification.task import ClassificationTask
from roadseg.cli import main
from tests.classification.pictures import COLOURS, REACHABLE, checkpoint, column


def printed_scores(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(val/top\d)\D+([\d.]+)", text)}


def test_a_run_learns_and_its_files_say_how(after):
    top1 = column("val/top1")
    assert len(top1) == 6 and top1[-1] == pytest.approx(REACHABLE), "chance is 0.33"
    assert column("val/top5") == [1.0] * 6, "there are three classes"
    folder = Path("runs/tiny/version_0")
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["task"] == "classification" and saved["data"]["total_batch_size"] == 12
    stored = torch.load(checkpoint("best"), weights_only=True)
    header = stored["roadseg"]
    assert header["task"] == "classification" and header["class_names"] == sorted(COLOURS)
    assert header["architecture"]["num_classes"] == 3 and header["recipe"]["mixup"] == 0.8
    assert header["data"]["images"] == {"train": 36, "val": 15} and header["software"]["torch"]
    assert header["scores"]["val/top1"] == pytest.approx(max(top1))
    assert all(name.split(".")[1] in ("backbone", "mean", "std") for name in stored["state_dict"])


def test_validate_scores_what_was_saved_as_the_run_did_and_as_written_out_here(after, trained, capsys):
    assert after("validate", "--ckpt_path", checkpoint()) == 0
    scores = printed_scores(capsys.readouterr().out)
    assert scores["val/top1"] == pytest.approx(column("val/top1")[-1], abs=1e-6) and scores["val/top5"] == 1
    stored = torch.load(checkpoint(), weights_only=True)
    task = ClassificationTask(sorted(COLOURS), "twins_svt_nano").eval()
    task.load_state_dict(stored["state_dict"])
    hits = []
    for label, name in enumerate(sorted(COLOURS)):
        for path in sorted((trained[1] / "colours" / "val" / name).iterdir()):
            small = resize(Image.open(path), 73, interpolation=Image.Resampling.BICUBIC)
            with torch.inference_mode():
                hits.append(task(pil_to_tensor(center_crop(small, 64))[None]).argmax().item() == label)
    assert len(hits) == 15 and sum(hits) / 15 == pytest.approx(scores["val/top1"], abs=1e-6)


def test_validate_needs_no_training_images(after, trained, tmp_path, capsys):
    (tmp_path / "colours").mkdir()
    (tmp_path / "colours" / "val").symlink_to(trained[1] / "colours" / "val")
    assert after("validate", "--ckpt_path", checkpoint(), "--data.dataset", tmp_path / "colours") == 0
    assert printed_scores(capsys.readouterr().out)["val/top1"] == pytest.approx(REACHABLE)


FIT = """
import sys
from roadseg.cli import lightning_main

sys.exit(lightning_main(["fit", "-c", "tiny.yaml", *sys.argv[1:]]))
"""
CUT = """
from roadseg.classification.task import ClassificationTask

def stop_after_three(task):
    task.trainer.should_stop = task.current_epoch == 2

ClassificationTask.on_train_epoch_end = stop_after_three
"""


def test_a_resumed_run_equals_the_undisturbed_one_bit_for_bit(after):
    """Each in a process of its own, as its user starts it: what other tests leave behind in this one is none of it."""

    def fit(program, *arguments):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(roadseg.__file__).parents[1])}
        command = [sys.executable, "-c", program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]

    fit(FIT, "--name", "whole")
    fit(CUT + FIT, "--name", "cut")
    assert torch.load(checkpoint(run="cut"), weights_only=True)["epoch"] == 2
    # The state of the generators must not matter, nor how many workers read.
    seed = "import torch; torch.manual_seed(12345)"
    fit(seed + FIT, "--name", "resumed", "--ckpt_path", checkpoint(run="cut"), "--data.num_workers", 2)
    undisturbed, resumed = (torch.load(checkpoint(run=name), weights_only=True) for name in ("whole", "resumed"))
    assert resumed["epoch"] == undisturbed["epoch"] == 5 and resumed["global_step"] == undisturbed["global_step"] == 18
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert resumed[part].keys() == undisturbed[part].keys()
        differing = {
            name: float((resumed[part][name].double() - value.double()).abs().max())
            for name, value in undisturbed[part].items()
            if not torch.equal(resumed[part][name], value)
        }
        assert not differing, part
    assert resumed["lr_schedulers"] == undisturbed["lr_schedulers"]


def test_accumulated_batches_make_the_same_number_of_steps(run):
    assert run("fit", "--trainer.accumulate_grad_batches", 3, "--trainer.max_epochs", 2) == 0
    stored = torch.load(checkpoint(), weights_only=True)
    assert stored["global_step"] == 6
    assert stored["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 18


@pytest.mark.slow
def test_two_processes_score_like_one_and_share_the_batch(after):
    """15 images on 2 processes: a sampler that pads would count one of them twice."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(roadseg.__file__).parents[1])}
    command = [sys.executable, "-m", "roadseg", "fit", "-c", "tiny.yaml", "--name", "two", "--trainer.max_epochs", "7"]
    command += ["--ckpt_path", str(checkpoint()), "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert torch.load(checkpoint(run="two"), weights_only=True)["global_step"] == 18 + 3
    assert column("val/top1", run="two")[-1] == pytest.approx(REACHABLE)


def test_a_segmentation_model_starts_from_the_backbone(after):
    network = roadseg.build_model("twins_svt_nano", num_classes=11, pretrained=str(checkpoint("best")), width=16)
    stored = torch.load(checkpoint("best"), weights_only=True)["state_dict"]
    ours = network.backbone.state_dict()
    assert ours and all(torch.equal(ours[name], stored[f"network.backbone.{name}"]) for name in ours)


def test_a_classifier_is_not_taken_for_a_segmentation_model(after, capsys):
    path = checkpoint("best")
    assert main(["package", str(path), "-o", "m.safetensors"]) == 1
    error = capsys.readouterr().err
    assert f"{path} holds an image classifier, which gives no masks" in error
    assert f"lightning fit -c configs/roadseg.yaml --model.pretrained {path}" in error
    assert not Path("m.safetensors").exists()
    Path("road.yaml").write_text("model: {backbone: twins_svt_nano}\n")
    assert main(["validate", "-c", "road.yaml", "--ckpt_path", str(path)]) == 1
    error = capsys.readouterr().err
    assert f"lightning validate -c configs/pretrain.yaml --ckpt_path {path}" in error and "Traceback" not in error
    assert main(["segment", str(path), "--model", str(path), "-o", "masks"]) == 1
    assert f"turn it into a model file first: `roadseg package {path}" in capsys.readouterr().err
