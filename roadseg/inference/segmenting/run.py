"""A run over a plan: what is done already, the frames, the videos, and what is made of them all at the end."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np

from roadseg.errors import EngineError, ImageError, OutputError, plural
from roadseg.inference.segmenting import clashes
from roadseg.inference.segmenting.clashes import MANIFESTS
from roadseg.inference.segmenting.done import Recorded, frame_name, has_rows
from roadseg.inference.segmenting.frame import Outcome, is_written, readable_error
from roadseg.inference.segmenting.jobs import FileJob, VideoJob
from roadseg.inference.segmenting.locking import refuse_locked
from roadseg.inference.segmenting.manifest import (
    ManifestWriter,
    Row,
    check_header,
    is_of_sources,
    manifest_path,
    read_rows,
    told_sources,
)
from roadseg.inference.segmenting.names import name_fields, readable
from roadseg.inference.segmenting.pipeline import FilePipeline, Pipeline
from roadseg.inference.segmenting.plan import Plan
from roadseg.inference.segmenting.progress import told_rate
from roadseg.inference.segmenting.record import Record
from roadseg.inference.segmenting.told import remove_files, told_files
from roadseg.inference.segmenting.video import FrameDone, segment_video
from roadseg.signals import uninterrupted

Told = Callable[[Outcome], None]


@dataclass
class Summary:
    """What a run did.

    Attributes:
        manifest: where the record is.
        written: masks of images, and of frames of videos, that were written.
        failed: images, videos and folders that came to nothing.
        skipped: images and videos that an earlier run had done.
        seconds: from the first frame to the last.
    """

    manifest: Path
    written: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = field(default=0.0)

    def __str__(self) -> str:
        """One line for people."""
        rate = f" ({told_rate(self.written / self.seconds)})" if self.seconds > 0 and self.written else ""
        written = plural(self.written, "mask") if self.written else "no mask"
        line = f"wrote {written} to {readable(str(self.manifest.parent))} in {self.seconds:.1f} s{rate}"
        line += f"; {self.skipped} done before" if self.skipped else ""
        line += f"; {self.failed} failed" if self.failed else ""
        return f"{line}; manifest: {readable(str(self.manifest))}"


@dataclass(frozen=True)
class Run:
    """Segments what is planned, and keeps the record.

    Attributes:
        plan: what is to be done.
        pipeline: what does it; a `Pipeline` where there are videos.
        header: the first row of the manifest.
        resume: whether what earlier runs did, with the same model and parameters, is left as it is.
        overwrite: whether what the folder's manifests tell of, of whatever run, is removed and done anew.
    """

    plan: Plan
    pipeline: FilePipeline
    header: Row
    resume: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Refuse to mix masks of different runs in one folder, to do again what is done, and to lose what is not.

        Raises:
            OutputError: when the folder holds masks of another model, other parameters, or, unless resuming, other
                sources; when it holds any, and it was not said what to do with them; when other masks would be removed
                than those of these sources.
            DataError: when a manifest there cannot be read.
        """
        for path in _manifests(self.plan.output):
            own = path == self.manifest
            if not self._begins_anew(path):
                # Machines that share the work out may know the images by other paths.
                check_header(path, self.header, same_sources=own and not self.resume)
                self._refuse_again(path)
            else:
                self._refuse_loss(path)

    @property
    def manifest(self) -> Path:
        """Where the record is kept."""
        return manifest_path(self.plan.output, self.plan.shard)

    def segment(self, report: Told, video_frames: FrameDone = lambda count: None) -> Summary:
        """Segment all that is planned.

        Args:
            report: told what became of each image and video.
            video_frames: told of frames of videos that are finished, how many.

        Raises:
            ConfigError: when frames of a video would lie among masks of an earlier run, or the other way round.
            OutputError: when a file cannot be written.
            EngineError: when the network fails on one image after the other.
        """
        writer = ManifestWriter(self.manifest)
        try:
            self._begin(writer)
            recorded = Recorded([p for p in _manifests(self.plan.output) if self.resume or not self._is_apart(p)])
        except BaseException:
            writer.close()
            raise
        summary = Summary(self.manifest)
        record = Record(self.plan, writer, recorded, resume=self.resume)
        begun = time.perf_counter()

        def told(outcome: Outcome) -> None:
            with uninterrupted():  # files without their row are done again
                record.add(outcome)
                _count(summary, outcome)
                report(outcome)

        try:
            clashes.refuse_mixed_folders(self.plan, recorded)
            for folder in self.plan.unlisted:
                row = {**name_fields("folder", folder.relative), "error": readable_error(folder.error)}
                told(Outcome(folder.relative, row, folder.error, frames=0))
            tasks = ((job, record.known(job)) for job in self.plan if isinstance(job, FileJob))
            prepare = cache(partial(self._show_known_sizes, recorded))  # once, whichever of the two is first
            self.pipeline.run(tasks, told, prepare)
            if self.plan.has_videos:
                prepare()
                self._videos(record, told, video_frames)
        finally:
            summary.seconds = time.perf_counter() - begun
            writer.close()
            recorded.close()
        return summary

    def _show_known_sizes(self, recorded: Recorded) -> None:
        """Let the engine meet sizes in the order in which it met them before, so that it treats images alike."""
        if not self.resume or not isinstance(self.pipeline, Pipeline):  # a service meets sizes as they come
            return
        count = self.pipeline.predictor.engine.special_sizes
        for height, width in islice(recorded.first_sizes.get(self.manifest, {}), count):
            with suppress(EngineError, ImageError, MemoryError):  # images of that size will tell
                self.pipeline.predictor(np.zeros((height, width, 3), np.uint8), confidence=True)

    def finished(self, recorded: Recorded) -> Iterator[tuple[FileJob, Row]]:
        """Images of the plan that have a mask, with their rows, in the plan's order.

        Args:
            recorded: all rows of the folder.
        """
        for job in self.plan:
            row = recorded.last(job.relative) if isinstance(job, FileJob) else None
            if row is not None and isinstance(job, FileJob) and is_written(job, row, self.plan.products):
                yield job, row

    def records(self) -> Recorded:
        """All rows of the folder, of this run and of those before."""
        return Recorded(_manifests(self.plan.output))

    def _videos(self, record: Record, told: Told, video_frames: FrameDone) -> None:
        assert isinstance(self.pipeline, Pipeline), "a service takes no videos"
        for job in self.plan:
            if isinstance(job, VideoJob):
                told(segment_video(self.pipeline, job, record.known(job), video_frames))

    def _begin(self, writer: ManifestWriter) -> None:
        """With the manifest locked: nobody else is at work here, and what begins anew is removed."""
        others = [path for path in _manifests(self.plan.output) if path != self.manifest]
        for path in others:
            if not self._is_apart(path):
                refuse_locked(path)
        self.check()  # again: another run may have ended since
        if self.overwrite:
            anew = [path for path in (*others, self.manifest) if self._begins_anew(path)]
            for path in anew:
                told = (name for _, row in read_rows(path) for name in told_files(row))
                remove_files(self.plan.output, told, empty_folders=True)
            old = [path.name for path in anew if path != self.manifest]
            remove_files(self.plan.output, old, empty_folders=False)
        if self.overwrite or writer.is_empty:
            writer.begin(self.header)

    def _begins_anew(self, path: Path) -> bool:
        return self.overwrite and (path == self.manifest or self.plan.shard is None)

    def _is_apart(self, path: Path) -> bool:
        """Whether a manifest is that of another shard of as many, whose frames are others."""
        shard = self.plan.shard
        return shard is not None and path != self.manifest and path.name.endswith(f"-of-{shard.total}.jsonl")

    def _refuse_again(self, path: Path) -> None:
        if not self.resume and not self.overwrite and not self._is_apart(path) and has_rows(path):
            raise OutputError(
                f"{self.plan.output} holds masks of an earlier run, by {path.name}; --resume to go on with them, "
                "--overwrite to do them anew, or choose another output folder"
            )

    def _refuse_loss(self, path: Path) -> None:
        """Masks of images that are gone from these sources may be removed, others that are not made again not."""
        same = is_of_sources(path, self.header) and not self.plan.unlisted
        for _, row in read_rows(path):
            name, relative = next(told_files(row), None), frame_name(row)
            if name is None or relative is None or (same and "video" not in row):
                continue
            if self.plan.writes(self.plan.written(relative)[0]):
                continue
            if (self.plan.output / name).exists():
                raise OutputError(
                    f"--overwrite would remove {self.plan.output / name}, which is of {readable(relative)} in "
                    f"{told_sources(path)} and would not be made again; choose another output folder, or remove "
                    f"{self.plan.output} first"
                )


def _count(summary: Summary, outcome: Outcome) -> None:
    if outcome.error is not None:
        summary.failed += 1
    elif outcome.row is None:
        summary.skipped += 1
    else:
        summary.written += outcome.frames


def _manifests(output: Path) -> list[Path]:
    return sorted(output.glob(MANIFESTS))
