"""The start of the service without torch: seconds until it is ready, and what it holds in memory.

    python -m benchmarks.service.cold_start -o benchmarks/results/service_cold_start.json

A fresh virtual environment gets roadseg with the extras `openvino` and `serve`, nothing else, in the versions of
constraints.txt. The bundled model, exported for OpenVINO in float32 by the interpreter that runs this script, is served
there: from the start of the process until `/readyz` answers 200, and resident memory then, and after a 1280x720 image.
The median of several starts, after one that is thrown away because it reads the files from disk. Needs the package
index, minutes, and some hundred MB of disk for a while.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import urllib.request
import venv
from pathlib import Path
from typing import Any

from benchmarks.segmenting import jpeg
from benchmarks.service.servers import ROOT, free_port, resident_mib, wait_until_ready
from roadseg.benching.loading import export_for_times
from roadseg.benching.machine import describe_machine, is_busy
from roadseg.inference.bundled import DEFAULT_MODEL, model_path
from roadseg.inference.package import read_model_file

EXTRAS = "openvino,serve"
FRAME = (720, 1280)


def make_environment(folder: Path) -> Path:
    """A virtual environment with the slim service; gives its `bin`."""
    venv.create(folder, with_pip=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["--constraint", str(ROOT / "constraints.txt"), f"{ROOT}[{EXTRAS}]"]
    subprocess.run([folder / "bin" / "python", *install, *constraints], check=True)
    return folder / "bin"


def start(programs: Path, artefact: Path, frame: bytes) -> dict[str, float]:
    """Seconds and MiB of one start."""
    port = free_port()
    command = [str(programs / "roadseg"), "serve", "--model", str(artefact), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}/readyz")
        ready_s = time.perf_counter() - begun
        ready_mib = resident_mib(process)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/segment", frame, {"Content-Type": "image/jpeg"})
        with urllib.request.urlopen(request) as response:
            response.read()
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        if "torch" in maps:
            raise SystemExit("torch was loaded")
        return {"ready_s": ready_s, "ready_mib": ready_mib, "after_a_frame_mib": resident_mib(process)}
    finally:
        process.terminate()
        process.wait(60)


def measure(repeats: int) -> dict[str, Any]:
    """The medians of some starts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artefact = folder / "artefact"
        export_for_times(read_model_file(model_path(DEFAULT_MODEL)), "openvino", "f32", artefact)
        programs = make_environment(folder / "venv")
        frame = jpeg(0, FRAME)
        taken = [start(programs, artefact, frame) for _ in range(repeats + 1)][1:]
    return {name: statistics.median(one[name] for one in taken) for name in taken[0]}


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe_machine()
    document = {**measure(args.repeats), "extras": EXTRAS, "machine": machine, "busy": is_busy(machine)}
    print(
        f"{DEFAULT_MODEL} in OpenVINO: ready after {document['ready_s']:.2f} s, {document['ready_mib']:.0f} MiB "
        f"resident, {document['after_a_frame_mib']:.0f} MiB after a {FRAME[1]}x{FRAME[0]} frame"
    )
    if document["busy"]:
        print(f"this machine was busy (load {machine['load_1min']}): measure again")
    if args.output:
        args.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
