"""Peak memory of this process, as Linux counts it; elsewhere there is no such figure."""

import ctypes
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def can_measure() -> bool:
    """Whether this system lets a process follow its own peak: Linux does, some sandboxes do not."""
    try:
        _CLEAR.write_text("5")
        return _read_kib("VmHWM") > 0
    except (OSError, StopIteration):
        return False


def resident_mib() -> float:
    """What is resident now, in MiB."""
    return _read_kib("VmRSS") / 1024


def peak_mib() -> float:
    """The most that was resident since `reset_peak`, or since the process began, in MiB."""
    return _read_kib("VmHWM") / 1024


def reset_peak() -> None:
    """Give back what was freed, and let the peak start again at what is then resident."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what preparation has freed would be used again, unseen
    except (OSError, AttributeError):  # another C library: its peak holds more of what was freed before
        pass
    _CLEAR.write_text("5")


def _read_kib(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])
