"""The one OpenVINO core of a process."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import openvino as ov


@cache
def openvino_core() -> ov.Core:
    """The process' core, which loads models and compiles them; made at the first call and kept to the end.

    Its CPU plugin gives the thread that loads it a signal stack of its own, and frees that stack where the core is
    destroyed. In another thread that stack stays in use, freed: the next signal, Ctrl-C or the end of a child process,
    is then a segmentation fault (OpenVINO 2026.4, `SigAltStackSetup`). So the plugin is loaded in a thread that ends
    right after, and no thread that matters ever has that stack.
    """
    with ThreadPoolExecutor(1, "roadseg-openvino") as apart:
        return apart.submit(_load).result()


def _load() -> ov.Core:
    core = ov.Core()
    if "CPU" in core.available_devices:
        core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
    return core
