"""The request that is being served: its id, and what is noted of it on the way to its answer."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

from roadseg_service.scheduling.phases import Phases, PhaseTimes

HEADER = "X-Request-ID"

_NAME = HEADER.lower().encode()
_TAKEN = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class PhaseObserver(Protocol):
    """Told of a phase once it has ended."""

    def __call__(self, phase: str, seconds: float, ended: float) -> None:
        """Take a phase's name, its seconds, and when it ended on `time.monotonic`'s clock."""


@dataclass(eq=False)
class Observed:
    """What is known of a request so far; everything that serves it may add to it.

    Attributes:
        request_id: the client's, else made here.
        observers: told of each phase as it ends.
        phases: when its steps ran.
        problem: slug of the problem that it was answered with.
        status: HTTP status of that problem.
        instance: identifier of that problem's occurrence.
        file_problems: slugs of the problems of single files, in an answer to several.
        trace_id: of the trace that it belongs to, in hexadecimal; empty where nothing is traced.
    """

    request_id: str
    observers: list[PhaseObserver] = field(default_factory=list)
    phases: PhaseTimes = field(default_factory=PhaseTimes)
    problem: str | None = None
    status: int = 0
    instance: str | None = None
    file_problems: list[str] = field(default_factory=list)
    trace_id: str = ""

    def observe(self, phase: str, seconds: float, ended: float) -> None:
        """Note a phase."""
        self.phases.add(phase, seconds, ended)
        for observer in self.observers:
            observer(phase, seconds, ended)


_CURRENT: ContextVar[Observed | None] = ContextVar("roadseg_observed", default=None)


def current() -> Observed | None:
    """The request that this task or thread works for, if any."""
    return _CURRENT.get()


@contextmanager
def serving(observed: Observed) -> Iterator[None]:
    """Make a request the current one inside, and in tasks that begin there.

    Threads do not see it by themselves: what is handed to one for a request is run in a copy of the context.
    """
    token = _CURRENT.set(observed)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def observed_phases() -> Phases:
    """A new clock of steps for the current request; metrics, log and trace are told of each step."""
    observed = current()
    return Phases(None if observed is None else observed.observe)


def note_problem(slug: str, status: int, instance: str) -> str | None:
    """Note what problem the current request is answered with.

    Returns:
        The request's id; None outside a request.
    """
    observed = current()
    if observed is None:
        return None
    observed.problem, observed.status, observed.instance = slug, status, instance
    return observed.request_id


def note_file_problem(slug: str) -> None:
    """Note the problem of one file of the current request, which is answered as a whole all the same."""
    observed = current()
    if observed is not None:
        observed.file_problems.append(slug)


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's request id, or a new one where it gave none that can be taken.

    An id goes into logs, into headers, and on to other services: only one of 1..128 letters, digits, `.`, `_` and `-`
    is taken, and none where several are given.
    """
    given = [value for name, value in headers if name.lower() == _NAME]
    if len(given) == 1 and _TAKEN.fullmatch(given[0]):
        return given[0].decode("ascii")
    return uuid4().hex
