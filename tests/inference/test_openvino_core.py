"""OpenVINO's CPU plugin must leave no thread with a signal stack that it frees."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")

ROOT = Path(__file__).parents[2]

SCRIPT = """
import ctypes, faulthandler, os, signal, sys, threading
import numpy as np
import openvino as ov
from openvino import opset13
from roadseg.inference.openvino_core import openvino_core

class Stack(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

def signal_stack():
    found = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    return found.address, found.size

faulthandler.enable()  # which gives the main thread a signal stack, as pytest does
before = signal_stack()
row = opset13.parameter([1, 3], np.float32)
held = [openvino_core().compile_model(ov.Model([opset13.relu(row)], [row]), "CPU")]
assert (held[0](np.float32([[-1, 0, 2]]))[0] == [0, 0, 2]).all()
print(signal_stack() == before)
last = threading.Thread(target=held.clear)  # the last one to hold a network may be any thread
last.start()
last.join()
print(signal_stack() == before)
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="signal stacks are looked at as Linux has them")
def test_a_signal_is_handled_after_a_network_was_dropped_in_another_thread():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "True", "handled"]), done.stderr


def test_nothing_makes_a_core_of_its_own():
    makers = [
        path.relative_to(ROOT).as_posix()
        for folder in ("roadseg", "service", "tests", "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*.py")
        if path != Path(__file__) and re.search(r"\bCore\(\)", path.read_text())
    ]
    assert makers == ["roadseg/inference/openvino_core.py"]
