"""Whole training runs: scores, resuming, repeating, several processes."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import roadseg
from tests.training.tiny_run import checkpoint, own_miou, scores


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
    masks = {p.stem: np.asarray(Image.open(p)) for p in Path("masks").glob("*.png")}
    assert own_miou(masks, camvid_root) == pytest.approx(printed, abs=1e-6)


def losses(version: int) -> list[float]:
    with Path(f"runs/tiny/version_{version}/metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.filterwarnings("ignore:.*Online softmax is disabled")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_run_has_the_losses_and_scores_of_an_eager_one(run, monkeypatch, backend):
    made, compiled = torch.compile, []

    def compile_with(step, **options):
        compiled.append(step.__name__)
        return made(step, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", compile_with)
    still = ("--model.drop_path_rate", 0)  # a compiler draws random numbers in its own order
    assert run("fit", *still) == 0 and compiled == []
    assert run("fit", *still, "--model.compile", "true") == 0 and compiled == ["features", "decode"]
    assert losses(1) == pytest.approx(losses(0), rel=1e-3)
    assert scores(1) == pytest.approx(scores(0), abs=0.02)
    arguments = (*still, "--trainer.max_epochs", 3, "--ckpt_path", checkpoint(version=1))
    assert run("fit", *arguments) == 0, "how it is computed is not part of the recipe, nor of the checkpoint"


def test_channels_last_is_kept_in_training_and_changes_no_loss(run, monkeypatch):
    from roadseg.task import SegmentationTask

    layouts = []

    def look(self, *batch) -> None:
        kernels = [p for p in self.network.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
        layouts.append(all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels))

    monkeypatch.setattr(SegmentationTask, "on_train_batch_end", look)
    for wanted in ("false", "true"):
        assert run("fit", "--model.channels_last", wanted) == 0
    assert layouts == [False] * 8 + [True] * 8
    assert losses(1) == pytest.approx(losses(0), rel=1e-3)


def test_a_run_on_every_frame_validates_nothing_and_resumes(run):
    assert run("fit", "--data.hold_out", "[]", "--trainer.max_epochs", 1) == 0
    assert [p.name for p in Path("runs/tiny/version_0/checkpoints").iterdir()] == ["last.ckpt"]
    assert run("fit", "--data.hold_out", "[]", "--ckpt_path", checkpoint()) == 0
    states = [torch.load(checkpoint(version=version), weights_only=True) for version in (0, 1)]
    assert states[1]["global_step"] == 2 * states[0]["global_step"] > 0
    assert "val/miou" not in Path("runs/tiny/version_1/metrics.csv").read_text()


def test_test_and_predict_run_on_a_checkpoint(run, camvid_root, capsys):
    assert run("fit") == 0
    capsys.readouterr()
    assert run("test", "--ckpt_path", checkpoint()) == 0
    table = capsys.readouterr().out
    printed = float(re.search(r"test/miou\D+([\d.]+)", table)[1])
    images = camvid_root / "camvid" / "test"
    assert run("predict", "--ckpt_path", checkpoint(), f"--data.predict_images=[{images}]") == 0
    masks = {p.stem: np.asarray(Image.open(p)) for p in Path("masks").iterdir()}
    assert own_miou(masks, camvid_root, "test") == pytest.approx(printed, abs=1e-6)
    assert roadseg.cli.main(["package", str(checkpoint()), "-o", "model.safetensors"]) == 0
    arguments = ["eval", "model.safetensors", "-c", "tiny.yaml", "--split", "test", "-o", "scores"]
    assert roadseg.cli.main(arguments) == 0
    scored = json.loads(Path("scores/scores.json").read_text())["scores"]
    for name, value in (("boundary_iou", scored["boundary_iou"]), ("boundary_f1_2px", scored["boundary_f1"]["2px"])):
        assert float(re.search(rf"test/{name}\D+([\d.]+)", table)[1]) == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("workers", [0, 2])  # loading processes read ahead before the epoch is known to Lightning
def test_a_resumed_run_equals_the_undisturbed_one_bit_for_bit(run, monkeypatch, workers):
    def fit(*arguments: object) -> int:
        return run("fit", "--trainer.max_epochs", 4, "--data.num_workers", workers, *arguments)

    assert fit() == 0
    undisturbed = torch.load(checkpoint(), weights_only=True)

    from roadseg.task import SegmentationTask

    def stop_after_two(self) -> None:
        if self.current_epoch == 1:
            self.trainer.should_stop = True

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "on_train_epoch_end", stop_after_two)
        assert fit("--name", "cut") == 0
    stopped = Path("runs/cut/version_0/checkpoints/last.ckpt")
    assert torch.load(stopped, weights_only=True)["epoch"] == 1
    torch.manual_seed(12345)  # the state of the generators must not matter
    assert fit("--name", "resumed", "--ckpt_path", stopped) == 0
    assert_same_training("runs/resumed/version_0/checkpoints/last.ckpt", undisturbed)


@pytest.mark.parametrize(
    ("step", "workers"),  # after one and two of an epoch's four batches, and after the last
    [(5, 0), (8, 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((5, 2), (6, 0), (6, 2), (8, 0)))],
)
def test_a_run_that_is_killed_within_an_epoch_goes_on_with_the_batches_it_had_not_seen(run, monkeypatch, workers, step):
    every_step = ("--checkpoint_last.every_n_train_steps", 1, "--checkpoint_last.save_on_train_epoch_end", "false")

    def fit(*arguments: object) -> int:
        return run("fit", "--trainer.max_epochs", 3, "--data.num_workers", workers, *every_step, *arguments)

    assert fit() == 0
    undisturbed = torch.load(checkpoint(), weights_only=True)

    with power_cut(monkeypatch, step):
        fit("--name", "cut")
    stopped = Path("runs/cut/version_0/checkpoints/last.ckpt")
    assert torch.load(stopped, weights_only=True)["global_step"] == step
    from roadseg.task import SegmentationTask

    read = []
    monkeypatch.setattr(SegmentationTask, "on_train_batch_end", lambda self, o, batch, i: read.extend(batch["name"]))
    assert fit("--name", "resumed", "--ckpt_path", stopped) == 0
    assert len(read) == 2 * (12 - step)
    assert_same_training("runs/resumed/version_0/checkpoints/last.ckpt", undisturbed)


EVERY_FIVE = ("--checkpoint_last.every_n_train_steps", 5, "--checkpoint_last.save_on_train_epoch_end", "false")


@pytest.mark.parametrize(("every", "saved"), [((), (4, 8)), (EVERY_FIVE, (5, 10))], ids=["ends", "within"])
def test_a_run_of_so_many_steps_goes_on_twice_from_where_it_was_saved(run, monkeypatch, every, saved):
    """Lightning repeats the end of an epoch with a batch more, and counts the epoch once more each time."""

    def fit(*arguments: object) -> int:
        return run("fit", "--trainer.max_epochs", -1, "--trainer.max_steps", 15, *every, *arguments)

    assert fit() == 0
    undisturbed = torch.load(checkpoint(), weights_only=True)

    went_on: list[object] = []
    for name, step, at in (("cut", 6, saved[0]), ("cut-again", 11, saved[1])):
        with power_cut(monkeypatch, step):
            fit("--name", name, *went_on)
        stopped = Path(f"runs/{name}/version_0/checkpoints/last.ckpt")
        assert torch.load(stopped, weights_only=True)["global_step"] == at
        went_on = ["--ckpt_path", stopped]
    assert fit("--name", "resumed", *went_on) == 0
    assert_same_training("runs/resumed/version_0/checkpoints/last.ckpt", undisturbed)


@contextmanager
def power_cut(monkeypatch, step: int) -> Iterator[None]:
    """Training dies before the batch behind so many steps."""
    from roadseg.task import SegmentationTask

    begin = SegmentationTask.on_train_batch_start

    def crash(self, batch, batch_idx) -> None:
        if self.global_step == step:
            raise RuntimeError("power cut")
        begin(self, batch, batch_idx)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(SegmentationTask, "on_train_batch_start", crash)
        yield


def assert_same_training(resumed: str, undisturbed: dict) -> None:
    resumed = torch.load(resumed, weights_only=True)
    assert resumed["epoch"] == undisturbed["epoch"] and resumed["global_step"] == undisturbed["global_step"]
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


@pytest.mark.slow
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
    assert float(printed[0][-1]) == pytest.approx(scores()[-1], abs=1e-6)


def test_training_in_bfloat16_throughout_averages_in_float32(run):
    assert run("fit", "--trainer.precision", "bf16-true", "--trainer.max_epochs", 1) == 0
    stored = torch.load(checkpoint(), weights_only=True)
    assert stored["state_dict"]["network.decoder.head.weight"].isfinite().all()
    assert roadseg.cli.main(["package", str(checkpoint()), "-o", "m.safetensors"]) == 0


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="reads the processor's flags as Linux shows them")
def test_precision_is_bf16_where_the_processor_has_it(run):
    assert run("fit", "--trainer.max_epochs", 1, "--trainer.precision", "null") == 0
    chosen = yaml.safe_load(Path("runs/tiny/version_0/config.yaml").read_text())["trainer"]["precision"]
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert chosen == ("bf16-mixed" if flags & {"avx512_bf16", "amx_bf16", "bf16"} else "32-true")


def test_without_loggers_nothing_is_written_into_the_working_folder(run):
    assert run("fit", "--trainer.logger", "false", "--trainer.max_epochs", 1) == 0
    assert "config.yaml" not in {p.name for p in Path().iterdir()}
