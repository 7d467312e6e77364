"""From an upload to an answer, off the event loop and within bounded memory and time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from roadseg.images import DecodedImage
from roadseg.inference.options import InferenceOptions
from roadseg.inference.predictor import Predictor
from roadseg.inference.result import SegmentationResult
from roadseg_service.problems import DEADLINE_EXCEEDED, ProblemError
from roadseg_service.scheduling.admission import Admission, Ticket
from roadseg_service.scheduling.batching import Batcher, stopping
from roadseg_service.scheduling.batching import Observe as ObserveBatch
from roadseg_service.scheduling.device_watch import DeviceWatch
from roadseg_service.scheduling.giving_back import WORTH_BYTES, give_back_freed
from roadseg_service.scheduling.jobs import Job
from roadseg_service.scheduling.memory import memory_errors
from roadseg_service.scheduling.phases import Phases
from roadseg_service.settings import ServiceSettings

_T = TypeVar("_T")


@dataclass(frozen=True)
class Work(Generic[_T]):
    """What is done for one accepted request.

    Attributes:
        decode: gives the image; called in a thread, it counts on the ticket what it takes before it takes it.
        predictor: what segments it.
        encode: gives the answer; called in a thread.
        confidence: whether the confidence is wanted.
        options: of the inference, in place of the predictor's own.
    """

    decode: Callable[[], DecodedImage]
    predictor: Predictor
    encode: Callable[[DecodedImage, SegmentationResult], _T]
    confidence: bool = False
    options: InferenceOptions | None = None


class Pipeline:
    """Decodes, segments and encodes in threads of their own; see `Admission` and `Batcher` for its bounds.

    Args:
        settings: the bounds.
        observe_batch: told of every batch that the network ran, in its thread; see `Batcher`.
    """

    def __init__(self, settings: ServiceSettings, observe_batch: ObserveBatch | None = None) -> None:
        """Make the threads; they start with the first work."""
        self.admission = Admission(
            settings.max_queued,
            settings.max_held_bytes,
            settings.deadline_s,
            upload_bytes=settings.max_body_bytes,
            upload_s=settings.upload_timeout_s,
            on_idle=self._idle,
        )
        self.watch = DeviceWatch(settings.deadline_s)
        self.batcher = Batcher(settings.max_batch, settings.batch_wait_ms / 1000, observe_batch, self.watch)
        # Two pools: answers that are nearly done do not queue behind uploads that have just come.
        self._decoders = ThreadPoolExecutor(settings.codec_threads, "roadseg-decode")
        self._encoders = ThreadPoolExecutor(settings.codec_threads, "roadseg-encode")

    async def run(self, work: Work[_T], ticket: Ticket, phases: Phases) -> _T:
        """Decode, segment and encode; cancelling drops the steps that have not begun.

        What the request holds stays counted until the last step of it has ended, which a step that has begun does in
        its own time, whether or not the request waits for it.

        Args:
            work: what to do; a request that accepted several places may run several, at once or one by one.
            ticket: the request's, accepted.
            phases: get the time of each step: "decode", "queue" (waiting for the device), "network" and "encode"; a
                request that ends early has those that it came to.

        Raises:
            ProblemError: what `decode` raises; prediction-failed, out-of-memory, deadline-exceeded, or draining.
        """
        try:
            async with asyncio.timeout(ticket.remaining_s()):
                with phases.measure("decode"), memory_errors("decoding the image"):
                    image = await _in(self._decoders, work.decode, ticket)
                result = await self._segment(work, image, ticket, phases)
                with phases.measure("encode"), memory_errors("encoding the answer"):
                    answer = await _in(self._encoders, partial(work.encode, image, result), ticket)
        except TimeoutError:
            # Without the cause, which is no error of the server's to be logged.
            raise self._too_late() from None
        self.admission.answered()
        return answer

    async def _segment(self, work: Work[_T], image: DecodedImage, ticket: Ticket, phases: Phases) -> SegmentationResult:
        job = Job(work.predictor, image, work.confidence, work.options, ticket.deadline)
        ticket.keep_until(job.result)
        try:
            return await self.batcher.predict(job)
        finally:
            phases.add("queue", job.queue_s, job.began)
            if job.began is not None:
                phases.add("network", job.network_s)

    def close(self) -> None:
        """Drop what has not begun, without waiting for what has."""
        self.batcher.close()
        for executor in (self._decoders, self._encoders):
            executor.shutdown(wait=False, cancel_futures=True)

    def _idle(self, peak_bytes: int) -> None:
        if peak_bytes >= WORTH_BYTES:
            with suppress(RuntimeError):  # the pool is closed
                self._encoders.submit(give_back_freed)  # it takes a moment, in which this thread may be needed

    def _too_late(self) -> ProblemError:
        retry_after_s = self.admission.retry_after_s()
        return ProblemError(
            DEADLINE_EXCEEDED,
            f"the answer was not ready within {self.admission.deadline_s:g} s; try again in {retry_after_s} s, or send "
            "a smaller image",
            {"Retry-After": str(retry_after_s)},
        )


async def _in(executor: Executor, step: Callable[[], _T], ticket: Ticket) -> _T:
    try:
        running = executor.submit(copy_context().run, step)  # so that logs tell the request
    except RuntimeError as error:  # the pools are closed
        raise stopping() from error
    ticket.keep_until(running)
    return await asyncio.wrap_future(running)
