"""A demo that is told to stop: it ends with its child, whatever it was doing."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.test_demo import IMPORTABLE, ROOT, write_script

HANGING = """
import http.server, os, pathlib, time
def hang():
    note = pathlib.Path(NOTE + ".part")
    note.write_text(str(os.getpid()))
    note.rename(NOTE)
    time.sleep(120)
"""

HANGING_TRAINING = HANGING + "hang()"

HANGING_SERVICE = (
    HANGING
    + """
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        hang()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(f"on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""
)

DRIVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes inherit that it is ignored
import demo
folder, phase = sys.argv[1:]
demo.script = lambda name: f"{folder}/{name}"
if phase == "training":
    demo.serve_bundled = lambda subjects, output: None
sys.argv = ["demo.py", "--output", folder]
sys.exit(demo.main())
"""


def start_hanging(folder, phase):
    """Run the demo up to where its child hangs; gives its process and the child's id."""
    note = folder / "child"
    for name, code in {"roadseg": HANGING_SERVICE, "lightning": HANGING_TRAINING}.items():
        write_script(folder / name, f"#!{sys.executable}\nNOTE = {str(note)!r}\n{code}")
    path = os.pathsep.join([str(ROOT / "examples"), IMPORTABLE])
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder), phase],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(note.exists, "the child did not start")
    return process, int(note.read_text())


def wait_until(condition, otherwise):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def is_running(pid):
    """Whether there is such a process that has not ended; a killed one may still wait to be collected."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("phase", ["training", "serving"])
@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "interrupted\n")]
)
def test_a_signal_ends_the_demo_and_its_child(tmp_path, phase, number, status, said):
    process, child = start_hanging(tmp_path, phase)
    try:
        process.send_signal(number)
        assert process.communicate(timeout=30) == (None, said)
        assert process.returncode == status
        wait_until(lambda: not is_running(child), "the child runs on")
    finally:
        process.kill()
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
