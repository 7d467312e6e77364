"""Peak memory and time of a training step by size of the crop, with and without gradient checkpointing.

    python -m benchmarks.training_memory -o benchmarks/results/training_memory.json

Each row is a process of its own: an optimizer step of Twins-SVT-S with its decoder, as in benchmarks/training_step.py,
after one that warms up. On a CUDA device the peak is what torch has allocated, the network's weights included;
elsewhere it is by how much the step raises the process's resident memory above what the built network takes, and so
holds activations, gradients and the optimizer's state. "1 x 2" is two batches of one, their gradients accumulated: the
optimizer step of a batch of two, in nearly the memory of one.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks.measuring import print_peak
from benchmarks.training_step import CLIP, DEVICE, LR, PRECISION, make_batch, make_task, parameter_groups, synchronise
from roadseg.benching.machine import describe_machine


class Setting(NamedTuple):
    """A row: the crop, frames at once, batches a step, and whether activations are computed again."""

    height: int
    width: int
    batch: int
    accumulated: int
    checkpointing: bool


SETTINGS = [
    Setting(*size, batch, accumulated, checkpointing)
    for size in ((512, 1024), (1024, 2048))
    for batch, accumulated in ((1, 1), (2, 1), (1, 2))
    for checkpointing in (False, True)
]


def make_step(setting: Setting) -> Any:
    """An optimizer step, ready to run."""
    batch, label_sets = make_batch(setting.batch, (setting.height, setting.width))
    task = make_task("twins_svt_small", 256, label_sets, grad_checkpointing=setting.checkpointing).to(DEVICE).train()
    optimizer = torch.optim.AdamW(parameter_groups(task.network), lr=LR)

    def step() -> None:
        for _ in range(setting.accumulated):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=PRECISION == "bf16-mixed"):
                loss = task.loss(task(batch["image"]), batch["mask"]) / setting.accumulated
            loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        synchronise()

    return step


def print_seconds_and_peak(setting: Setting) -> None:
    """Print the seconds of a second step, and the peak in MiB of both."""
    step, seconds = make_step(setting), []

    def run() -> None:
        for _ in range(2):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)

    if DEVICE.type == "cuda":
        run()
        print(torch.cuda.max_memory_allocated() / 2**20)
    else:
        print_peak(run)
    print(seconds[-1])


def measure(setting: Setting) -> dict[str, Any]:
    """One row, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training_memory", "--one", *map(str, map(int, setting))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    # A setting that does not fit into memory is a finding, not the end of the table.
    peak, seconds = (None, None) if done.returncode else map(float, done.stdout.split())
    return {
        "crop": f"{setting.height}x{setting.width}",
        "batch": f"{setting.batch} x {setting.accumulated}" if setting.accumulated > 1 else str(setting.batch),
        "grad_checkpointing": setting.checkpointing,
        "status": done.returncode,
        "peak_mib": peak and round(peak),
        "step_s": seconds and round(seconds, 3),
        "crops_per_s": seconds and round(setting.batch * setting.accumulated / seconds, 3),
    }


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--quick", action="store_true", help="crops of 128x256 alone, to try the script")
    parser.add_argument("--one", nargs=5, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        height, width, batch, accumulated, checkpointing = args.one
        print_seconds_and_peak(Setting(height, width, batch, accumulated, bool(checkpointing)))
        return
    settings = SETTINGS if not args.quick else [s._replace(height=128, width=256) for s in SETTINGS[2:6]]
    rows = [measure(setting) for setting in settings]
    print(" | ".join(rows[0]), *(" | ".join(str(value) for value in row.values()) for row in rows), sep="\n")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine": describe_machine(), "precision": PRECISION, "device": DEVICE.type, "rows": rows}
        args.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
