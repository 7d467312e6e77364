"""The client of a segmentation service, for asyncio."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from roadseg.client.core import Ask, Core
from roadseg.client.driver import Driver
from roadseg.client.items import Item, fatal, items
from roadseg.client.models import RemoteModel
from roadseg.client.own_thread import in_own_thread
from roadseg.client.retries import REAL_CLOCK, Clock, Retries
from roadseg.client.transport import check_open, failure_of, http_options, reply_of, request_options
from roadseg.client.window import checked_concurrency
from roadseg.client.wire import Done, Exchange, Outcome, Send, Value, advance
from roadseg.errors import RoadsegError
from roadseg.images import Orientation
from roadseg.inference.predictor import ImageSource
from roadseg.inference.result import SegmentationResult

if TYPE_CHECKING:
    from roadseg.inference.segmenting.run import Summary


class AsyncClient:
    """What `roadseg.client.Client` is, for asyncio. Images are read, decoded and encoded in threads.

    Args:
        url: as of `Client`.
        api_key: as of `Client`.
        timeout_s: as of `Client`.
        retries: as of `Client`.
        deadline_s: as of `Client`.
        sleep: waits so many seconds; for tests. By default time passes.
        clock: as of `Client`.
        transport: of httpx, as of `Client`.

    Raises:
        ConfigError: when the URL, the key or a number cannot work.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 5,
        deadline_s: float = 300.0,
        sleep: Callable[[float], Coroutine[Any, Any, object]] | None = None,
        clock: Clock = REAL_CLOCK,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._core = Core(url, api_key, Retries(retries, deadline_s, timeout_s, clock=clock))
        self._given_sleep = sleep
        self._http = httpx.AsyncClient(transport=transport, **http_options(self._core))

    def __repr__(self) -> str:
        """Where the service is."""
        return f"<AsyncClient of {self._core.url}>"

    async def __aenter__(self) -> "AsyncClient":
        """Close it at the end of an `async with` block."""
        return self

    async def __aexit__(self, *error: Any) -> None:
        """Close it."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def segment(
        self,
        image: ImageSource,
        *,
        confidence: bool = False,
        orientation: Orientation = "displayed",
        classes: Sequence[str | int] | None = None,
        min_confidence: float | None = None,
    ) -> SegmentationResult:
        """Segment one image; as `Client.segment`, with its arguments, result and errors."""
        return await self._drive(self._core.segment(image, Ask(confidence, orientation, classes, min_confidence)))

    async def models(self) -> list[RemoteModel]:
        """The models that the service answers with now; as `Client.models`."""
        return await self._drive(self._core.models())

    def segment_many(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        concurrency: int = 8,
        confidence: bool = False,
        orientation: Orientation = "displayed",
        classes: Sequence[str | int] | None = None,
        min_confidence: float | None = None,
    ) -> AsyncGenerator[tuple[Item, SegmentationResult | RoadsegError], None]:
        """Segment images, several at a time; as `Client.segment_many`, with its arguments, yields and errors.

        What is under way when the caller stops, by closing the iterator or by being cancelled, is cancelled.
        """
        ask = Ask(confidence, orientation, classes, min_confidence)
        return self._many(items(images), checked_concurrency(concurrency), ask)

    async def segment_folder(
        self,
        sources: str | Path | Sequence[str | Path],
        output: str | Path,
        *,
        concurrency: int = 8,
        orientation: Orientation = "displayed",
        min_confidence: float | None = None,
        overlay: bool = False,
        confidence: bool = False,
        resume: bool = False,
        overwrite: bool = False,
    ) -> "Summary":
        """Write the masks of folders of images; as `Client.segment_folder`, with its arguments, result and errors.

        When the task is cancelled, as by Ctrl-C, what is under way is finished and recorded, and the task ends then.
        Files are read and written in threads; the requests are this event loop's.
        """
        from roadseg.client.folder import segment_folder

        chosen = [sources] if isinstance(sources, str | Path) else list(sources)
        ask = Ask(confidence, orientation, None, min_confidence)
        driver = self._driver_for_threads()

        def work(stop: threading.Event) -> "Summary":
            return segment_folder(
                driver,
                chosen,
                output,
                ask,
                overlay=overlay,
                concurrency=concurrency,
                resume=resume,
                overwrite=overwrite,
                stop=stop,
            )

        return await in_own_thread(work)

    def _driver_for_threads(self) -> Driver:
        """Carries out exchanges in threads that wait for this loop to send their requests."""
        loop, sleep = asyncio.get_running_loop(), self._given_sleep

        def on_loop(coroutine: Coroutine[Any, Any, Value]) -> Value:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

        def send(step: Send) -> Outcome:
            return on_loop(self._send(step))

        # A wait of the thread's own ends when the run is stopped.
        return Driver(self._core, send, None if sleep is None else lambda seconds: on_loop(sleep(seconds)))

    async def _many(
        self, waiting: Iterator[Item], concurrency: int, ask: Ask
    ) -> AsyncGenerator[tuple[Item, SegmentationResult | RoadsegError], None]:
        held: dict[asyncio.Task[SegmentationResult], Item] = {}
        try:
            while True:
                for image in islice(waiting, concurrency - len(held)):
                    held[asyncio.create_task(self._drive(self._core.segment(image, ask)))] = image
                if not held:
                    return
                for task in (await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED))[0]:
                    error = task.exception()
                    if error is not None and fatal(error):
                        raise error
                    yield held.pop(task), error if isinstance(error, RoadsegError) else task.result()
        finally:
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)

    async def _drive(self, exchange: Exchange[Value]) -> Value:
        outcome: Outcome = None
        while not isinstance(step := await asyncio.to_thread(advance, exchange, outcome), Done):
            if isinstance(step, Send):
                outcome = await self._send(step)
            else:
                outcome = None
                await (self._given_sleep or asyncio.sleep)(step.seconds)
        return step.value

    async def _send(self, step: Send) -> Outcome:
        check_open(self._http)
        try:
            return reply_of(await self._http.request(**request_options(self._core, step.request, step.timeout_s)))
        except httpx.HTTPError as error:
            return failure_of(error)
