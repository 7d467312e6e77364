"""Reading, the network and writing at the same time.

Threads decode images ahead of the network and encode masks behind it; both leave the interpreter's lock to the others
while they work. The network runs in the calling thread, so that Ctrl-C meets it between two batches.
"""

import errno
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from roadseg.errors import EngineError, ImageError, OutputError, RoadsegError
from roadseg.images import Orientation
from roadseg.inference.predictor import Predictor
from roadseg.inference.result import SegmentationResult
from roadseg.inference.segmenting.frame import (
    Outcome,
    ReadFrame,
    expected_pixels,
    failed_row,
    read_frame,
    readable_error,
    write_frame,
)
from roadseg.inference.segmenting.jobs import FileJob
from roadseg.inference.segmenting.manifest import Row
from roadseg.inference.segmenting.products import MASK_ALONE, Products
from roadseg.signals import uninterrupted

MEMORY_BYTES = 1 << 30
"""Of the frames between reading and writing, as far as one frame at a time, or one batch, does not take more."""

DECODED_BYTES, WORKING_BYTES = 3, 11
"""Of a pixel that is decoded; and of one that is being decoded, with Pillow's four-byte copy and the array of it, or
written: image, mask, float32 confidence, and the encoder's copies."""

FAILURES_IN_A_ROW = 8
"""So many images one after the other on which the network itself fails mean that it is broken, not they."""

_WRONG_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
"""Names that the file system does not take, or a folder where a file is to be, or the other way round."""

Task = tuple[FileJob, Row | None]
"""What is to be done, and the row of an earlier run that this one continues."""


class FilePipeline(Protocol):
    """What segments image files: a `Pipeline`, or a service."""

    def run(
        self, tasks: Iterable[Task], report: Callable[[Outcome], None], prepare: Callable[[], None] = lambda: None
    ) -> None:
        """See `Pipeline.run`."""


@dataclass(frozen=True)
class Pipeline:
    """Segments image files.

    Attributes:
        predictor: what segments.
        orientation: as a predictor takes it.
        products: what is written beside masks.
        batch_size: so many images of one size, one after the other, run together at most.
        workers: threads that read, and as many that write.
    """

    predictor: Predictor
    orientation: Orientation = "displayed"
    products: Products = MASK_ALONE
    batch_size: int = 1
    workers: int = 2

    def run(
        self, tasks: Iterable[Task], report: Callable[[Outcome], None], prepare: Callable[[], None] = lambda: None
    ) -> None:
        """Segment frames; one that cannot be read is reported and does not stop the rest.

        Args:
            tasks: what is to be done; taken as the work goes on.
            report: told what became of each, in the order in which they are finished, by this thread. What is under way
                when the run is interrupted is finished and reported first.
            prepare: called before the first frame is segmented, if one is.

        Raises:
            OutputError: when a file cannot be written.
            EngineError: when the network fails on one image after the other.
            KeyboardInterrupt: when the user has enough.
        """
        with (
            ThreadPoolExecutor(self.workers, "read") as readers,
            ThreadPoolExecutor(self.workers, "write") as writers,
        ):
            flow = _Flow(self, readers, writers, report, prepare)
            try:
                flow.run(iter(tasks))
            except BaseException:
                readers.shutdown(wait=False, cancel_futures=True)
                flow.finish_writing(stopping=True)
                raise


class _Flow:
    """The frames between reading and writing."""

    def __init__(
        self,
        settings: Pipeline,
        readers: ThreadPoolExecutor,
        writers: ThreadPoolExecutor,
        report: Callable[[Outcome], None],
        prepare: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._prepare: Callable[[], None] | None = prepare
        self._readers = readers
        self._writers = writers
        self._report = report
        self._looking: deque[tuple[Task, Future[int]]] = deque()
        self._reading: deque[tuple[FileJob, int, Future[ReadFrame | None]]] = deque()
        self._writing: deque[tuple[FileJob, int, Future[Row]]] = deque()
        self._wanted = settings.batch_size + settings.workers  # of frames ahead: enough to keep all threads busy
        self._waiting_pixels = 0  # of frames between the two
        self._failures = 0

    def run(self, tasks: Iterator[Task]) -> None:
        waiting: list[ReadFrame] = []
        for frame in self._read(tasks):
            if waiting and frame.image.pixels.shape != waiting[0].image.pixels.shape:
                self._segment(waiting)
                waiting = []
            waiting.append(frame)
            if len(waiting) >= self._settings.batch_size:
                self._segment(waiting)
                waiting = []
        if waiting:
            self._segment(waiting)
        self.finish_writing()

    def finish_writing(self, *, stopping: bool = False) -> None:
        """Wait for all that is being written, and report it; when stopping, further trouble is left alone."""
        while self._writing:
            try:
                self._finish_oldest()
            except OutputError:
                if not stopping:
                    raise

    def _read(self, tasks: Iterator[Task]) -> Iterator[ReadFrame]:
        """Frames in order; those that were done before, or cannot be read, are reported."""
        while self._start_reading(tasks):
            job, _, future = self._reading.popleft()
            try:
                frame = future.result()
            except Exception as error:  # of one frame, whatever it is: a decoder fed with hostile bytes, memory
                self._failed(job, error)
                continue
            if frame is None:
                self._report(Outcome(job.relative))
                continue
            self._waiting_pixels += frame.pixels
            yield frame

    def _start_reading(self, tasks: Iterator[Task]) -> bool:
        """Have frames read ahead as far as memory allows; False when there are no more.

        Their headers are looked at first: even the first frames could each take half of the memory.
        """
        settings = self._settings
        self._look_at_headers(tasks)
        while self._looking and len(self._reading) < self._wanted:
            (job, known), looking = self._looking[0]
            if self._reading and not (looking.done() and self._is_room_for(looking.result())):
                break
            pixels = looking.result()
            while self._writing and not self._is_room_for(pixels):
                self._finish_oldest()
            self._looking.popleft()
            future = self._readers.submit(read_frame, job, settings.orientation, known, settings.products)
            self._reading.append((job, pixels, future))
            self._look_at_headers(tasks)
        return bool(self._reading)

    def _look_at_headers(self, tasks: Iterator[Task]) -> None:
        while len(self._looking) < self._wanted and (task := next(tasks, None)) is not None:
            self._looking.append((task, self._readers.submit(expected_pixels, *task)))

    def _is_room_for(self, pixels: int) -> bool:
        reading = sum(n * (DECODED_BYTES if future.done() else WORKING_BYTES) for _, n, future in self._reading)
        writing = sum(n * WORKING_BYTES for _, n, _ in self._writing)
        held = reading + self._waiting_pixels * DECODED_BYTES + writing
        return held + pixels * WORKING_BYTES <= MEMORY_BYTES

    def _segment(self, frames: list[ReadFrame]) -> None:
        if self._prepare is not None:
            self._prepare()
            self._prepare = None
        begun = time.perf_counter()
        try:
            results = self._predict(frames)
        except Exception as error:
            if len(frames) > 1:  # one of them, or too many at once
                for frame in frames:
                    self._segment([frame])
                return
            self._waiting_pixels -= frames[0].pixels
            self._note_failure(error)
            self._failed(frames[0].job, error)
            return
        self._failures = 0
        each_s = (time.perf_counter() - begun) / len(frames)
        for frame, result in zip(frames, results, strict=True):
            future = self._writers.submit(write_frame, frame, result, self._settings.products, each_s)
            self._waiting_pixels -= frame.pixels
            self._writing.append((frame.job, frame.pixels, future))
        while self._writing and (len(self._writing) > self._wanted or self._writing[0][2].done()):
            self._finish_oldest()

    def _predict(self, frames: list[ReadFrame]) -> list[SegmentationResult]:
        names = [frame.job.name for frame in frames]
        return self._settings.predictor.batch([frame.image for frame in frames], confidence=True, names=names)

    def _note_failure(self, error: Exception) -> None:
        self._failures += not isinstance(error, ImageError)
        if self._failures >= FAILURES_IN_A_ROW:
            raise EngineError(
                f"the engine failed on {self._failures} images in a row, the last time with: {readable_error(error)}; "
                "it needs another device, precision or batch size"
            ) from error

    def _finish_oldest(self) -> None:
        job, _, future = self._writing[0]
        wait([future])  # an interrupt here leaves it in the queue
        with uninterrupted():
            self._writing.popleft()
            try:
                row = future.result()
            except Exception as error:
                if isinstance(error, OutputError) and not is_of_one_frame(error):
                    raise
                self._failed(job, error)
                return
            self._report(Outcome(job.relative, row))

    def _failed(self, job: FileJob, error: Exception) -> None:
        told = error if isinstance(error, RoadsegError) else RoadsegError(f"{job.image}: {readable_error(error)}")
        self._report(Outcome(job.relative, failed_row(job, told), told))


def is_of_one_frame(error: OutputError) -> bool:
    """Whether only this frame cannot be written, in contrast to a disk that is full.

    Args:
        error: that writing it ended with.
    """
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _WRONG_NAME
