"""Folders of images by a service: what `roadseg segment` does, with the service in the network's place."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from roadseg.client.core import Ask
from roadseg.client.driver import Driver
from roadseg.client.uploads import Upload
from roadseg.client.window import Window, checked_concurrency
from roadseg.errors import (
    ConfigError,
    DataError,
    OutputError,
    RoadsegError,
    ServiceAccessError,
    ServiceBusyError,
    ServiceError,
    ServiceUnreachableError,
)
from roadseg.images import read_bytes
from roadseg.inference.options import InferenceOptions
from roadseg.inference.segmenting.frame import Outcome, failed_row, read_frame, readable_error, write_frame
from roadseg.inference.segmenting.jobs import FileJob
from roadseg.inference.segmenting.manifest import Row, make_header
from roadseg.inference.segmenting.pipeline import FAILURES_IN_A_ROW, Task, is_of_one_frame
from roadseg.inference.segmenting.plan import plan_files
from roadseg.inference.segmenting.products import Products
from roadseg.inference.segmenting.progress import Progress
from roadseg.inference.segmenting.run import Run, Summary
from roadseg.signals import uninterrupted
from roadseg.taxonomy import Taxonomy


class SwappedError(ServiceError):
    """The service answers with another model than at the beginning."""


@dataclass(frozen=True)
class RemoteEngine:
    """What a manifest's header tells of the engine: that of the service."""

    name: str
    precision: str
    device: str


@dataclass(frozen=True)
class RemotePredictor:
    """What a manifest's header tells of the predictor: that of the service."""

    digest: str
    taxonomy: Taxonomy
    engine: RemoteEngine
    options: InferenceOptions


def segment_folder(
    driver: Driver,
    sources: Sequence[str | Path],
    output: str | Path,
    ask: Ask,
    *,
    overlay: bool,
    concurrency: int,
    resume: bool,
    overwrite: bool,
    stop: threading.Event,
) -> Summary:
    """See `Client.segment_folder`.

    Args:
        driver: of the service.
        sources: image files and folders.
        output: folder for the masks.
        ask: how images are segmented.
        overlay: whether overlays are written.
        concurrency: images under way at once.
        resume: whether what is done is left.
        overwrite: whether it is done anew.
        stop: ends the run when what is under way is finished and recorded.
    """
    checked_concurrency(concurrency)
    products = Products(overlay, ask.confidence)
    plan = plan_files(sources, output, products=products, resume=resume, overwrite=overwrite)
    if plan.has_videos:
        raise ConfigError("a service takes images, and a video is among the sources; use `roadseg segment` for that")
    model = driver.models(stop)[0]
    engine = RemoteEngine(model.engine, model.precision, model.device)
    options = InferenceOptions(min_confidence=ask.min_confidence)
    predictor = RemotePredictor(model.digest, model.taxonomy, engine, options)
    name = f"{model.name} at {driver.url}"
    header = make_header(name, predictor, ask.orientation, None, plan.sources)
    run = Run(plan, RemotePipeline(driver, ask, products, model.digest, concurrency, stop), header, resume, overwrite)
    run.check()
    with Progress(len(plan)) as progress:
        return run.segment(progress.report)


@dataclass(frozen=True)
class RemotePipeline:
    """Segments image files by a service, several at a time.

    Attributes:
        driver: of the service.
        ask: how images are segmented.
        products: what is written beside masks.
        digest: of the only model that may answer.
        concurrency: images under way at once.
        stop: ends a run early, as an interrupt does, but without an error: who sets it knows.
    """

    driver: Driver
    ask: Ask
    products: Products
    digest: str
    concurrency: int
    stop: threading.Event

    def run(
        self, tasks: Iterable[Task], report: Callable[[Outcome], None], prepare: Callable[[], None] = lambda: None
    ) -> None:
        """As `roadseg.inference.segmenting.pipeline.Pipeline.run`; the service meets sizes as they come.

        Raises:
            OutputError: when a file cannot be written.
            ServiceError: when all other images would fare alike.
            KeyboardInterrupt: when the user has enough; what is under way is finished and reported first.
        """
        with Window[Task, Row | None](self._segment, self.concurrency, self.stop) as window:
            flow = _Flow(window, report, self.stop)
            try:
                for future in window.finished(iter(tasks)):
                    flow.settle(future)
            except BaseException:
                for future in window.rest():
                    flow.settle(future)
                raise

    def _segment(self, task: Task) -> Row | None:
        """The row of an image; None when an earlier run did it. Its files are written."""
        job, known = task
        frame = read_frame(job, self.ask.orientation, known, self.products)
        if frame is None:
            return None
        begun = time.perf_counter()
        data = read_bytes(job.image)
        if hashlib.sha256(data).hexdigest() != frame.source["sha256"]:
            raise DataError(f"{job.image} was changed while it was being read; segment it again")
        result = self.driver.segment(Upload(data, frame.image, str(job.image)), self.ask, self.stop)
        if result.model_digest != self.digest:
            raise SwappedError(
                f"{self.driver.url} answers with model {result.model_digest[:12]}, and began with {self.digest[:12]}; "
                "one folder holds masks of one model: choose another output folder, or overwrite this one"
            )
        return write_frame(frame, result, self.products, time.perf_counter() - begun)


class _Flow:
    """What becomes of images, and when that ends the run."""

    def __init__(
        self, window: Window[Task, Row | None], report: Callable[[Outcome], None], stop: threading.Event
    ) -> None:
        self._window = window
        self._report = report
        self._stop = stop
        self._failures = 0

    def settle(self, future: "Future[Row | None]") -> None:
        """Report an image that is finished; when stopped, one that was not may be done the next time."""
        with uninterrupted():
            job, _ = self._window.take(future)
            error = future.exception()
            if error is None:
                self._failures = 0
                self._report(Outcome(job.relative, future.result()))
                return
            if self._stop.is_set():
                return
            if not isinstance(error, Exception):
                raise error
            self._refuse_to_go_on(error)
            self._failed(job, error)

    def _refuse_to_go_on(self, error: Exception) -> None:
        if isinstance(error, SwappedError | ServiceAccessError | ConfigError):
            raise error
        if isinstance(error, OutputError) and not is_of_one_frame(error):
            raise error
        down = isinstance(error, ServiceUnreachableError | ServiceBusyError)
        self._failures = self._failures + 1 if down else 0
        if self._failures >= FAILURES_IN_A_ROW:
            raise error

    def _failed(self, job: FileJob, error: Exception) -> None:
        told = error if isinstance(error, RoadsegError) else RoadsegError(f"{job.image}: {readable_error(error)}")
        self._report(Outcome(job.relative, failed_row(job, told), told))
