"""On what a figure was measured."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from roadseg.cores import usable_cores

_CPUINFO = Path("/proc/cpuinfo")
_PACKAGES = ("torch", "onnxruntime", "openvino", "tensorrt", "numpy")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "bf16")
"""What makes low precision quick; where the processor lacks it, the engine works in float32 behind the scenes."""

BUSY_SHARE = 0.25
"""Of the cores; where other work takes more, times are not worth much."""


def describe_machine() -> dict[str, Any]:
    """Processor, cores, threads and versions, without importing anything: torch is described where it is in use.

    Returns:
        Plain values. `load_1min` is how many processes wanted to run in the last minute, this one among them, and None
        where the system does not tell.
    """
    facts = _cpuinfo()
    flags = facts.get("flags", facts.get("Features", "")).split()  # x86's word, and ARM's
    machine: dict[str, Any] = {
        "processor": facts.get("model name") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count() or 0,
        "usable_cores": usable_cores(),
        "memory_mib": _memory_mib(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "avx512_bf16": str("avx512_bf16" in flags),
        "instructions": [flag for flag in _FLAGS if flag in flags],
        "python": platform.python_version(),
    }
    if torch := sys.modules.get("torch"):
        machine["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            machine["gpu"] = torch.cuda.get_device_name(0)
    return machine | _versions()


def is_busy(machine: dict[str, Any]) -> bool:
    """Whether a machine that `describe_machine` described had other work to do before the measuring began."""
    load = machine["load_1min"]
    return load is not None and load > 1 + BUSY_SHARE * machine["usable_cores"]


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first core."""
    try:
        first = _CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    except (AttributeError, ValueError, OSError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
