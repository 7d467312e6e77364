"""Starting servers, and running clients against them."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.segmenting import SCENES, jpeg
from roadseg.benching.loading import export_for_times
from roadseg.inference.bundled import DEFAULT_MODEL, model_path
from roadseg.inference.package import read_model_file

SIZE = (360, 480)
ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120.0


def prepare(folder: Path) -> tuple[Path, Path]:
    """The bundled model, exported for OpenVINO in float32, and a folder of JPEGs to send."""
    artefact, files = folder / "artefact", folder / "drive"
    export_for_times(read_model_file(model_path(DEFAULT_MODEL)), "openvino", "f32", artefact)
    files.mkdir()
    for seed in range(SCENES):
        (files / f"{seed:03d}.jpg").write_bytes(jpeg(seed, SIZE))
    return artefact, files


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], port: int, ready_path: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, from when a path of it answers 200."""
    packages = [str(ROOT), str(ROOT / "service"), sysconfig.get_paths()["purelib"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(packages)}
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=silent, stderr=silent, start_new_session=True)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}{ready_path}")
        yield process
    finally:
        try:
            process.terminate()
            process.wait(60)
        finally:
            with suppress(ProcessLookupError):  # LitServe leaves its workers behind
                os.killpg(process.pid, signal.SIGKILL)


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Return as soon as a URL answers 200."""
    ends = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < ends:
        try:
            with urllib.request.urlopen(url, timeout=1) as response:
                if response.status == 200:
                    return
        except OSError:
            pass
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with status {process.returncode} before it was ready")
        time.sleep(0.005)
    raise SystemExit(f"{url} was not ready within {START_TIMEOUT_S:g} s")


@contextmanager
def serving_ours(artefact: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The service of an exported model: the URL of its route, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "roadseg", "serve", "--model", str(artefact), "--port", str(port), *options]
    with serving(command, port, "/readyz") as process:
        yield f"http://127.0.0.1:{port}/segment", process


@contextmanager
def serving_litserve(python: Path, artefact: Path, workers: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """LitServe with the same model, run by an interpreter that has it."""
    port = free_port()
    module = "benchmarks.service.litserve_peer"
    command = [str(python), "-m", module, str(artefact), str(port), str(workers)]
    with serving(command, port, "/health") as process:
        yield f"http://127.0.0.1:{port}/segment", process


def run_clients(url: str, files: Path, *options: str) -> dict[str, Any]:
    """What clients in a process of their own meet; see `benchmarks.service.clients`."""
    command = [sys.executable, "-m", "benchmarks.service.clients", url, "--files", str(files), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def resident_mib(process: subprocess.Popen[bytes]) -> float:
    """Resident memory of a process; Linux."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
