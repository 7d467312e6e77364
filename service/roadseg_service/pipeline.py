"""From an upload to an answer, off the event loop and within bounded memory."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from roadseg.images import DecodedImage
from roadseg.inference.predictor import Predictor
from roadseg.inference.result import SegmentationResult
from roadseg_service.problems import OUT_OF_MEMORY, PREDICTION_FAILED, QUEUE_FULL, ProblemError
from roadseg_service.settings import ServiceSettings

RETRY_AFTER_S = 1

_T = TypeVar("_T")


class Pipeline:
    """Runs decoding and encoding in a few threads, and the network in one.

    One thread for the network, because there is one device: two forward passes at once would take turns on it, and
    need twice the memory. Compressed uploads wait in a queue of `max_queued`; of these, `max_decoded` at once hold
    pixels, which are ten times as large.

    Args:
        settings: the bounds.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        """Make the threads; they start with the first work."""
        self.network = ThreadPoolExecutor(1, "roadseg-network")
        self._codec = ThreadPoolExecutor(settings.codec_threads, "roadseg-codec")
        self._decoded = asyncio.Semaphore(settings.max_decoded)
        self._max_queued = settings.max_queued
        self._admitted = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place in the queue; to be entered before the body is read.

        Raises:
            ProblemError: queue-full, when all places are taken.
        """
        if self._admitted >= self._max_queued:
            raise ProblemError(
                QUEUE_FULL,
                f"{self._admitted} requests are being served or waiting, which is the limit; try again later",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    @property
    def admitted(self) -> int:
        """Requests that hold a place now."""
        return self._admitted

    async def run(
        self,
        decode: Callable[[], DecodedImage],
        predictor: Predictor,
        encode: Callable[[DecodedImage, SegmentationResult], _T],
    ) -> _T:
        """Decode, predict and encode, each in its threads; cancelling drops the steps that have not begun.

        Raises:
            ProblemError: what `decode` raises; prediction-failed or out-of-memory.
        """
        async with self._decoded:
            with _memory_errors("decoding the image"):
                image = await _in(self._codec, decode)
            result = await _in(self.network, lambda: _predict(predictor, image))
            with _memory_errors("encoding the answer"):
                return await _in(self._codec, lambda: encode(image, result))

    def close(self) -> None:
        """Drop what has not begun, without waiting for what has."""
        for executor in (self.network, self._codec):
            executor.shutdown(wait=False, cancel_futures=True)


async def _in(executor: Executor, step: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(executor, step)


def _predict(predictor: Predictor, image: DecodedImage) -> SegmentationResult:
    height, width = image.pixels.shape[:2]
    try:
        return predictor(image)
    except Exception as error:
        # Each runtime has its own class for a full device, and the service knows none of them.
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            raise _out_of_memory(f"segmenting an image of {width}x{height} pixels") from error
        raise ProblemError(
            PREDICTION_FAILED,
            f"the model failed on this image of {width}x{height} pixels; the server's log has the details under this "
            "problem's instance",
        ) from error


@contextmanager
def _memory_errors(step: str) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise _out_of_memory(step) from error


def _out_of_memory(step: str) -> ProblemError:
    return ProblemError(
        OUT_OF_MEMORY,
        f"memory ran out while {step}; try again when the server is less busy, or send a smaller image",
        {"Retry-After": str(RETRY_AFTER_S)},
    )
