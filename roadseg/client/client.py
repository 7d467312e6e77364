"""The client of a segmentation service."""

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from roadseg.client.core import Ask, Core
from roadseg.client.driver import Driver, Sleep
from roadseg.client.items import Item, fatal, items
from roadseg.client.models import RemoteModel
from roadseg.client.retries import REAL_CLOCK, Clock, Retries
from roadseg.client.transport import check_open, failure_of, http_options, reply_of, request_options
from roadseg.client.window import Window, checked_concurrency
from roadseg.client.wire import Outcome, Send
from roadseg.errors import RoadsegError
from roadseg.images import Orientation
from roadseg.inference.predictor import ImageSource
from roadseg.inference.result import SegmentationResult

if TYPE_CHECKING:
    from roadseg.inference.segmenting.run import Summary


class Client:
    """A client of a segmentation service. Threads may share one; its connections are kept, and closed by `close`.

    Args:
        url: of the service, http://HOST:PORT.
        api_key: None where the service wants none.
        timeout_s: for connecting, and for each wait on the network after that.
        retries: how often a request is sent again after it was refused with 429, 503 or 504, or got no answer.
        deadline_s: for one image with all its retries and waits; nothing is begun after it.
        sleep: waits so many seconds; for tests. By default time passes.
        clock: where time and chance come from; for tests.
        transport: of httpx, for client certificates, own authorities, proxies and tests; by default its usual one,
            which the environment's proxies apply to.

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
        sleep: Sleep | None = None,
        clock: Clock = REAL_CLOCK,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._core = Core(url, api_key, Retries(retries, deadline_s, timeout_s, clock=clock))
        self._driver = Driver(self._core, self._send, sleep)
        self._http = httpx.Client(transport=transport, **http_options(self._core))

    def __repr__(self) -> str:
        """Where the service is."""
        return f"<Client of {self._core.url}>"

    def __enter__(self) -> "Client":
        """Close it at the end of a `with` block."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def segment(
        self,
        image: ImageSource,
        *,
        confidence: bool = False,
        orientation: Orientation = "displayed",
        classes: Sequence[str | int] | None = None,
        min_confidence: float | None = None,
    ) -> SegmentationResult:
        """Segment one image.

        Args:
            image: a path, encoded bytes, an (H, W, 3) uint8 RGB array, a PIL image or a decoded image. Files and bytes
                are sent as they are, the others as a PNG, which loses nothing.
            confidence: whether to give the confidence at each pixel, in steps of 1/255.
            orientation: "displayed" applies the EXIF orientation, "stored" keeps the raster as the camera stored it.
            classes: names or ids of the classes that are wanted; other pixels are 255. None wants all.
            min_confidence: pixels below it are 255; None keeps all.

        Returns:
            The result; `image` is the raster that the mask belongs to, `model_digest` that of the model that answered.

        Raises:
            ImageError: when the image cannot be used; it is not sent then.
            DataError: when a path cannot be read.
            ServiceImageError: when the service refuses the image, as too large for instance.
            ServiceAccessError: when it wants an API key, or another one.
            ServiceBusyError: when it was full, loading or draining until retries or deadline were spent.
            ServiceUnreachableError: when there was no answer until then.
            ServiceError: when it refuses for another reason, or fails.
            ServiceAnswerError: when what answers is no such service.
            ConfigError: when an argument cannot work, or the client was closed.
        """
        return self._driver.segment(image, Ask(confidence, orientation, classes, min_confidence))

    def models(self) -> list[RemoteModel]:
        """The models that the service answers with now, with their taxonomies.

        Raises:
            ServiceError: as `segment` raises it.
        """
        return self._driver.models()

    def segment_many(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        concurrency: int = 8,
        confidence: bool = False,
        orientation: Orientation = "displayed",
        classes: Sequence[str | int] | None = None,
        min_confidence: float | None = None,
    ) -> Generator[tuple[Item, SegmentationResult | RoadsegError], None, None]:
        """Segment images, several at a time; each is given when it is finished, so in another order.

        The images are taken as the work goes on, and no more than `concurrency` of them and their results are held:
        two million paths take no more memory than ten.

        Args:
            images: see `segment`; folders among them are searched through as the work goes on. One alone need not be
                in a list.
            concurrency: how many are under way at once.
            confidence: as of `segment`.
            orientation: as of `segment`.
            classes: as of `segment`.
            min_confidence: as of `segment`.

        Yields:
            The image as it was given, or the path of one in a folder, and its result or why there is none.

        Raises:
            ServiceAccessError: when the service wants another key, since that is so for all.
            DataError: when a folder cannot be listed.
            ConfigError: at once, when an argument cannot work; later, when the client was closed.
        """
        ask = Ask(confidence, orientation, classes, min_confidence)
        return self._many(items(images), checked_concurrency(concurrency), ask)

    def _many(
        self, images: Iterator[Item], concurrency: int, ask: Ask
    ) -> Generator[tuple[Item, SegmentationResult | RoadsegError], None, None]:
        stop = threading.Event()

        def work(image: Item) -> SegmentationResult:
            return self._driver.segment(image, ask, stop)

        with Window(work, concurrency, stop) as window:
            for image, future in window.each(images):
                error = future.exception()
                if error is not None and fatal(error):
                    raise error
                yield image, error if isinstance(error, RoadsegError) else future.result()

    def segment_folder(
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
        """Write the masks of folders of images, with a progress bar; as `roadseg segment` does, and with its manifest.

        An image that fails is told and recorded, and does not stop the rest. After Ctrl-C what is under way is finished
        and recorded; the same call with `resume` goes on from there.

        Args:
            sources: image files, and folders that are searched through.
            output: folder for the masks and `manifest.jsonl`.
            concurrency: how many images are under way at once.
            orientation: as of `segment`.
            min_confidence: as of `segment`.
            overlay: whether NAME_overlay.png is written, too.
            confidence: whether NAME_confidence.png is written, too.
            resume: whether what earlier runs did is left as it is.
            overwrite: whether it is done anew.

        Returns:
            How many were written, failed and had been done before.

        Raises:
            OutputError: when the folder holds masks of another run, or a file cannot be written.
            DataError: when a source does not exist or holds no image.
            ConfigError: when two masks would have one name, an argument cannot work, or the client was closed.
            ServiceError: when the service wants another key, does not answer any more, or changes its model, of which
                one folder holds one.
        """
        from roadseg.client.folder import segment_folder

        chosen = [sources] if isinstance(sources, str | Path) else list(sources)
        ask = Ask(confidence, orientation, None, min_confidence)
        return segment_folder(
            self._driver,
            chosen,
            output,
            ask,
            overlay=overlay,
            concurrency=concurrency,
            resume=resume,
            overwrite=overwrite,
            stop=threading.Event(),
        )

    def _send(self, step: Send) -> Outcome:
        check_open(self._http)
        try:
            return reply_of(self._http.request(**request_options(self._core, step.request, step.timeout_s)))
        except httpx.HTTPError as error:
            return failure_of(error)
