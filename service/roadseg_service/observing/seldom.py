"""Warnings of what clients can make happen often."""

import time
from collections.abc import Callable

_EVERY_S = 1.0


class Seldom:
    """Says yes at most once a second, so that the log does not grow with an attack.

    Args:
        clock: tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Say yes the first time."""
        self._clock = clock
        self._next = float("-inf")

    def __call__(self) -> bool:
        """Whether to go on."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + _EVERY_S
        return True
