"""How fast requests are being answered."""

from collections.abc import Callable

_KEPT = 0.95
"""Of the measurements so far when one more comes: some twenty count, which is more than come at once from one batch."""


class LoadMeter:
    """Measures the seconds between two answers while there is work; `Admission` calls it under its lock.

    Requests that are refused, that fail before the network or that nobody waits for any more say nothing of the speed:
    they take a place and leave it without an answer.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin without a measurement."""
        self._clock = clock
        self._working = 0
        self._since = 0.0
        self._seconds = 0.0
        self._answers = 0.0

    @property
    def seconds_each(self) -> float:
        """Seconds an answer: the mean of the last ones, or more where the next one is overdue; 0 before the first."""
        mean = self._seconds / self._answers if self._answers else 0.0
        return max(mean, self._with(self._clock() - self._since)) if self._working else mean

    def began(self, count: int = 1) -> None:
        """Work on so many images began."""
        if self._working == 0:
            self._since = self._clock()  # the time without work says nothing of the speed
        self._working += count

    def answered(self) -> None:
        """An image's answer is ready."""
        now = self._clock()
        self._seconds = _KEPT * self._seconds + now - self._since
        self._answers = _KEPT * self._answers + 1
        self._since = now

    def ended(self, count: int = 1) -> None:
        """Work on so many images is over, with an answer or without."""
        self._working -= count

    def _with(self, interval: float) -> float:
        """The mean, were an answer ready after this interval."""
        return (_KEPT * self._seconds + interval) / (_KEPT * self._answers + 1)
