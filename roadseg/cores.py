"""How much of the machine is this process's."""

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores that this process may run on, which `taskset`, containers and their CPU limits (Linux) may make fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _allowed() or cores))


def _allowed() -> int | None:
    """Cores' worth of time that the control group grants, rounded up; None where there is no limit."""
    try:
        quota, period = _QUOTA.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no such file; "max 100000"
        return None
