"""What a client does to the world outside, as values: one core decides, and a client with or without asyncio does it.

An exchange is a generator. It yields `Send` and is given what came of it, or yields `Wait` and is given None.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Request:
    """A request, less what is the same for all of a client.

    Attributes:
        method: of HTTP.
        path: below the service's URL.
        params: the query string.
        headers: of this request.
        body: what is sent.
        about: what it is about, for messages.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    about: str = ""


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        status: of HTTP.
        headers: by name, in whatever case.
        body: without content coding.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Failure:
    """No answer came.

    Attributes:
        reason: why.
        passing: whether it may be otherwise the next time.
    """

    reason: str
    passing: bool


@dataclass(frozen=True)
class Send:
    """Send a request.

    Attributes:
        request: what to send.
        timeout_s: for connecting, and for each wait on the network after that.
    """

    request: Request
    timeout_s: float


@dataclass(frozen=True)
class Wait:
    """Do nothing for a while.

    Attributes:
        seconds: how long.
    """

    seconds: float


@dataclass(frozen=True)
class Done(Generic[Value]):
    """An exchange has ended.

    Attributes:
        value: what it gave.
    """

    value: Value


Outcome = Reply | Failure | None
Step = Send | Wait
Exchange = Generator[Step, Outcome, Value]


def advance(exchange: Exchange[Value], outcome: Outcome) -> Step | Done[Value]:
    """Go on with an exchange; for a worker thread, too, where a StopIteration could not leave a coroutine.

    Args:
        exchange: what to go on with.
        outcome: of its last step; None for the first.
    """
    try:
        return exchange.send(outcome)
    except StopIteration as end:
        return Done(end.value)
