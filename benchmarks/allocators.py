"""A training step on a CPU under different allocators of memory, interleaved.

    python -m benchmarks.allocators -o benchmarks/results/allocators.json

Each allocator has a process of its own, which makes the step of `benchmarks.training_step`'s plain loop, with averaged
weights, when its turn comes. torch frees its activations at every step; the C library of Linux gives large blocks back
to the system at once, which then has to hand out, and to clear, the same pages again. The system's share of a step's
CPU time says how much that costs. An allocator that is not installed is left out.
"""

import argparse
import ctypes.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measuring import interleaved_medians
from benchmarks.training_step import CASES, PRECISION, Loop, make_batch, make_task, relative
from roadseg.benching.machine import describe_machine

KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_ARENA_MAX": "1"}
"""Settings of glibc by which it keeps what is freed."""

JEMALLOC = {"MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}


def allocators() -> dict[str, dict[str, str]]:
    """Environment of each allocator that there is here."""
    found = {"glibc": {}, "glibc, freed memory kept": KEEP}
    for name, settings in (("jemalloc", JEMALLOC), ("tcmalloc_minimal", {})):
        if library := ctypes.util.find_library(name):
            found[name] = {"LD_PRELOAD": library, **settings}
    return found


class Child:
    """A process that makes a step when it is told to.

    Args:
        environment: variables that it has besides those of this process.
        arguments: of its command.
    """

    def __init__(self, environment: Mapping[str, str], arguments: list[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.allocators", "--child", *arguments]
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.told: list[dict[str, float]] = []

    def __call__(self) -> None:
        """Make a step; what it says of it is kept in `told`."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a process ended with status {self.process.wait()}")
        self.told.append(json.loads(line))

    def end(self) -> None:
        """End it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def serve_steps(name: str, size: tuple[int, int] | None, batch: int | None) -> None:
    """Make a step for each line of stdin, and print what it took."""
    case = CASES[name]
    images, label_sets = make_batch(batch or case.batch, size or case.size)
    step = Loop(make_task(case.backbone, case.width, label_sets), images, average=True)
    for _ in sys.stdin:
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        step()
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        told = {
            "seconds": time.perf_counter() - start,
            "system_share": (after.ru_stime - before.ru_stime) / used,
            "peak_mib": after.ru_maxrss / 1024,
        }
        print(json.dumps(told), flush=True)


def measure(name: str, repeats: int, arguments: list[str]) -> dict[str, dict[str, Any]]:
    """Of each allocator: median seconds of a step, throughput relative to glibc's, the system's share, peak memory."""
    children = {label: Child(environment, [name, *arguments]) for label, environment in allocators().items()}
    try:
        medians = interleaved_medians(children, repeats)
    finally:
        for child in children.values():
            child.end()
    seconds = {label: [told["seconds"] for told in child.told[1:]] for label, child in children.items()}
    return {
        label: {
            "step_s": round(medians[label], 3),
            "to_glibc": relative(seconds, label, "glibc"),
            "system_share": round(statistics.median(told["system_share"] for told in child.told[1:]), 3),
            "peak_mib": round(child.told[-1]["peak_mib"]),
        }
        for label, child in children.items()
    }


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=11, help="turns (default: 11)")
    parser.add_argument("--case", choices=CASES, action="append", help="measure only this (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="3 turns of a batch of 2, to try the script")
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        serve_steps(args.child, (128, 160) if args.quick else None, 2 if args.quick else None)
        return
    quick = ["--quick"] if args.quick else []
    rows = {name: measure(name, 3 if args.quick else args.repeats, quick) for name in args.case or CASES}
    print(json.dumps(rows, indent=1))
    if args.output:
        document = {"machine": describe_machine(), "precision": PRECISION, "rows": rows}
        args.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
