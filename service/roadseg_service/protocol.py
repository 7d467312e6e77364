"""uvicorn's HTTP protocol, with deadlines for clients that are slow on purpose, and bounds on what they can hold."""

import asyncio
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from roadseg_service.connections import Connections
from roadseg_service.observing.seldom import Seldom
from roadseg_service.problems import BAD_REQUEST, HEADERS_TIMEOUT, HEADERS_TOO_LARGE, ProblemKind, problem_response
from roadseg_service.strict_http import StrictConnection, in_words

_QUOTED_CHARACTERS = 200


class Clock:
    """Calls something once it has run for some time.

    Args:
        loop: the event loop.
        late: what to call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, late: Callable[[], None]) -> None:
        """Stand still."""
        self._loop = loop
        self._late = late
        self._timer: asyncio.TimerHandle | None = None

    @property
    def due(self) -> float:
        """When it calls, on the loop's clock; infinite while it stands still."""
        return float("inf") if self._timer is None else self._timer.when()

    def run(self, seconds: float) -> None:
        """Run, unless it runs already."""
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._ring)

    def stop(self) -> None:
        """Stand still."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._late()


class GuardedProtocol(H11Protocol):
    """Closes connections whose client keeps the server waiting.

    uvicorn waits for ever for the first byte of a connection, for the end of headers that have begun, for the end of a
    body that was answered before its end, and for a client that does not fetch its answer. Bodies that are read have
    their deadline in `BodyLimit`. `guarded` makes a class with other bounds.

    Attributes:
        header_timeout_s: from the first byte of a request's headers, or the connection's begin, to their last.
        linger_s: how long what still comes is read and dropped after a refusal; closing at once would make many clients
            report a reset connection in place of it.
        fetch_timeout_s: how long bytes may wait for the client to fetch them.
        last_s: how long, once the server stops, connections stay open on which nothing is being answered: what their
            client was just sending is answered, and what it was just told is not lost by a reset.
        places: of the server's connections; shared by all.
        max_unfetched_bytes: of all connections together; over it, the one that has waited longest ends.
    """

    header_timeout_s = 10.0
    linger_s = 5.0
    fetch_timeout_s = 60.0
    last_s = 1.0
    places = Connections(1000)
    max_unfetched_bytes = 2**31

    _warn = Seldom()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As uvicorn does, with the strict parser in place of its own."""
        super().__init__(*args, **kwargs)
        self.conn = StrictConnection(h11.SERVER)
        self._refused = False
        self._headers_clock = Clock(self.loop, self._headers_late)
        self._linger_clock = Clock(self.loop, lambda: self.transport.abort())
        self._fetch_clock = Clock(self.loop, lambda: self.transport.abort())
        self._last_clock = Clock(self.loop, self._last)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where there is no place."""
        super().connection_made(transport)
        if not self.places.take(self):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=0)  # so that `pause_writing` tells of every byte that is not fetched
        self._headers_clock.run(self.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        for clock in (self._headers_clock, self._linger_clock, self._fetch_clock, self._last_clock):
            clock.stop()
        self.places.lost(self)
        super().connection_lost(exc)

    def give_way(self) -> None:
        """End at once, in favour of a new connection."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if self._refused:
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Look for the next request, which may have begun already."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Begin to wait for the client to fetch what was written."""
        super().pause_writing()
        self._fetch_clock.run(self.fetch_timeout_s)
        self._note()
        others: Any = self.connections
        waiting = [other for other in others if other._fetch_clock.due < float("inf")]
        if len(waiting) > 1 and (
            sum(other.transport.get_write_buffer_size() for other in waiting) > self.max_unfetched_bytes
        ):  # a single one may be as large as it is
            if GuardedProtocol._warn():
                self.logger.warning(
                    "more than %d bytes of answers are not fetched; closing a connection", self.max_unfetched_bytes
                )
            min(waiting, key=lambda other: other._fetch_clock.due).transport.abort()

    def resume_writing(self) -> None:
        """All was fetched."""
        super().resume_writing()
        self._fetch_clock.stop()
        self._note()

    def shutdown(self) -> None:
        """Close the connection once what is asked is answered, and soon where nothing is."""
        if self._answering:
            super().shutdown()
        else:
            self._last_clock.run(self.last_s)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, as a problem; where an answer has begun already, only close."""
        error = sys.exception()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()
        elif isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            self._refuse(HEADERS_TOO_LARGE, "the request's headers are too large; send fewer or shorter ones")
        else:
            self._refuse(
                BAD_REQUEST, f"this is not a valid HTTP request: {in_words(error or msg)[:_QUOTED_CHARACTERS]}"
            )

    def _should_upgrade(self) -> bool:
        """There is nothing to upgrade to: the header is ignored (RFC 9110, section 7.8), and not warned of."""
        return False

    @property
    def _answering(self) -> bool:
        """Whether there is a request whose answer is not written yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _note(self) -> None:
        """Say whether this connection may give way to another."""
        fetching = self._fetch_clock.due < float("inf")
        self.places.note(self, busy=fetching or (self._answering and not self._refused))

    def _watch(self) -> None:
        """Run the clocks of what the client has begun and not ended."""
        self._note()
        if self.transport.is_closing() or self._refused:
            return
        idle = self.conn.their_state is h11.IDLE
        if idle and self.conn.trailing_data[0]:
            self._unset_keepalive_if_required()  # which would close without an answer
            self._headers_clock.run(self.header_timeout_s)
        else:
            self._headers_clock.stop()
            if idle and self.timeout_keep_alive_task is None:  # after a body that was dropped uvicorn sets none
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
        if self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            self._linger_clock.run(self.linger_s)
        else:
            self._linger_clock.stop()

    def _last(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def _headers_late(self) -> None:
        if self.transport.is_closing():
            return
        if not self.conn.trailing_data[0]:
            self.transport.close()
            return
        seconds = f"{self.header_timeout_s:g} s"
        self._refuse(HEADERS_TIMEOUT, f"the request's headers did not arrive within {seconds}; send them faster")

    def _refuse(self, kind: ProblemKind, detail: str) -> None:
        """Answer what never became a request, and close once the client has had time to read it."""
        response = problem_response(kind, detail, headers={"Connection": "close"})
        reason = HTTPStatus(kind.status).phrase.encode()
        event = h11.Response(status_code=kind.status, headers=response.raw_headers, reason=reason)
        for part in (event, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        self._refused = True
        if self._answering:  # a request whose body turned out to be broken
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._headers_clock.stop()
        self._unset_keepalive_if_required()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._linger_clock.run(self.linger_s)
        self._note()


def guarded(**bounds: Any) -> type[GuardedProtocol]:
    """A protocol with these bounds, by the names of `GuardedProtocol`'s attributes."""
    return type("GuardedProtocol", (GuardedProtocol,), bounds)
