"""Interleaved times and peak memory."""

import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping

from roadseg.benching.memory import peak_mib as peak_so_far_mib
from roadseg.benching.memory import reset_peak, resident_mib
from roadseg.benching.timing import interleaved_times


def interleaved_medians(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each run, all in turn, after one warm-up; a slow spell of the machine then hits all alike."""
    times = interleaved_times(list(runs.values()), repeats, warm_ups=1)
    return {name: statistics.median(taken) for name, taken in zip(runs, times, strict=True)}


def print_peak(run: Callable[[], object]) -> None:
    """Print by how many MiB a run raises this process's resident memory; Linux, in a process of its own."""
    reset_peak()
    before = resident_mib()
    run()
    print(peak_so_far_mib() - before)


def peak_mib(module: str, *arguments: str) -> float:
    """What `python -m module --peak arguments`, a fresh process, prints with `print_peak`."""
    command = [sys.executable, "-m", module, "--peak", *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
