"""How long each step of a request took."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

Observe = Callable[[str, float, float], None]
"""Takes a phase's name, its seconds, and when it ended on `time.monotonic`'s clock."""


class PhaseTimes:
    """When the steps of one request ran. Those of a batch's files run side by side: time counts once for a phase."""

    def __init__(self) -> None:
        """Begin with none."""
        self._spells: dict[str, list[tuple[float, float]]] = {}

    def add(self, phase: str, seconds: float, ended: float) -> None:
        """Add a step.

        Args:
            phase: its name.
            seconds: that it took.
            ended: when, on `time.monotonic`'s clock.
        """
        self._spells.setdefault(phase, []).append((ended - seconds, ended))

    def seconds(self) -> dict[str, float]:
        """How long a step of each phase was under way, in the order in which the first ones ended."""
        return {phase: _covered(spells) for phase, spells in self._spells.items()}


def _covered(spells: Iterable[tuple[float, float]]) -> float:
    covered, until = 0.0, float("-inf")
    for began, ended in sorted(spells):
        covered += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return covered


class Phases:
    """The steps of one request, in the order in which they ended.

    Args:
        observe: told of each step; for the metrics.
    """

    def __init__(self, observe: Observe | None = None) -> None:
        """Begin with none."""
        self._times = PhaseTimes()
        self._observe = observe

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Measure what is inside; also where it fails."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(phase, time.perf_counter() - began)

    def add(self, phase: str, seconds: float, ended: float | None = None) -> None:
        """Count seconds to a phase.

        Args:
            phase: its name.
            seconds: that it took.
            ended: when, on `time.monotonic`'s clock; None stands for now.
        """
        ended = time.monotonic() if ended is None else ended
        self._times.add(phase, seconds, ended)
        if self._observe is not None:
            self._observe(phase, seconds, ended)

    def server_timing(self) -> str:
        """Value of a Server-Timing header (W3C Server Timing): milliseconds by phase."""
        return ", ".join(f"{phase};dur={1000 * seconds:.1f}" for phase, seconds in self._times.seconds().items())
