"""Segmenting a video: its masks as frames or as a video, and its row in the manifest."""

import hashlib
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.errors import DataError, OutputError, RoadsegError
from roadseg.inference.result import SegmentationResult, encode_png
from roadseg.inference.segmenting.frame import (
    Outcome,
    as_grey,
    class_pixels,
    mean_confidence,
    readable_error,
    stat_fields,
    write,
)
from roadseg.inference.segmenting.jobs import FileJob, VideoJob
from roadseg.inference.segmenting.manifest import Row
from roadseg.inference.segmenting.names import name_fields, number, unfinished_video
from roadseg.inference.segmenting.pipeline import Pipeline
from roadseg.inference.segmenting.products import Products
from roadseg.inference.segmenting.video_files import MaskVideoWriter, VideoReader

FALLBACK_FPS = 25.0
"""Of mask videos, where the source does not say."""

FrameDone = Callable[[int], None]
"""Told of frames that are finished, how many."""


def segment_video(pipeline: Pipeline, job: VideoJob, known: Row | None, progress: FrameDone) -> Outcome:
    """Segment a video, frame by frame, decoding and writing beside the network.

    Args:
        pipeline: what segments, and what is written beside masks.
        job: what is done.
        known: the video's row of an earlier run that this one continues.
        progress: see `FrameDone`.

    Raises:
        OutputError: when a file cannot be written.
    """
    try:
        row = _segmented(pipeline, job, known, progress)
    except OutputError:
        raise
    except Exception as error:
        told = error if isinstance(error, RoadsegError) else RoadsegError(f"{job.video}: {readable_error(error)}")
        failed = {**name_fields("video", job.relative), "error": readable_error(told)}
        return Outcome(job.relative, failed, told)
    return Outcome(job.relative, row, frames=0 if row is None else row["frames"])


def _segmented(pipeline: Pipeline, job: VideoJob, known: Row | None, progress: FrameDone) -> Row | None:
    begun = time.perf_counter()
    written = known is not None and _is_written(job, known, pipeline.products)
    source = stat_fields(job.video)
    if known is not None and written and source.items() <= known.items():
        return None
    source["sha256"] = _digest(job.video)
    if known is not None and written and known.get("sha256") == source["sha256"]:
        return None
    frames = job.output == "frames"
    target = _Frames(job, pipeline.products) if frames else _MaskVideo(job)
    try:
        with VideoReader(job.video, pipeline.orientation) as video:
            tally = _run(pipeline, job, video, target, progress)
            told = target.finish(tally.frames)
    except BaseException:
        target.abandon()
        raise
    return {
        **name_fields("video", job.relative),
        **source,
        "size": list(tally.size),
        "fps": round(video.fps, 6),
        "frames": tally.frames,
        "frames_said": video.said,
        "output": job.output,
        **name_fields("mask", job.name if frames else f"{job.name}.mkv"),
        **told,
        "classes": dict(tally.pixels),
        "left_out_px": tally.left_out_px,
        "mean_confidence": tally.mean_confidence,
        "seconds": round(time.perf_counter() - begun, 4),
    }


class _Tally:
    """What was seen in all frames."""

    def __init__(self) -> None:
        self.frames = 0
        self.size = (0, 0)
        self.pixels: Counter[str] = Counter()
        self.left_out_px = 0
        self._confidences: list[float] = []

    def add(self, result: SegmentationResult) -> None:
        self.frames += 1
        self.size = (result.mask.shape[0], result.mask.shape[1])
        pixels, left_out = class_pixels(result.mask, result.taxonomy.names)
        self.pixels.update(pixels)
        self.left_out_px += left_out
        mean = None if result.confidence is None else mean_confidence(result.confidence)
        self._confidences += [] if mean is None else [mean]

    @property
    def mean_confidence(self) -> float | None:
        return round(float(np.mean(self._confidences)), 6) if self._confidences else None


class _Target(Protocol):
    """Where the masks of a video go: under another name until it is whole."""

    def add(self, index: int, result: SegmentationResult, fps: float) -> None: ...

    def finish(self, frames: int) -> Row: ...

    def abandon(self) -> None: ...


class _Frames:
    """A folder of PNG masks."""

    def __init__(self, job: VideoJob, products: Products) -> None:
        self._folder = job.mask
        self._job = replace(job, mask=job.mask.with_name(unfinished_video(job.mask.name)))
        self._products = products
        self.abandon()  # what a run that was killed left

    def add(self, index: int, result: SegmentationResult, fps: float) -> None:
        frame = _frame_job(self._job, index)
        if self._products.overlay:
            write(frame.overlay, encode_png(Image.fromarray(result.overlay())))
        if self._products.confidence and result.confidence is not None:
            write(frame.confidence, encode_png(Image.fromarray(as_grey(result.confidence))))
        write(frame.mask, result.png())

    def finish(self, frames: int) -> Row:
        with _named(self._folder):
            if not self._folder.exists():
                self._job.mask.rename(self._folder)
            else:  # of a run before; what is left of that is removed by its record
                for path in self._job.mask.iterdir():
                    path.replace(self._folder / path.name)
                self._job.mask.rmdir()
        return dict(self._products.fields())

    def abandon(self) -> None:
        shutil.rmtree(self._job.mask, ignore_errors=True)


class _MaskVideo:
    """One lossless video."""

    def __init__(self, job: VideoJob) -> None:
        self._path = job.mask
        self._temporary = job.mask.with_name(unfinished_video(job.mask.name))
        self._writer: MaskVideoWriter | None = None

    def add(self, index: int, result: SegmentationResult, fps: float) -> None:
        if self._writer is None:
            with _named(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = MaskVideoWriter(self._temporary, fps, result.mask.shape)
        self._writer.add(result.mask)

    def finish(self, frames: int) -> Row:
        if self._writer is not None:
            self._writer.close(frames)
        with _named(self._path):
            row = {"mask_sha256": _digest(self._temporary), "mask_bytes": self._temporary.stat().st_size}
            self._temporary.replace(self._path)
        return row

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.release()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What keeps a file or folder from being written is told with its name."""
    try:
        yield
    except (OSError, DataError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise OutputError(f"cannot write {path}: {why}; choose another place or make room") from error


def _run(pipeline: Pipeline, job: VideoJob, video: VideoReader, target: _Target, progress: FrameDone) -> _Tally:
    tally = _Tally()
    writing: deque[Future[None]] = deque()

    def finish(index: int, result: SegmentationResult) -> None:
        target.add(index, result, video.fps or FALLBACK_FPS)
        tally.add(result)

    # One thread each: a video is decoded and written in order.
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        try:
            ahead = _read_ahead(reader, iter(video), pipeline.batch_size + 1)
            index = 0
            while batch := list(islice(ahead, pipeline.batch_size)):
                names = [f"{job.name}/{number(index + i)}" for i in range(len(batch))]
                for result in pipeline.predictor.batch(batch, confidence=True, names=names):
                    writing.append(writer.submit(finish, index, result))
                    index += 1
                while len(writing) > pipeline.batch_size + 1:
                    writing.popleft().result()
                    progress(1)
            while writing:
                writing.popleft().result()
                progress(1)
        except BaseException:
            writer.shutdown(wait=True, cancel_futures=True)
            raise
    return tally


def _read_ahead(
    reader: ThreadPoolExecutor, frames: Iterator[npt.NDArray[np.uint8]], count: int
) -> Iterator[npt.NDArray[np.uint8]]:
    reading = deque(reader.submit(next, frames, None) for _ in range(count))
    while True:
        frame = reading.popleft().result()
        if frame is None:
            return
        reading.append(reader.submit(next, frames, None))
        yield frame


def _frame_job(job: VideoJob, index: int) -> FileJob:
    return FileJob(job.video, job.mask / f"{number(index)}.png", f"{job.name}/{number(index)}.png")


def _is_written(job: VideoJob, row: Row, products: Products) -> bool:
    if "error" in row or row.get("output") != job.output:
        return False
    try:
        if job.output == "mask":
            return job.mask.stat().st_size == row["mask_bytes"]
        frames = [_frame_job(job, index) for index in range(row["frames"])]
        return all(frame.mask.is_file() and all(p.is_file() for p in products.beside(frame)) for frame in frames)
    except OSError:
        return False


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
