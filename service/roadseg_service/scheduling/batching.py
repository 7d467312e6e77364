"""The device's threads: one batch at a time in each, and nothing that happens in one ends the next."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from roadseg.errors import EngineError, ImageSizeError
from roadseg.inference.result import SegmentationResult
from roadseg_service.problems import DRAINING, INVALID_UPLOAD, PREDICTION_FAILED, ProblemError
from roadseg_service.scheduling.device_watch import DeviceWatch
from roadseg_service.scheduling.frames import forget_frames
from roadseg_service.scheduling.jobs import Bucket, Job, JobQueue
from roadseg_service.scheduling.memory import is_out_of_memory, out_of_memory

log = logging.getLogger("roadseg.service")

CPU_BATCH, DEVICE_BATCH = 1, 8
"""Images that run together where the settings do not say: on a CPU a batch only makes its first image wait for its
last."""

_REMEMBERED = 1000
"""Buckets whose largest batch is remembered; clients choose the sizes, and could choose ever more of them."""

Observe = Callable[[Sequence[Job], float], None]
"""Takes the jobs that ran together and the seconds that they took."""


class Batcher:
    """Gives the device one batch at a time, each stream of the engine a thread of its own.

    More batches at once would take turns, and the memory of all of them. Most engines have one stream.

    The oldest job runs next, together with others like it, whichever came between. A job that was cancelled or whose
    deadline has passed is dropped before it runs. A batch that fails is halved until the jobs that fail fail alone; one
    that the memory does not hold is halved, too, and later batches of such images are no larger.

    Args:
        max_batch: most images that run together; None leaves it to the device. Engines that run images one by one get
            them one by one.
        wait_s: how long the oldest job waits for others like it, unless others already fill a batch.
        observe: called in a device's thread after every batch that ran, whatever became of it, with all jobs that
            were in it (each has its `queue_s`, `network_s` and `result`) and the seconds that it took, with all that
            was repeated in parts. It must not keep the jobs, which have the images. What it raises is logged.
        watch: told of every forward pass; health checks ask it.
    """

    def __init__(
        self,
        max_batch: int | None = None,
        wait_s: float = 0.0,
        observe: Observe | None = None,
        watch: DeviceWatch | None = None,
    ) -> None:
        """Begin without threads, which the first jobs start."""
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._observe = observe
        self._watch = watch or DeviceWatch()
        self._fits: dict[Bucket, int] = {}
        self._jobs = JobQueue()
        self._closed = False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._running: list[int] = []  # of each batch, the streams of its engine

    async def predict(self, job: Job) -> SegmentationResult:
        """The result of a job; cancelling the call drops a job that has not begun.

        Raises:
            ProblemError: prediction-failed, out-of-memory or invalid-upload; draining, when the service ends before the
                job began.
            TimeoutError: when the job's deadline passed before it began.
        """
        try:
            self._add(job)
            return await asyncio.wrap_future(job.result)
        finally:
            with self._changed:
                self._jobs.discard(job)
            job.result.cancel()  # unless it runs or has run

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return len(self._jobs)

    def close(self) -> None:
        """Drop what has not begun, without waiting for what has."""
        with self._changed:
            self._closed = True
            dropped = self._jobs.clear()
            self._changed.notify_all()
        for job in dropped:
            job.fail(stopping())

    def _add(self, job: Job) -> None:
        with self._changed:
            if self._closed:
                job.fail(stopping())
                return
            self._jobs.add(job)
            self._changed.notify()
            if len(self._threads) < job.predictor.engine.streams:
                self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="roadseg-network", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more of them
            if not self._threads:
                raise
            return
        self._threads.append(thread)

    def _work(self) -> None:
        while not self._closed:
            try:
                self._run_next()  # whose variables, and with them the images, do not outlive it
            except BaseException as error:  # a failing request must not end the thread that all others need
                forget_frames(error)
                with suppress(Exception):
                    log.error("unexpected error in the network's thread, which goes on", exc_info=error)
                time.sleep(0.01)  # should it be for good, it does not take the whole machine

    def _run_next(self) -> None:
        taken = self._take()
        if not taken:
            return
        began, streams, batch = time.monotonic(), taken[0].predictor.engine.streams, []
        try:
            batch = [job for job in taken if _begin(job)]
            if batch:
                _note_begin(batch, began)
                self._run(batch)
                _fail_rest(batch)
                if self._observe is not None:
                    self._observe(tuple(batch), time.monotonic() - began)
        finally:
            _fail_rest(taken)
            # An error that was raised below has this frame in reach, and may live longer than the images should.
            batch.clear()
            taken.clear()
            with self._changed:
                self._running.remove(streams)
                self._changed.notify_all()  # those that wait for a stream

    def _take(self) -> list[Job]:
        """Jobs to run together; none where it is to be called again."""
        with self._changed:
            oldest = self._jobs.oldest
            if oldest is not None and not self._has_stream(oldest):
                self._changed.wait()
                return []
            jobs, patience_s = self._jobs.next(self._largest, self._wait_s)
            if not jobs and not self._closed:
                self._changed.wait(None if patience_s == float("inf") else patience_s)
                return []
            if jobs:
                self._running.append(jobs[0].predictor.engine.streams)
            return jobs

    def _has_stream(self, job: Job) -> bool:
        """Whether one more batch may run; while a model takes another's place, the fewer streams of the two count."""
        return len(self._running) < min([job.predictor.engine.streams, *self._running])

    def _largest(self, job: Job) -> int:
        """How many images like this one may run together."""
        if not job.predictor.engine.batches:
            return 1
        asked = self._max_batch
        if asked is None:
            asked = CPU_BATCH if job.predictor.engine.device == "cpu" else DEVICE_BATCH
        return min(asked, self._fits.get(job.bucket, asked))

    def _run(self, jobs: Sequence[Job]) -> None:
        """Run jobs together, and in halves where that fails."""
        parts = deque([list(jobs)])
        while parts:
            self._run_first(parts)

    def _run_first(self, parts: deque[list[Job]]) -> None:
        """Run the first part, or put what is to be tried in its place."""
        part = [job for job in parts.popleft() if not _expired(job)]
        error: BaseException | None = None
        try:
            most = self._largest(part[0]) if part else 0
            if len(part) > most:
                parts.extendleft([part[most:], part[:most]])
                return
            error = self._watched(part) if part else None
            if error is None:
                return
            forget_frames(error)
            if len(part) == 1:
                part[0].fail(_explain(error, part[0]))
                return
            half = len(part) // 2
            if is_out_of_memory(error):
                self._remember(part[0].bucket, half)
            parts.extendleft([part[half:], part[:half]])
        finally:
            part.clear()  # as in `_run_next`
            error = None

    def _watched(self, jobs: Sequence[Job]) -> BaseException | None:
        """Run jobs together; gives the error, if any."""
        self._watch.began()
        error = _attempt(jobs)
        try:
            self._watch.ended(jobs, error)
            return error
        finally:
            error = None  # its frames have the images

    def _remember(self, bucket: Bucket, fits: int) -> None:
        with self._changed:
            if len(self._fits) >= _REMEMBERED:
                self._fits.pop(next(iter(self._fits)))
            self._fits[bucket] = min(fits, self._fits.get(bucket, fits))


def _note_begin(jobs: Sequence[Job], began: float) -> None:
    for job in jobs:
        job.began = began


def _fail_rest(jobs: Sequence[Job]) -> None:
    """Give an outcome to jobs that have none, whatever went wrong."""
    for job in jobs:
        job.fail(ProblemError(PREDICTION_FAILED, "the server failed on this image; its log has the details"))


def _begin(job: Job) -> bool:
    """Whether somebody still waits for a job, which then can no longer be cancelled."""
    return not _expired(job) and job.result.set_running_or_notify_cancel()


def _expired(job: Job) -> bool:
    """Whether a job's deadline has passed, which then is its outcome; its request ends by itself at the same time."""
    if job.deadline > time.monotonic():
        return False
    job.fail(TimeoutError("the deadline passed before the network ran"))
    return True


def _attempt(jobs: Sequence[Job]) -> BaseException | None:
    """Run jobs together; gives the error, if any, so that its traceback ends here and keeps nothing alive."""
    first = jobs[0]
    try:
        results = first.predictor.batch([job.image for job in jobs], confidence=first.confidence, options=first.options)
        if len(results) != len(jobs):
            raise EngineError(f"{len(results)} results for {len(jobs)} images")
    except BaseException as error:  # some runtimes' panics are no `Exception`
        return error
    for job, result in zip(jobs, results, strict=True):
        job.succeed(result)
    return None


def _explain(error: BaseException, job: Job) -> ProblemError:
    height, width = job.size
    if isinstance(error, ImageSizeError):
        problem = ProblemError(INVALID_UPLOAD, str(error))
    elif is_out_of_memory(error):
        problem = out_of_memory(f"segmenting an image of {width}x{height} pixels")
    else:
        problem = ProblemError(
            PREDICTION_FAILED,
            f"the model failed on this image of {width}x{height} pixels; the server's log has the details under this "
            "problem's instance",
        )
    problem.__cause__ = error
    return problem


def stopping() -> ProblemError:
    """The problem of what had not begun when the service ended."""
    return ProblemError(
        DRAINING, "this server stopped before the image's turn came; send it again", {"Retry-After": "1"}
    )
