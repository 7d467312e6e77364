"""The service at five times what it can do, for a minute: who is answered in time, who is told to come back, memory.

    python -m benchmarks.service.overload -o benchmarks/results/service_overload.json

The bundled model, exported for OpenVINO in float32, with 480x360 JPEGs. What it can do is measured first, with 16
clients that wait for their answers. Then images are due at five times that rate, sent by 256 connections, whatever the
answers do. The deadline is short, so that it matters. Resident memory is read while all that goes on.

`--quick` only tries the script.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.service.servers import SIZE, prepare, resident_mib, run_clients, serving_ours
from benchmarks.service.throughput import CLIENTS
from roadseg.benching.machine import describe_machine, is_busy
from roadseg.inference.bundled import DEFAULT_MODEL

FACTOR = 5
CONNECTIONS = 256
DEADLINE_S = 2.0


class MemoryLog:
    """Reads a process' resident memory every second until closed.

    Args:
        process: whose.
    """

    def __init__(self, process: Any) -> None:
        self.mib: list[float] = []
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended.wait(1.0):
            self.mib.append(resident_mib(self._process))

    def close(self) -> None:
        """Stop reading."""
        self._ended.set()
        self._thread.join()


def measure(seconds: float, capacity_seconds: float) -> dict[str, Any]:
    """What happens at the capacity, and at five times the capacity."""
    with tempfile.TemporaryDirectory() as name:
        artefact, files = prepare(Path(name))
        with serving_ours(artefact, "--deadline-s", str(DEADLINE_S)) as (url, process):
            capacity = run_clients(url, files, "--clients", str(CLIENTS), "--seconds", str(capacity_seconds))
            before = resident_mib(process)
            memory = MemoryLog(process)
            rate = FACTOR * capacity["images_per_s"]
            arrivals = ("--clients", str(CONNECTIONS), "--seconds", str(seconds), "--rate", str(rate))
            try:
                overload = run_clients(url, files, *arrivals)
            finally:
                memory.close()
            time.sleep(1)
            again = run_clients(url, files, "--clients", "1", "--seconds", "1")
    half = len(memory.mib) // 2
    return {
        "capacity": capacity,
        "overload": overload,
        "rate": rate,
        "deadline_s": DEADLINE_S,
        "resident_mib": {
            "before": before,
            "highest_in_first_half": max(memory.mib[:half], default=before),
            "highest_in_second_half": max(memory.mib[half:], default=before),
        },
        "afterwards": again["statuses"],
    }


def text(document: dict[str, Any]) -> str:
    """The findings for people."""
    overload, memory = document["overload"], document["resident_mib"]
    lines = [
        f"{DEFAULT_MODEL}, {SIZE[1]}x{SIZE[0]}: capacity {document['capacity']['images_per_s']:.1f} images/s, then "
        f"{document['rate']:.0f} images/s due for {document['seconds']:g} s",
        f"{overload['due']} due, answered by status: {overload['statuses']}, lost: {overload['lost'] or 'none'}",
        f"of the accepted: {overload['images_per_s']:.1f} images/s, p50 {overload['p50_s']:.2f} s, p99 "
        f"{overload['p99_s']:.2f} s, longest {overload['max_s']:.2f} s; deadline {document['deadline_s']:g} s",
        f"Retry-After of the others: {overload['retry_after']}",
        f"resident MiB: {memory['before']:.0f} before, at most {memory['highest_in_first_half']:.0f} in the first and "
        f"{memory['highest_in_second_half']:.0f} in the second half; afterwards: {document['afterwards']}",
    ]
    if document["busy"]:
        lines.append(f"this machine was busy (load {document['machine']['load_1min']}): measure again")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of overload (default: 60)")
    parser.add_argument("--quick", action="store_true", help="3 seconds: shows that it runs")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe_machine()
    seconds = 3.0 if args.quick else args.seconds
    found = measure(seconds, 1.0 if args.quick else 10.0)
    document = {**found, "seconds": seconds, "machine": machine, "busy": is_busy(machine)}
    print(text(document))
    if args.output:
        args.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
