"""Memory that was freed goes back to the system."""

import ctypes

WORTH_BYTES = 128 * 1024**2
"""Of uploads and images at once; what less of them leaves behind is used again by the next ones."""


def give_back_freed() -> None:
    """Give back what glibc keeps of what was freed, which after a burst of large images is hundreds of MiB."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        pass
