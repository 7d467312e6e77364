"""Whether the device still does its work: the batcher tells what becomes of it, and the health checks ask."""

import logging
import threading
import time
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from roadseg.errors import ImageSizeError
from roadseg_service.problems import DEVICE_FAILING, ProblemError
from roadseg_service.scheduling.jobs import Job

log = logging.getLogger("roadseg.service")

MOST_FAILURES = 5
"""Images that may fail one after another before the device counts as failing: damaged ones fail by themselves, and
other requests succeed between them."""

REST_S = 30.0
"""After the last failure; then the device counts as working again, as nothing else tells when no work is sent here."""

_LATE, _HUNG = 2, 10  # times deadline_s
LEAST_HUNG_S = 300.0
"""Before a restart helps: compiling for a size that is new may take minutes."""


class DeviceWatch:
    """Follows what the device is given. Any thread may ask.

    The device counts as failing after different images have failed one after another, each alone and none succeeding in
    between; an image that is sent again and again counts once. It counts as late when one forward pass takes longer
    than two deadlines, and as hung after ten, or five minutes if that is more.

    Args:
        deadline_s: how long an answer may take.
        clock: seconds that only grow.
    """

    def __init__(self, deadline_s: float = float("inf"), clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without work."""
        self._late_s = _LATE * deadline_s
        self._hung_s = max(_HUNG * deadline_s, LEAST_HUNG_S)
        self._clock = clock
        self._began: dict[int, float] = {}
        self._failed: set[tuple[object, ...]] = set()
        self._last_failure = 0.0
        self._lock = threading.Lock()

    @property
    def age_s(self) -> float:
        """Seconds for which the pass that runs has run, of several the oldest; 0 where none does."""
        with self._lock:
            began = min(self._began.values(), default=None)
        return 0.0 if began is None else self._clock() - began

    @property
    def hung(self) -> bool:
        """Whether only a restart helps."""
        return self.age_s > self._hung_s

    @property
    def trouble(self) -> str | None:
        """What is wrong with the device; None where nothing is."""
        age_s = self.age_s
        if age_s > self._late_s:
            return f"the device has worked on one batch for {age_s:.0f} s; restart the service if that goes on"
        with self._lock:
            failing = len(self._failed) >= MOST_FAILURES and self._clock() < self._last_failure + REST_S
        if failing:
            return f"the last {MOST_FAILURES} images or more all failed on the device; the server's log says why"
        return None

    def check(self) -> None:
        """Be silent where the device works.

        Raises:
            ProblemError: device-failing.
        """
        if trouble := self.trouble:
            raise ProblemError(DEVICE_FAILING, trouble)

    def began(self) -> None:
        """A forward pass begins in this thread, which runs one at a time."""
        with self._lock:
            self._began[threading.get_ident()] = self._clock()

    def ended(self, jobs: Sequence[Job], error: BaseException | None) -> None:
        """This thread's pass is over; several images that failed together are tried apart, and say nothing yet.

        Args:
            jobs: that were in it.
            error: what came of it, if not their results.
        """
        with self._lock:
            self._began.pop(threading.get_ident(), None)
        if error is None:
            with self._lock:
                self._failed.clear()
        elif len(jobs) == 1 and not isinstance(error, ImageSizeError):  # which is the image's fault
            self._note_failure(jobs[0])

    def _note_failure(self, job: Job) -> None:
        image = job.size, zlib.crc32(np.ascontiguousarray(job.image.pixels).data)
        with self._lock:
            before = len(self._failed)
            if before < MOST_FAILURES:
                self._failed.add(image)
            self._last_failure = self._clock()
            begins = before < len(self._failed) == MOST_FAILURES
        if begins:
            log.error("%d images failed on the device one after another; not ready until one succeeds", MOST_FAILURES)
