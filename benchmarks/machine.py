"""On what a figure was measured."""

import os
import platform

import torch


def describe_machine() -> dict[str, str | int]:
    """Processor, cores, threads and versions."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "processor": str(capabilities.get("cpu_name", platform.processor())),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 0,
        "torch_threads": torch.get_num_threads(),
        "avx512_bf16": str(capabilities.get("avx512_bf16", False)),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
