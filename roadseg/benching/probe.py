"""One combination in a process of its own: what memory it takes, and whether it runs at all.

    python -m roadseg.benching.probe '{"model": "roadseg-nano", "engine": "torch", ...}'

A runtime that a processor does not suit may end its process, and memory that one engine has freed is used by the next:
both want a process a combination. It prints one line of JSON.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

from roadseg.benching import memory
from roadseg.benching.combinations import Combination, Runner
from roadseg.benching.loading import open_runner, reason_of
from roadseg.benching.results import Memory
from roadseg.benching.work import WANTED, scenes
from roadseg.errors import EngineError

TIMEOUT_S = 900.0
"""For one process; an engine that hangs must not stop the others."""


def probe_apart(combination: Combination, timeout_s: float = TIMEOUT_S) -> Memory:
    """Run a combination twice in a fresh process.

    Args:
        combination: what.
        timeout_s: the process is ended after this time.

    Raises:
        EngineError: with the reason, when it does not run.
    """
    command = [sys.executable, "-m", "roadseg.benching.probe", json.dumps(asdict(combination))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, errors="replace")
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"did not finish a first run in {timeout_s:.0f} s") from error
    if done.returncode < 0:  # a signal: out of memory, or an instruction that the processor has not
        raise EngineError(f"its process was ended by signal {-done.returncode}")
    answer = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 and done.stdout else None
    if answer is None:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise EngineError(f"its process ended with status {done.returncode}: {last[0] if last else 'no message'}")
    if "unavailable" in answer:
        raise EngineError(answer["unavailable"])
    return Memory(**answer)


def measure(combination: Combination) -> Memory:
    """Load and segment twice, in this process, which has done nothing else.

    Raises:
        Exception: whatever the engine raises.
    """
    images = scenes(combination.size, combination.batch)
    free_before = _free_on_gpu(combination.runner)
    begun = time.perf_counter()
    engine = open_runner(combination.runner).engine
    loaded = time.perf_counter()
    peak_of_loading, ready = memory.peak_mib(), memory.resident_mib()
    memory.reset_peak()
    settled = memory.resident_mib()
    start = time.perf_counter()
    engine.run(images, WANTED)
    first = time.perf_counter() - start
    engine.run(images, WANTED)
    peak = memory.peak_mib()
    free_after = _free_on_gpu(combination.runner)
    taken = None if free_before is None or free_after is None else free_before - free_after
    return Memory(
        round(max(peak, peak_of_loading), 1),
        round(ready, 1),
        round(peak - settled, 1),
        taken,
        round(loaded - begun, 3),
        round(first, 3),
    )


def _free_on_gpu(runner: Runner) -> float | None:
    """Free memory of the GPU that a runner uses, in MiB; what its allocators keep counts as taken."""
    if runner.device == "cpu":
        return None
    try:
        import torch
    except ModuleNotFoundError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.cuda.init()
    index = runner.device.partition(":")[2]
    return float(torch.cuda.mem_get_info(int(index) if index else 0)[0] >> 20)


def main(argument: str) -> None:
    """Print what was measured, or why not."""
    asked: dict[str, Any] = json.loads(argument)
    combination = Combination(Runner(**asked["runner"]), (asked["size"][0], asked["size"][1]), asked["batch"])
    try:
        answer = asdict(measure(combination))
    except Exception as error:  # runtimes raise what they like; all of it is a reason
        answer = {"unavailable": reason_of(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
