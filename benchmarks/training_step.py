"""A training step as `lightning fit` runs it against a plain PyTorch loop, interleaved, in one run.

    python -m benchmarks.training_step -o benchmarks/results/training_step.json

Both train the same network on the same batch in memory, with the same loss (label sets), precision, AdamW groups,
schedule and clipping. Lightning's step has what every step of a training run has: the averaged weights, the progress
bar, values handed to both loggers, which write every tenth; checkpoints and validation come between steps. Its time is
what passes from one batch that it asks for to the next; in between the other loops make their steps. The plain loop is
timed with and without torch's own moving average.

The other rows are the plain loop with one thing changed: attention by torch's fused kernel in place of
`roadseg.models.attention.attend`, weights and images with their channels innermost, and, with --compile,
torch.compile. Ratios are throughputs relative to a loop: medians over the turns of the loop's seconds by the row's.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.label_sets import CASES as LABELS
from benchmarks.label_sets import masks
from roadseg import load_taxonomy
from roadseg.benching.machine import describe_machine
from roadseg.callbacks import RampedEMA
from roadseg.data.class_table import load_class_table
from roadseg.data.synthetic import render_scene
from roadseg.label_sets import LabelSets
from roadseg.schedules import warmup_poly
from roadseg.task import SegmentationTask
from roadseg.training import TRAINER_DEFAULTS, has_bf16

FLOOR = 0.95
"""Of the plain loop's throughput, which Lightning's step shall reach."""

LR, MULTIPLE, WEIGHT_DECAY, WARMUP, STEPS, CLIP = 1e-4, 10.0, 0.01, 100, 10_000, 5.0
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PRECISION = "bf16-mixed" if has_bf16("auto") else "32-true"


class Case(NamedTuple):
    """A network and its batch."""

    backbone: str
    width: int
    batch: int
    size: tuple[int, int]


CASES = {
    "nano": Case("twins_svt_nano", 128, 8, (320, 416)),
    "small": Case("twins_svt_small", 256, 2, (512, 512)),
}


def make_batch(batch: int, size: tuple[int, int]) -> tuple[dict[str, Any], LabelSets]:
    """Procedural scenes with CamVid's labels in hdmap-camvid, on the device, and what their masks mean."""
    taxonomy_name, dataset, words = LABELS["camvid in hdmap-camvid"]
    taxonomy, table = load_taxonomy(taxonomy_name), load_class_table(dataset)
    label_sets = LabelSets.collect(taxonomy, table.sets_in(taxonomy).values())
    scenes = [render_scene(seed, size) for seed in range(batch)]
    image = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).contiguous()
    mask = masks(np.stack([scene.mask for scene in scenes]), table, words, label_sets)[0]
    names = [f"scene_{i}" for i in range(batch)]
    return {"image": image.to(DEVICE), "mask": mask.to(DEVICE), "name": names}, label_sets


def make_task(backbone: str, width: int, label_sets: LabelSets, **options: Any) -> SegmentationTask:
    """The task, with weights that are the same each time."""
    torch.manual_seed(0)
    return SegmentationTask(
        label_sets.taxonomy,
        backbone,
        decoder_options={"width": width},
        label_sets=label_sets,
        lr=LR,
        decoder_lr_multiple=MULTIPLE,
        weight_decay=WEIGHT_DECAY,
        warmup_steps=WARMUP,
        **options,
    )


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Backbone and decoder with their own rates, vectors without decay: the groups of `SegmentationTask`."""
    groups = []
    for name, lr in {"backbone": LR, "decoder": LR * MULTIPLE}.items():
        parameters = list(network.get_submodule(name).parameters())
        groups.append({"params": [p for p in parameters if p.ndim > 1], "lr": lr, "weight_decay": WEIGHT_DECAY})
        groups.append({"params": [p for p in parameters if p.ndim <= 1], "lr": lr, "weight_decay": 0.0})
    return groups


class Loop:
    """A training step written out in plain PyTorch.

    Args:
        task: from which the network and the loss are taken.
        batch: it trains on.
        average: whether a moving average of the weights is kept.
        attend: computes attention in place of `roadseg.models.attention.attend`.
        channels_last: whether weights and images have their channels innermost.
        compiled: whether torch.compile makes the network's code.
    """

    def __init__(
        self,
        task: SegmentationTask,
        batch: Mapping[str, Any],
        *,
        average: bool = False,
        attend: Callable[..., Tensor] | None = None,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        self.network, self.loss, self.attend = task.network.to(DEVICE).train(), task.loss.to(DEVICE), attend
        self.image, self.mask = batch["image"], batch["mask"]
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
            self.image = self.image.contiguous(memory_format=torch.channels_last)
        self.forward_network: Callable[[Tensor], Tensor] = self.network
        if compiled:
            self.forward_network = torch.compile(self.network, dynamic=False)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.network), lr=LR)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, warmup_poly(STEPS, WARMUP, 0.9))
        self.averaged = None
        if average:
            self.averaged = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
        self.phases = {"forward": self.forward, "backward": self.backward, "optimizer": self.update}
        if average:
            self.phases["average"] = self.average

    def __call__(self) -> None:
        """Make a step."""
        for phase in self.phases.values():
            phase()
        synchronise()

    def forward(self) -> None:
        """Compute the loss."""
        own = mock.patch("roadseg.models.attention.attend", self.attend) if self.attend else nullcontext()
        with own, torch.autocast(DEVICE.type, torch.bfloat16, enabled=PRECISION == "bf16-mixed"):
            self.value = self.loss(self.forward_network(self.image), self.mask)

    def backward(self) -> None:
        """Compute the gradients."""
        self.optimizer.zero_grad()
        self.value.backward()

    def update(self) -> None:
        """Clip the gradients and change the weights."""
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.schedule.step()

    def average(self) -> None:
        """Move the average."""
        assert self.averaged is not None
        self.averaged.update_parameters(self.network)


class Turns:
    """A loader of one batch again and again for Lightning, whose step is one of the runs that take turns."""

    def __init__(self, batch: Mapping[str, Any], others: Mapping[str, Callable[[], None]], repeats: int) -> None:
        self.batch, self.others, self.repeats = batch, others, repeats
        self.seconds: dict[str, list[float]] = {name: [] for name in [*others, "lightning"]}

    def __len__(self) -> int:
        """Batches: the first warms up, and the last has none behind it that would end its time."""
        return self.repeats + 2

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """The batches."""
        for _ in range(len(self)):
            for name, run in self.others.items():
                start = time.perf_counter()
                run()
                self.seconds[name].append(time.perf_counter() - start)
            start = time.perf_counter()
            yield self.batch
            synchronise()
            self.seconds["lightning"].append(time.perf_counter() - start)

    def timed(self) -> dict[str, list[float]]:
        """Seconds of the turns that count."""
        return {name: values[1 : self.repeats + 1] for name, values in self.seconds.items()}


def make_trainer(folder: str) -> Trainer:
    """The trainer as the command line makes it, without validation."""
    board = TensorBoardLogger(folder, default_hp_metric=False)
    options = {**TRAINER_DEFAULTS, "default_root_dir": folder, "precision": PRECISION, "max_epochs": 1}
    return Trainer(
        **options,
        accelerator=DEVICE.type,
        devices=1,
        limit_val_batches=0,
        logger=[board, CSVLogger(folder, version=board.version)],
        callbacks=[RampedEMA(), ModelCheckpoint(filename="last"), TQDMProgressBar()],
        enable_model_summary=False,
    )


def synchronise() -> None:
    """Wait until the device has done what it was told."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def measure(name: str, repeats: int, compiled: bool) -> dict[str, Any]:
    """One case: median seconds of each run, and throughputs relative to the plain loops."""
    case = CASES[name]
    batch, label_sets = make_batch(case.batch, case.size)

    def task() -> SegmentationTask:
        return make_task(case.backbone, case.width, label_sets)

    loops = {
        "plain": Loop(task(), batch),
        "plain, average": Loop(task(), batch, average=True),
        "fused attention": Loop(task(), batch, attend=F.scaled_dot_product_attention),
        "channels last": Loop(task(), batch, channels_last=True),
    }
    compile_s = None
    if compiled:
        loops["compiled"] = Loop(task(), batch, compiled=True)
        start = time.perf_counter()
        loops["compiled"]()
        compile_s = round(time.perf_counter() - start, 1)
    turns = Turns(batch, loops, repeats)
    with tempfile.TemporaryDirectory() as folder:
        make_trainer(folder).fit(task(), train_dataloaders=turns)
    seconds = turns.timed()
    ratio = relative(seconds, "lightning", "plain, average")
    row = {
        "backbone": case.backbone,
        "batch": [case.batch, 3, *case.size],
        "step_s": {label: round(statistics.median(values), 4) for label, values in seconds.items()},
        "lightning_to_plain_with_average": ratio,
        "lightning_to_plain_without_average": relative(seconds, "lightning", "plain"),
        "to_plain": {label: relative(seconds, label, "plain") for label in seconds if label != "plain"},
        "reaches_the_floor": ratio >= FLOOR,
    }
    return row if compile_s is None else {**row, "first_compiled_step_s": compile_s}


def relative(seconds: Mapping[str, list[float]], name: str, to: str) -> float:
    """Throughput relative to another run's; turn by turn, so that a slow spell of the machine hits both."""
    return round(statistics.median(b / a for a, b in zip(seconds[name], seconds[to], strict=True)), 3)


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=11, help="turns (default: 11)")
    parser.add_argument("--case", choices=CASES, action="append", help="measure only this (may be repeated)")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well, which takes minutes on a CPU")
    parser.add_argument("--quick", action="store_true", help="3 turns of a batch of 2, to try the script")
    args = parser.parse_args()
    if args.quick:
        args.repeats = 3
        CASES.update({name: case._replace(batch=2, size=(128, 160)) for name, case in CASES.items()})
    warnings.filterwarnings("ignore", module="lightning")
    rows = {name: measure(name, args.repeats, args.compile) for name in args.case or CASES}
    for name, row in rows.items():
        print(name, json.dumps(row, indent=1))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine": describe_machine(), "precision": PRECISION, "floor": FLOOR, "rows": rows}
        args.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
