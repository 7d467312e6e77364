"""Which mask goes where. Folders are gone through anew for each use: nothing here grows by a job a frame."""

import os
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from roadseg.errors import ConfigError, DataError, OutputError
from roadseg.images import IMAGE_SUFFIXES
from roadseg.inference.segmenting import clashes
from roadseg.inference.segmenting.jobs import FileJob, Job, VideoJob, VideoOutput, without_ending
from roadseg.inference.segmenting.left_out import tell_left_out
from roadseg.inference.segmenting.names import folders_above, one_case, unfinished_video
from roadseg.inference.segmenting.probing import probe_output
from roadseg.inference.segmenting.products import MASK_ALONE, Products
from roadseg.inference.segmenting.shards import Shard
from roadseg.walking import walk_files

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm"})
"""File endings of videos, in lower case."""


@dataclass(frozen=True)
class Unlisted:
    """A folder below a source that cannot be listed.

    Attributes:
        relative: its path below the source, with forward slashes.
        error: why.
    """

    relative: str
    error: DataError


@dataclass(frozen=True)
class Plan:
    """The jobs of a run: iterating over it goes through the folders, and gives the same jobs in the same order.

    Attributes:
        sources: image files, video files and folders, each once.
        output: folder for the masks.
        products: what is written beside masks.
        video: what is written for videos; None passes over those in folders.
        shard: the part of the frames that is meant.
        count: how many jobs there are.
        unlisted: folders that could not be listed.
        one_case: whether the output folder's file system takes names that differ in case alone for one.
        names: hashes of the keys of all names that all shards write, in order.
    """

    sources: tuple[Path, ...]
    output: Path
    products: Products = MASK_ALONE
    video: VideoOutput | None = None
    shard: Shard | None = None
    count: int = 0
    unlisted: tuple[Unlisted, ...] = ()
    one_case: bool = False
    names: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), repr=False, compare=False)

    @property
    def suffixes(self) -> frozenset[str]:
        """File endings that folders are searched for."""
        return IMAGE_SUFFIXES | VIDEO_SUFFIXES if self.video else IMAGE_SUFFIXES

    @property
    def videos_passed_over(self) -> frozenset[str]:
        """File endings of videos that folders are not searched for."""
        return VIDEO_SUFFIXES - self.suffixes

    @property
    def has_videos(self) -> bool:
        """Whether there may be videos among the jobs."""
        return self.video is not None or any(is_video(source.name) for source in self.sources)

    def __len__(self) -> int:
        """Number of jobs."""
        return self.count

    def __iter__(self) -> Iterator[Job]:
        """The jobs, source by source, those of a folder in the order of their names."""
        for folder, relative in self.found(lambda below, error: None):
            if self.shard is None or self.shard.holds(relative):
                yield self._job(folder / relative, relative)

    def found(self, unreadable: Callable[[str, DataError], None]) -> Iterator[tuple[Path, str]]:
        """(Folder, path below it) of all images and videos, those of other shards among them."""
        for source in self.sources:
            if not source.is_dir():
                yield source.parent, source.name
                continue
            skip = {os.path.realpath(self.output)}
            for path in walk_files(source, self.suffixes, skip=skip, unreadable=unreadable):
                yield source, path.replace(os.sep, "/")

    def written(self, relative: str) -> tuple[str, ...]:
        """What is written for an image or video, below the output folder: its mask, and what lies beside that.

        Of a video that is a file or a folder of frames, and the place of either while it is not whole.
        """
        stem = without_ending(relative)
        if not is_video(relative):
            return (f"{stem}.png", *self.products.names(stem))
        mask = stem if self.video == "frames" else f"{stem}.mkv"
        return mask, unfinished_video(mask)

    def is_frame_folder(self, path: Path) -> bool:
        """Whether what is written for this file is a folder of frames."""
        return self.video == "frames" and is_video(path.name)

    def key(self, name: str) -> str:
        """The same for all names that the output folder's file system takes for one."""
        return one_case(name) if self.one_case else name

    def writes(self, name: str) -> bool:
        """Whether this is the name of what any shard writes; by its hash, so once in a long while wrongly so."""
        wanted = hash(self.key(name))
        at = int(np.searchsorted(self.names, wanted))
        return at < len(self.names) and int(self.names[at]) == wanted

    def _job(self, path: Path, relative: str) -> Job:
        mask = self.output / self.written(relative)[0]
        if is_video(relative):
            return VideoJob(path, mask, relative, self.video or "mask")
        return FileJob(path, mask, relative)


def is_video(relative: str) -> bool:
    """Whether a file is taken for a video, by its ending."""
    return os.path.splitext(relative)[1].lower() in VIDEO_SUFFIXES


def plan_files(
    sources: Sequence[str | Path],
    output: str | Path,
    *,
    products: Products = MASK_ALONE,
    video: VideoOutput | None = None,
    shard: Shard | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Plan:
    """Find the images, and make sure that each has a mask path of its own; the structure of searched folders is kept.

    The folders are gone through once before anything is written. That takes about 10 s for two million files on a
    local disk, and keeps 8 bytes a file to be written, beside the names of one folder at a time.

    Args:
        sources: image files, video files and folders. The output folder is passed over where it lies below one.
        output: folder for the masks.
        products: what is written beside masks.
        video: what is written for videos; if not given, videos in folders are passed over, and a video that is named
            itself becomes a mask video.
        shard: the part of the frames that is meant; clashes are looked for in all of them.
        resume: whether the run goes on from an earlier one.
        overwrite: whether masks that no manifest in the output folder knows of may be replaced.

    Raises:
        DataError: when a source does not exist or cannot be listed, or holds no image.
        ConfigError: when two masks would have one name, an output would replace an input, or the output folder, below a
            source, holds images already; when both `resume` and `overwrite` are asked for.
        OutputError: when the output is a file or cannot be written, or masks would be replaced that no manifest knows
            of.
    """
    if resume and overwrite:
        raise ConfigError("--resume keeps what is done and --overwrite begins anew; give one of them")
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; give a folder for the masks")
    plan = Plan((), output, products, video, shard)
    plan = replace(plan, sources=_each_once([Path(source) for source in sources], plan.suffixes))
    clashes.refuse_images_in_output(plan)
    plan = replace(plan, one_case=probe_output(output))
    unlisted: list[Unlisted] = []
    jobs, names, folders = _gone_through(plan, unlisted)
    clashes.refuse_clashes(plan, names, folders)
    clashes.refuse_replaced_inputs(plan)
    if not overwrite and not any(output.glob(clashes.MANIFESTS)):
        clashes.refuse_unknown_masks(plan)
    return replace(plan, count=jobs, unlisted=tuple(unlisted), names=names)


def _each_once(sources: Sequence[Path], suffixes: Collection[str]) -> tuple[Path, ...]:
    """Sources without those that are named twice, and files that lie right in a folder that is named."""
    kept: dict[str, Path] = {}
    for source in sources:
        leads_nowhere = os.path.islink(source) and not os.path.exists(source)  # of all that a pattern gave: a row
        if not os.path.isdir(source) and not os.path.isfile(source) and not leads_nowhere:
            what = "is no file" if os.path.exists(source) else "does not exist"
            raise DataError(f"{source} {what}; give image files, or folders of them")
        kept.setdefault(os.path.join(os.path.realpath(source.parent), source.name), source)
    folders = {os.path.realpath(source) for source in kept.values() if source.is_dir()}
    return tuple(
        source
        for key, source in kept.items()
        if source.is_dir() or os.path.dirname(key) not in folders or source.suffix.lower() not in suffixes
    )


def _gone_through(plan: Plan, unlisted: list[Unlisted]) -> tuple[int, npt.NDArray[np.int64], set[int]]:
    """How many jobs the plan's shard has; hashes of all names that any shard writes, in order, and of their folders."""
    written, count, folder_of = array("q"), 0, ""
    folders: set[int] = set()
    fruitful: set[Path] = set()
    for source, relative in plan.found(lambda folder, error: unlisted.append(Unlisted(folder, error))):
        fruitful.add(source)
        count += plan.shard is None or plan.shard.holds(relative)
        written.extend(hash(plan.key(name)) for name in plan.written(relative))
        if relative.rpartition("/")[0] != folder_of:
            folder_of = relative.rpartition("/")[0]
            folders.update(map(hash, folders_above(plan.key(relative))))
    for source in plan.sources:
        if source.is_dir() and source not in fruitful and not unlisted:
            left_out = tell_left_out([source], plan.output, plan.videos_passed_over)
            raise DataError(
                f"{source} holds no image; looked for {', '.join(sorted(plan.suffixes))} in all folders below"
                + (f"; {left_out}" if left_out else "")
            )
    names = np.frombuffer(written, np.int64).copy()
    names.sort()
    return count, names, folders
