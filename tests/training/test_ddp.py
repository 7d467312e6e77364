"""Two processes train as one would on their batches together, through the command line, by each launcher."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback
from PIL import Image

import roadseg
from roadseg.data.datamodule import RoadDataModule
from roadseg.data.sampling import EpochSampler
from roadseg.task import SegmentationTask
from tests.conftest import write_frame
from tests.training.conftest import TINY
from tests.training.tiny_run import checkpoint, own_miou, scores

FRAMES, EPOCHS, UNLABELLED = 8, 2, 11
PLAIN = {"width": 16, "dropout": 0.0, "fuse": "linear"}
"""A decoder without batch norm, whose statistics would be those of a process's own batch."""
NORMED = {"width": 16, "dropout": 0.0}
LIGHTNING = [sys.executable, "-m", "roadseg"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "roadseg"]


class Witness(Callback):
    """Leaves in the working folder, for each rank, what it was given and what it has learned."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {"names": [], "batches": [], "gradients": [], "losses": []}

    def on_train_start(self, trainer, task) -> None:
        self.seen["start"] = {name: tensor.clone() for name, tensor in task.state_dict().items()}

    def on_train_batch_start(self, trainer, task, batch, batch_idx) -> None:
        self.seen["names"].append((trainer.current_epoch, batch["name"]))
        self.seen["batches"].append((batch["image"], batch["mask"]))

    def on_before_optimizer_step(self, trainer, task, optimizer) -> None:
        self.seen["gradients"].append({name: p.grad.clone() for name, p in task.named_parameters()})

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx) -> None:
        self.seen["losses"].append(outputs["loss"].detach())
        self.seen["end"] = {name: tensor.clone() for name, tensor in task.state_dict().items()}

    def teardown(self, trainer, task, stage) -> None:
        self.seen["averaged"] = task.state_dict()  # left in the task at the end of training
        torch.save({**self.seen, "world_size": trainer.world_size}, f"rank_{trainer.global_rank}.pt")


def write_camvid(folder: Path) -> None:
    """8 training and 5 validation frames, labelled everywhere."""
    for split, count in {"train": FRAMES, "val": 5}.items():
        for i in range(count):
            write_frame(folder, split, f"{split}_{i}", seed=100 * (split == "val") + i)
            label(folder, split, f"{split}_{i}", lambda mask: mask * (mask != UNLABELLED))


def label(folder: Path, split: str, name: str, change) -> None:
    path = folder / "camvid" / f"{split}annot" / f"{name}.png"
    Image.fromarray(change(np.asarray(Image.open(path))).astype(np.uint8)).save(path)


def model(decoder_options: dict[str, Any]) -> dict[str, Any]:
    """Settings of a network in which nothing is random."""
    return {**TINY["model"], "drop_path_rate": 0.0, "decoder_options": decoder_options}


def fit(folder: Path, launcher: list[str], decoder_options: dict[str, Any], *arguments: str) -> list[dict[str, Any]]:
    """Train with two processes; what each has witnessed."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "model": model(decoder_options)}))
    command = [*launcher, "fit", "-c", "tiny.yaml", "--trainer.devices", "2", "--trainer.strategy", "ddp", *arguments]
    command += ["--trainer.callbacks+=tests.training.test_ddp.Witness"]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(roadseg.__file__).parents[1])}
    environment = {**os.environ, "ROADSEG_DATA": str(folder), **environment}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [w["world_size"] for w in found] == [2, 2]
    return found


def own_gradients(
    decoder_options: dict[str, Any], start: dict[str, torch.Tensor], image: torch.Tensor, mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The gradient of a batch, in this one process, in float64."""
    task = SegmentationTask(RoadDataModule("camvid").taxonomy, **model(decoder_options)).train()
    task.load_state_dict(start)
    task.double()
    task.loss(task(image), mask).backward()
    return {name: p.grad for name, p in task.named_parameters()}


def assert_close(ours: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> None:
    """Equal up to float32's roundings, which are relative to the whole gradient."""
    assert ours.keys() == exact.keys() and len(exact) > 50
    largest = max(tensor.abs().max() for tensor in exact.values())
    assert largest > 0
    for name in exact:
        assert (ours[name] - exact[name]).abs().max() <= 1e-5 * largest, name


def assert_same_on_both_ranks(seen: list[dict[str, Any]]) -> None:
    """Batch norm's statistics may differ within an epoch: each process has its own until the next forward pass."""
    for moment in ("start", "end", "averaged"):
        ours, theirs = (w[moment] for w in seen)
        for name in ours:
            if moment == "averaged" or "running" not in name:
                assert torch.equal(ours[name], theirs[name]), (moment, name)
    assert any(not torch.equal(seen[0]["start"][name], tensor) for name, tensor in seen[0]["end"].items()), "learned"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which two processes have trained for two epochs."""
    folder = tmp_path_factory.mktemp("ddp")
    write_camvid(folder)
    return folder, fit(folder, LIGHTNING, PLAIN, "--trainer.max_epochs", str(EPOCHS))


def test_both_ranks_end_with_the_same_weights_and_the_same_average(trained):
    assert_same_on_both_ranks(trained[1])


def test_the_gradient_is_that_of_one_process_with_both_batches(trained):
    seen = trained[1]
    image, mask = (torch.cat([w["batches"][0][i] for w in seen]) for i in (0, 1))
    assert image.shape[0] == 4 and (mask != 255).all(), "the mean of the ranks' means is then the mean over all pixels"
    assert not torch.equal(image[:2], image[2:])
    exact = own_gradients(PLAIN, seen[0]["start"], image, mask)
    for witness in seen:
        assert_close(witness["gradients"][0], exact)


def test_each_frame_is_seen_once_an_epoch(trained):
    for epoch in range(EPOCHS):
        names = [name for w in trained[1] for e, batch in w["names"] if e == epoch for name in batch]
        assert sorted(names) == [f"train_{i}" for i in range(FRAMES)]
    orders = [[batch for e, batch in trained[1][0]["names"] if e == epoch] for epoch in range(EPOCHS)]
    assert orders[0] != orders[1], "shuffled anew"


def test_scores_are_those_of_one_process(trained, monkeypatch):
    """Five frames on two processes; scored again in numpy."""
    folder, seen = trained
    monkeypatch.chdir(folder)
    data = RoadDataModule("camvid", root=str(folder))
    task = SegmentationTask(data.taxonomy, **model(PLAIN)).eval()
    task.load_state_dict(seen[1]["averaged"])
    frames = data.frames("val")
    masks = {}
    with torch.inference_mode():
        for image, _, name in (frames[i] for i in range(len(frames))):
            masks[name] = task(torch.from_numpy(image).permute(2, 0, 1)[None]).argmax(1)[0].numpy()
    assert own_miou(masks, folder) == pytest.approx(scores()[-1], abs=1e-6)
    assert torch.load(checkpoint(), weights_only=True)["global_step"] == EPOCHS * FRAMES // 4


@pytest.mark.slow
def test_a_rank_whose_batch_is_all_ignored_adds_nothing_and_holds_nobody_up(tmp_path):
    """By torchrun, and without a seed, so that each process makes weights of its own to start with."""
    write_camvid(tmp_path)
    for key in EpochSampler(FRAMES, seed=0, rank=1, world_size=2):
        label(tmp_path, "train", f"train_{key.frame}", lambda mask: np.full_like(mask, UNLABELLED))
    seen = fit(tmp_path, TORCHRUN, NORMED, "--trainer.max_epochs", "1", "--seed_everything", "false")
    assert all((mask == 255).all() for _, mask in seen[1]["batches"]) and seen[1]["losses"] == [0, 0]
    assert_same_on_both_ranks(seen)
    assert all(tensor.isfinite().all() for tensor in seen[0]["end"].values())
    alone = own_gradients(NORMED, seen[0]["start"], *seen[0]["batches"][0])
    assert_close(seen[0]["gradients"][0], {name: gradient / 2 for name, gradient in alone.items()})
