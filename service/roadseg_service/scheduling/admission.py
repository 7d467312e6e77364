"""Which requests are taken: bounded by their number, by the memory they hold, and by when they would be done."""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from roadseg_service.problems import CLIENT_CLOSED, QUEUE_FULL, ProblemError
from roadseg_service.scheduling.load import LoadMeter

MAX_RETRY_AFTER_S = 60

PROMISED_SHARE = 0.5
"""Of the deadline that waiting may take as far as was measured; the rest is for times in which all takes longer. A
longer queue would make nothing faster."""

UPLOAD_SHARE = 0.5
"""Of the memory that uploads which are not whole may hold together: they last as long as their clients like."""


class Ticket:
    """What one request holds, from its headers until its answer. Any thread may use it.

    Args:
        admission: whose bounds it counts against.
    """

    def __init__(self, admission: "Admission", part: bool = False) -> None:
        """Hold nothing yet."""
        self._admission = admission
        self._is_part = part
        self._users = 1
        self._ended = False
        self.held_bytes = 0
        self.places = 0
        self.deadline = math.inf

    def hold(self, count: int) -> None:
        """Count memory that the request takes from now on.

        Raises:
            ProblemError: queue-full, when all requests together would hold too much, or all uploads that are not whole;
                client-closed, when the request has ended, which a thread that works for it learns here.
        """
        self._admission._hold(self, count)

    def whole(self) -> None:
        """The whole upload is here: what it holds no longer counts against the share of those that are not."""
        self._admission._whole(self)

    def accept(self, places: int = 1) -> None:
        """Take places, now that the whole upload is here; the request's time runs from now.

        Args:
            places: one for each image of the request.

        Raises:
            ProblemError: queue-full, when there are not as many, or the wait would outlast the deadline.
        """
        self._admission._accept(self, places)

    def keep_until(self, step: "Future[Any]") -> None:
        """Go on counting what is held until a step is done: ending the request does not end what runs for it."""
        self._admission._use(self)
        step.add_done_callback(lambda _: self._admission._release(self))

    @contextmanager
    def part(self) -> Iterator["Ticket"]:
        """A ticket for one image of several, with their deadline: what it holds is given back when that image is done.

        It has no place of its own; the request took the places of all its images.
        """
        part = self._admission._part_of(self)
        try:
            yield part
        finally:
            self._admission._give_back(part)

    def remaining_s(self) -> float:
        """Seconds until the deadline; infinite before there is one, negative after it."""
        return self.deadline - self._admission.clock()


class Admission:
    """Counts the requests of a service and what they hold.

    An upload takes no place before it is whole: clients that send slowly, however many, hold nothing but the bytes
    that they sent, and of the memory half, so that whole uploads can still be decoded. What has a place is decoded as
    soon as a thread is free, and stays in memory until it is answered.

    Attributes:
        tickets: requests whose body is read or that have a place.
        accepted: places that are taken.
        held_bytes: what all requests hold.
        uploading_bytes: what those of them hold whose upload is not whole.
        refused: how many requests were refused, by what was short: "places", "time" or "memory". An image of several
            waits for memory instead, and is not counted.

    Args:
        max_requests: places.
        max_bytes: of memory that uploads and decoded images hold together.
        deadline_s: seconds from a place to the answer.
        clock: seconds that only grow; deadlines are on it.
        upload_bytes: largest upload, which is let in whatever the share of uploads is.
        upload_s: seconds after which an upload that is not whole ends.
        on_idle: called when nothing is left to do, with the most bytes that were held since it was the last time.
    """

    def __init__(
        self,
        max_requests: int,
        max_bytes: int,
        deadline_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        upload_bytes: int = 0,
        upload_s: float = math.inf,
        on_idle: Callable[[int], None] = lambda peak_bytes: None,
    ) -> None:
        """Begin empty."""
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.deadline_s = deadline_s
        self.clock = clock
        self.tickets = 0
        self.accepted = 0
        self.held_bytes = 0
        self.uploading_bytes = 0
        self.max_uploading_bytes = max(int(UPLOAD_SHARE * max_bytes), upload_bytes)
        self.refused: Counter[str] = Counter()
        self._upload_s = upload_s
        self._on_idle = on_idle
        self._peak_bytes = 0
        self._uploads: dict[Ticket, float] = {}  # when each began, the oldest first
        self._load = LoadMeter(clock)
        self._lock = threading.RLock()

    @contextmanager
    def ticket(self) -> Iterator[Ticket]:
        """A request's ticket; to be taken before its body is read, and given back with all that it holds.

        Raises:
            ProblemError: queue-full, when a place cannot be had now, so that the body is not sent in vain.
        """
        with self._lock:
            self._refuse_full(1)
            ticket = Ticket(self)
            self.tickets += 1
            self._uploads[ticket] = self.clock()
        try:
            yield ticket
        finally:
            self._give_back(ticket)

    def answered(self) -> None:
        """An image's answer is ready, which measures the load."""
        with self._lock:
            self._load.answered()

    def retry_after_s(self) -> int:
        """Seconds after which the requests that have places now will be done, as far as was measured; at least 1."""
        with self._lock:
            return min(MAX_RETRY_AFTER_S, max(1, math.ceil(self._load.seconds_each * self.accepted)))

    def _part_of(self, whole: Ticket) -> Ticket:
        with self._lock:
            part = Ticket(self, part=True)
            part.deadline = whole.deadline
            self.tickets += 1
            return part

    def _accept(self, ticket: Ticket, places: int) -> None:
        with self._lock:
            self._refuse_full(places)
            self._whole(ticket)
            self._load.began(places)
            self.accepted += places
            ticket.places += places
            ticket.deadline = self.clock() + self.deadline_s

    def _hold(self, ticket: Ticket, count: int) -> None:
        with self._lock:
            if ticket._ended:
                raise ProblemError(CLIENT_CLOSED, "the request ended before its image was decoded")
            self._refuse_memory(ticket, count)
            self.held_bytes += count
            self._peak_bytes = max(self._peak_bytes, self.held_bytes)
            ticket.held_bytes += count
            if ticket in self._uploads:
                self.uploading_bytes += count

    def _whole(self, ticket: Ticket) -> None:
        with self._lock:
            if self._uploads.pop(ticket, None) is not None:
                self.uploading_bytes -= ticket.held_bytes

    def _use(self, ticket: Ticket) -> None:
        with self._lock:
            ticket._users += 1

    def _release(self, ticket: Ticket) -> None:
        with self._lock:
            ticket._users -= 1
            if ticket._users == 0:
                self.held_bytes -= ticket.held_bytes
            if self.held_bytes == self.tickets == 0:
                self._on_idle(self._peak_bytes)
                self._peak_bytes = 0

    def _give_back(self, ticket: Ticket) -> None:
        with self._lock:
            self._whole(ticket)
            ticket._ended = True
            self.tickets -= 1
            self.accepted -= ticket.places
            self._load.ended(ticket.places)
            self._release(ticket)

    def _refuse_full(self, places: int) -> None:
        taken = f"{self.accepted} requests are being served or waiting"
        if self.accepted + places > self.max_requests:
            raise self._full("places", f"{taken}, of at most {self.max_requests}")
        wait_s = self._load.seconds_each * (self.accepted + places)
        # One that finds nobody before it is taken whatever was measured, or nothing would ever be measured again.
        if self.accepted and wait_s > PROMISED_SHARE * self.deadline_s:
            raise self._full(
                "time",
                f"{taken}, so that the answer would take about {wait_s:.1f} s, and it may take {self.deadline_s:g} s",
            )

    def _refuse_memory(self, ticket: Ticket, count: int) -> None:
        needed = f"this request needs {count} bytes of memory and"
        if ticket in self._uploads and self.uploading_bytes + count > self.max_uploading_bytes:
            raise self._full(
                "memory",
                f"{needed} uploads that are not whole hold {self.uploading_bytes} of the {self.max_uploading_bytes} "
                "that they may hold together",
                self._uploads_last_s(),
            )
        if self.held_bytes + count > self.max_bytes:
            raise self._full(
                None if ticket._is_part else "memory",
                f"{needed} requests hold {self.held_bytes} of the {self.max_bytes} that they may hold together",
            )

    def _uploads_last_s(self) -> float:
        """Seconds for which the oldest upload may go on: as long as it has lasted, as far as that is allowed."""
        age_s = self.clock() - next(iter(self._uploads.values()))
        return min(age_s, self._upload_s - age_s)

    def _full(self, short: str | None, what: str, least_s: float = 0.0) -> ProblemError:
        """The refusal, counted by what is short, if anything; it asks to wait for at least so many seconds."""
        if short is not None:
            self.refused[short] += 1
        retry_after_s = min(MAX_RETRY_AFTER_S, max(self.retry_after_s(), math.ceil(least_s)))
        return ProblemError(QUEUE_FULL, f"{what}; try again in {retry_after_s} s", {"Retry-After": str(retry_after_s)})
