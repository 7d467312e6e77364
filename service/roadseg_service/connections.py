"""How many connections are open, and which one gives way when all places are taken."""

import logging
from collections import Counter
from typing import Protocol

from roadseg_service.observing.seldom import Seldom

log = logging.getLogger("roadseg.service")


class Connection(Protocol):
    """What `Connections` asks of a connection."""

    client: tuple[str, int] | None

    def give_way(self) -> None:
        """End at once."""


class Connections:
    """The connections of one server.

    One more than may be open takes the place of the one that has been idle for longest, so that nobody keeps others out
    by connecting and doing nothing. Where every one is busy, the new one is refused.

    Args:
        most: how many may be open.

    Attributes:
        evicted: how many have given way.
        refused: how many were closed as all others were busy.
    """

    def __init__(self, most: int) -> None:
        """Begin without any."""
        self.most = most
        self.evicted = 0
        self.refused = 0
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # in the order of becoming so
        self._warn = Seldom()

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._open)

    def take(self, new: Connection) -> bool:
        """Whether a new one may stay; it is idle at first."""
        if len(self._open) >= self.most:
            self._tell_full()
            if not self._idle:
                self.refused += 1
                return False
            longest = next(iter(self._idle))
            self.lost(longest)
            self.evicted += 1
            longest.give_way()
        self._open.add(new)
        self._idle[new] = None
        return True

    def note(self, connection: Connection, *, busy: bool) -> None:
        """Note whether a connection's client waits for an answer or fetches one; bytes alone make it no less idle."""
        if busy:
            self._idle.pop(connection, None)
        elif connection in self._open:
            self._idle.setdefault(connection)

    def lost(self, connection: Connection) -> None:
        """Forget one that has ended."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _tell_full(self) -> None:
        if not self._warn():
            return
        addresses = Counter(connection.client[0] for connection in self._open if connection.client)
        address, count = addresses.most_common(1)[0] if addresses else ("?", 0)
        log.warning(
            "all %d connections are taken, %d of them idle; %d are of %s; an idle one gives way to each new one "
            "(so far %d; refused %d)",
            self.most,
            len(self._idle),
            count,
            address,
            self.evicted,
            self.refused,
        )
