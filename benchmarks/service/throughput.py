"""Images/s over HTTP with 16 clients, against a loop without HTTP and against LitServe, in the same run.

    python -m benchmarks.service.throughput --litserve-python DIR/bin/python \
        -o benchmarks/results/service_throughput.json

The bundled model, exported for OpenVINO in float32, segments 480x360 JPEGs (procedural scenes with a camera's noise) to
PNG masks. The bound is one process that decodes, segments in the same batches and encodes in a loop. LitServe serves
the same predictor, in a virtual environment of its own, since it installs a `lightning` script: `python -m venv DIR &&
DIR/bin/pip install litserve`; with one and with two workers, of which the better counts. All are measured in turn, for
some seconds each, in several rounds; the clients take their share of the same cores, which the loop has for itself.
Both servers log warnings only, LitServe as it comes.

`--quick` only tries the script.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.service.servers import ROOT, SIZE, prepare, run_clients, serving_litserve, serving_ours
from roadseg.benching.machine import describe_machine, is_busy
from roadseg.inference.bundled import DEFAULT_MODEL

CLIENTS = 16
LITSERVE_WORKERS = (1, 2)

Round = Callable[[], dict[str, Any]]


def rounds_of(artefact: Path, files: Path, seconds: float, litserve: Path | None) -> dict[str, Round]:
    """What is measured, by name."""
    options = ("--clients", str(CLIENTS), "--seconds", str(seconds))

    def warm_then_measure(url: str, *more: str) -> dict[str, Any]:
        run_clients(url, files, "--clients", str(CLIENTS), "--seconds", "1", *more)
        return run_clients(url, files, *options, *more)

    def loop() -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.service.in_process", str(artefact), "--files", str(files)]
        done = subprocess.run([*command, "--seconds", str(seconds)], cwd=ROOT, capture_output=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def ours() -> dict[str, Any]:
        with serving_ours(artefact, "--log-level", "warning") as (url, _):
            return warm_then_measure(url)

    def peer(workers: int) -> Round:
        def run() -> dict[str, Any]:
            assert litserve is not None
            with serving_litserve(litserve, artefact, workers) as (url, _):
                return warm_then_measure(url, "--field", "file")

        return run

    found: dict[str, Round] = {"loop": loop, "roadseg": ours}
    if litserve is not None:
        found |= {f"litserve, {workers} worker(s)": peer(workers) for workers in LITSERVE_WORKERS}
    return found


def medians(taken: list[dict[str, Any]]) -> dict[str, float]:
    """The medians of all that was measured in every round."""
    for one in taken:
        if set(one.get("statuses", {"200": 0})) != {"200"} or one.get("lost"):
            raise SystemExit(f"not all answers were 200: {one}")
    names = [name for name in ("images_per_s", "p50_s", "p99_s") if name in taken[0]]
    return {name: statistics.median(one[name] for one in taken) for name in names}


def measure(rounds: int, seconds: float, litserve: Path | None) -> dict[str, Any]:
    """All rounds, in turn."""
    with tempfile.TemporaryDirectory() as name:
        artefact, files = prepare(Path(name))
        runs = rounds_of(artefact, files, seconds, litserve)
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
        for _ in range(rounds):
            for kind, run in runs.items():
                taken[kind].append(run())
                print(kind, taken[kind][-1], file=sys.stderr, flush=True)
    rows = {kind: medians(found) for kind, found in taken.items()}
    ratios = {"loop": rows["roadseg"]["images_per_s"] / rows["loop"]["images_per_s"]}
    if peers := [row for kind, row in rows.items() if kind.startswith("litserve")]:
        best = max(peers, key=lambda row: row["images_per_s"])
        ratios["litserve"] = rows["roadseg"]["images_per_s"] / best["images_per_s"]
        ratios["litserve_p99"] = rows["roadseg"]["p99_s"] / best["p99_s"]
    return {"rows": rows, "ratios": ratios, "rounds": rounds, "seconds": seconds, "all": taken}


def text(document: dict[str, Any]) -> str:
    """The findings for people."""
    lines = [f"{DEFAULT_MODEL}, {SIZE[1]}x{SIZE[0]}, {CLIENTS} clients"]
    for kind, row in document["rows"].items():
        late = f", p50 {1e3 * row['p50_s']:.0f} ms, p99 {1e3 * row['p99_s']:.0f} ms" if "p99_s" in row else ""
        lines.append(f"{kind}: {row['images_per_s']:.1f} images/s{late}")
    lines += [f"roadseg against {name}: {ratio:.3f}" for name, ratio in document["ratios"].items()]
    if document["busy"]:
        lines.append(f"this machine was busy (load {document['machine']['load_1min']}): measure again")
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (default: 10)")
    parser.add_argument("--litserve-python", type=Path, help="interpreter that has litserve; without, no peer")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it runs")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe_machine()
    found = measure(*((1, 1.0) if args.quick else (args.rounds, args.seconds)), args.litserve_python)
    document = {**found, "clients": CLIENTS, "size": list(SIZE), "machine": machine, "busy": is_busy(machine)}
    print(text(document))
    if args.output:
        args.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
