"""The few highest of many, in memory that does not grow."""

import heapq
import math


class Highest:
    """The frames of the highest values; of equal ones the first.

    Args:
        count: how many are kept.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[tuple[float, int]] = []  # (value, -frame), the lowest on top

    def offer(self, value: float, frame: int) -> None:
        """Keep a frame if its value is high enough; NaN never is."""
        if math.isnan(value) or self._count < 1:
            return
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, (value, -frame))
        else:
            heapq.heappushpop(self._heap, (value, -frame))

    def ordered(self) -> list[tuple[int, float]]:
        """(frame, value), from the highest value down."""
        return [(-frame, value) for value, frame in sorted(self._heap, reverse=True)]
