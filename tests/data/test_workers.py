"""Setting up loading processes."""

import platform
import subprocess
import sys

import pytest

from roadseg.data.workers import prepare_worker

FAULTS = """
import resource
import numpy as np
from roadseg.data.workers import prepare_worker
if {prepare}:
    prepare_worker(0)
for _ in range(5):
    np.full(4_000_000, 1, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.full(4_000_000, 1, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(prepare: bool) -> int:
    script = FAULTS.format(prepare=prepare)
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


def test_a_worker_is_one_thread():
    """In a process of its own: what glibc is told holds for the whole process, for ever."""
    script = "import cv2\nfrom roadseg.data.workers import prepare_worker\ncv2.setNumThreads(4)\nprepare_worker(0)\n"
    command = [sys.executable, "-c", f"{script}print(cv2.getNumThreads())"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep freed memory in other ways")
def test_a_freed_frame_is_kept_for_the_next():
    assert page_faults(prepare=True) < 100


@pytest.mark.parametrize("found", [("", ""), ("musl", "1.2")])
def test_without_glibc_nothing_is_asked_of_it(monkeypatch, found):
    monkeypatch.setattr(platform, "libc_ver", lambda: found)
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("the C library was opened"))
    prepare_worker(0)
