"""What a loading process needs before it loads."""

import ctypes
import platform

import cv2

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 1 << 30


def prepare_worker(worker: int) -> None:
    """Set up a loading process: a `worker_init_fn`.

    OpenCV's threads do not survive a fork, and workers are the parallelism. And freed memory is kept for the next
    frame: by default glibc gives a frame's pages back and asks for them anew, which costs as much as decoding it.

    Args:
        worker: its number.
    """
    cv2.setNumThreads(0)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
