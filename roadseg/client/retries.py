"""When a request is sent again, and after how long."""

import math
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from roadseg.client.wire import Failure, Reply
from roadseg.errors import ConfigError

RETRIED_STATUSES = frozenset({429, 503, 504})
"""Full; loading, draining or out of memory; too slow. Every other status would be the same again."""

_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Clock:
    """Where time and chance come from.

    Attributes:
        monotonic: gives seconds.
        now: gives Unix time, for dates in answers without a Date.
        share: gives a random number from 0 to 1.
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    share: Callable[[], float] = random.random


REAL_CLOCK = Clock()


@dataclass(frozen=True)
class Retries:
    """How patient a client is. Segmenting changes nothing in the service, so that it may be asked for again.

    Attributes:
        most: requests after the first one.
        deadline_s: for a call with all its requests and waits; nothing is begun after it.
        timeout_s: for connecting, and for each wait on the network after that.
        first_wait_s: upper bound of the wait before the first retry; it doubles with each.
        longest_wait_s: where that ends.
        clock: where time and chance come from.

    Raises:
        ConfigError: when a number cannot work.
    """

    most: int = 5
    deadline_s: float = 300.0
    timeout_s: float = 60.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    clock: Clock = REAL_CLOCK

    def __post_init__(self) -> None:
        """Check the numbers."""
        if type(self.most) is not int or self.most < 0:
            raise ConfigError(f"retries is {self.most!r}; use a whole number from 0")
        for name in ("deadline_s", "timeout_s", "first_wait_s", "longest_wait_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigError(f"{name} is {value!r}; use a number of seconds above 0")


class Tries:
    """The requests of one call.

    Args:
        policy: how patient to be.
    """

    def __init__(self, policy: Retries) -> None:
        self._policy = policy
        self._ends = policy.clock.monotonic() + policy.deadline_s
        self._retries = 0

    @property
    def timeout_s(self) -> float:
        """Of the next request: what is left of the deadline, if that is less than usual."""
        return max(0.001, min(self._policy.timeout_s, self._ends - self._policy.clock.monotonic()))

    def wait_s(self, outcome: Reply | Failure) -> float | None:
        """How long to wait before the request is sent again; None when it is not.

        As long as the answer's Retry-After says, and a random time beside it ("full jitter"), whose bound doubles from
        one retry to the next: clients that were refused together do not come back together.

        Args:
            outcome: of the last request.
        """
        if not _may_pass(outcome):
            return None
        policy = self._policy
        asked = retry_after_s(outcome.headers, policy.clock.now()) if isinstance(outcome, Reply) else None
        bound = min(policy.longest_wait_s, policy.first_wait_s * 2.0 ** min(self._retries, 60))
        wait = (asked or 0.0) + bound * policy.clock.share()
        return wait if self._may_go_on(wait) else None

    def again(self) -> bool:
        """Whether there may be one more request, at once, as the model was swapped between two of a call."""
        return self._may_go_on(0.0)

    def told(self) -> str:
        """How much was tried, for messages."""
        policy = self._policy
        return f"after {self._retries} of {policy.most} retries within deadline_s={policy.deadline_s:g}"

    def _may_go_on(self, wait_s: float) -> bool:
        policy = self._policy
        if self._retries >= policy.most or policy.clock.monotonic() + wait_s >= self._ends:
            return False
        self._retries += 1
        return True


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """What an answer's Retry-After says, in seconds from now (RFC 9110, 10.2.3).

    A date is taken relative to the answer's own Date, where it has one: clocks differ.

    Args:
        headers: of the answer.
        now: Unix time.

    Returns:
        Seconds from 0; None without the header, or where it is neither a number nor a date.
    """
    value = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    then = _unix_time(value)
    if then is None:
        return None
    sent = _unix_time(headers.get("Date", ""))
    return max(0.0, then - (now if sent is None else sent))


def _may_pass(outcome: Reply | Failure) -> bool:
    return outcome.status in RETRIED_STATUSES if isinstance(outcome, Reply) else outcome.passing


def _unix_time(text: str) -> float | None:
    try:
        date: datetime = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
