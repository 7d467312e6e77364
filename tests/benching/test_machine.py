"""How a machine is described."""

import sys

import numpy as np
import pytest

from roadseg.benching import machine, memory
from roadseg.benching.machine import describe_machine, is_busy
from tests.test_package_shape import modules_after


def test_the_processor_is_the_one_that_linux_names(tmp_path, monkeypatch):
    told = tmp_path / "cpuinfo"
    told.write_text(
        "processor\t: 0\nmodel name\t: Some CPU @ 3: fast\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\n"
        "model name\t: another\n"
    )
    monkeypatch.setattr(machine, "_CPUINFO", told)
    described = describe_machine()
    assert described["processor"] == "Some CPU @ 3: fast"
    assert described["avx512_bf16"] == "True" and described["instructions"] == ["avx2", "avx512_bf16"]


def test_a_system_without_proc_is_described_too(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "gone")
    monkeypatch.setattr("platform.processor", lambda: "")
    described = describe_machine()
    assert described["processor"] == "unknown" and described["instructions"] == []


def test_torch_is_described_only_where_it_is_in_use(monkeypatch):
    assert "torch_threads" in describe_machine()
    monkeypatch.delitem(sys.modules, "torch")
    described = describe_machine()
    assert "torch_threads" not in described and "torch" not in sys.modules


@pytest.mark.parametrize(
    ("load", "cores", "busy"), [(0.2, 2, False), (1.4, 2, False), (1.6, 2, True), (4.0, 64, False), (None, 2, False)]
)
def test_a_machine_is_busy_when_others_take_a_quarter_of_its_cores(load, cores, busy):
    assert is_busy({"load_1min": load, "usable_cores": cores}) is busy


@pytest.mark.skipif(not memory.can_measure(), reason="Linux tells a process its own peak; this system does not")
def test_the_peak_is_what_was_resident_for_a_moment():
    memory.reset_peak()
    before = memory.peak_mib()
    block = np.ones(48 << 17)  # 48 MiB of float64, every page touched
    del block
    assert 40 < memory.peak_mib() - before < 60
    memory.reset_peak()
    assert memory.peak_mib() < before + 20


def test_the_benchmark_loads_no_runtime_until_it_needs_it():
    """So that each process has only its own engine's memory, and the slim core can measure itself."""
    modules = "bench, roadseg.benching.probe, roadseg.benching.report, roadseg.bench_commands"
    loaded = modules_after(f"import roadseg.benching.{modules}")
    assert "roadseg" in loaded and loaded & {"torch", "onnx", "onnxruntime", "openvino", "matplotlib"} == set()
