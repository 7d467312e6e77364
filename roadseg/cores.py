"""How much of the machine is this process's."""

import os


def usable_cores() -> int:
    """Cores that this process may run on; containers and `taskset` allow fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
