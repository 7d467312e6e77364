"""Interleaved times and peak memory."""

import ctypes
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def interleaved_medians(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each run, all in turn, after one warm-up; a slow spell of the machine then hits all alike."""
    for run in runs.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def print_peak(run: Callable[[], object]) -> None:
    """Print by how many MiB a run raises this process's resident memory; Linux, in a process of its own."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what preparation has freed would be used again, unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is resident now
    before = _status_kib("VmRSS")
    run()
    print((_status_kib("VmHWM") - before) / 1024)


def peak_mib(module: str, *arguments: str) -> float:
    """What `python -m module --peak arguments`, a fresh process, prints with `print_peak`."""
    command = [sys.executable, "-m", module, "--peak", *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _status_kib(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])
