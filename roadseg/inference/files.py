"""Segmenting image files: which mask goes where, and what happens to a file that cannot be read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from roadseg.errors import ConfigError, OutputError, RoadsegError
from roadseg.images import Orientation, find_images
from roadseg.inference.predictor import Predictor
from roadseg.inference.result import SegmentationResult, encode_png, write_whole


@dataclass(frozen=True)
class FileJob:
    """An image file and the mask to write for it; the overlay lies beside the mask.

    Attributes:
        image: the file.
        mask: where the mask is written.
        name: the frame's name for the patterns of ignore regions; by default the file's, without ending.
    """

    image: Path
    mask: Path
    name: str | None = None

    @property
    def overlay(self) -> Path:
        """Where the overlay is written."""
        return self.mask.with_name(f"{self.mask.stem}_overlay.png")


@dataclass(frozen=True)
class FileOutcome:
    """What became of a job: a result, or the error that kept it from one."""

    job: FileJob
    result: SegmentationResult | None = None
    error: RoadsegError | None = None


def plan_files(sources: Sequence[str | Path], output: str | Path, *, overlay: bool = False) -> list[FileJob]:
    """Find the images and give each a mask path; the structure of searched folders is kept.

    Args:
        sources: image files and folders.
        output: folder for the masks.
        overlay: whether overlays are written too.

    Returns:
        One job an image; an image that is named twice has one. Its name is its path below the folder that was searched,
        without ending.

    Raises:
        DataError: when a source does not exist or a folder holds no image.
        ConfigError: when two masks would have one name, or an output would replace an input.
        OutputError: when the output is a file.
    """
    if Path(output).exists() and not Path(output).is_dir():
        raise OutputError(f"{output} is a file; give a folder for the masks")
    jobs: list[FileJob] = []
    for source in map(Path, sources):
        folder = source if source.is_dir() else source.parent
        for image in find_images([source]):
            inside = image.relative_to(folder)
            jobs.append(FileJob(image, (Path(output) / inside).with_suffix(".png"), inside.with_suffix("").as_posix()))
    jobs = list(dict.fromkeys(jobs))
    _refuse_clashes(jobs, overlay)
    return jobs


def segment_files(
    predictor: Predictor, jobs: Sequence[FileJob], *, overlay: bool = False, orientation: Orientation = "displayed"
) -> Iterator[FileOutcome]:
    """Segment files one after the other; one that cannot be read is reported and does not stop the rest.

    Args:
        predictor: what segments.
        jobs: see `plan_files`.
        overlay: whether to write the overlay beside the mask.
        orientation: as a predictor takes it.

    Yields:
        What became of each job, in order.
    """
    for job in jobs:
        try:
            result = predictor(job.image, orientation=orientation, name=job.name)
        except RoadsegError as error:
            yield FileOutcome(job, error=error)
            continue
        result.save(job.mask)
        if overlay:
            write_whole(job.overlay, encode_png(Image.fromarray(result.overlay())))
        yield FileOutcome(job, result)


def _refuse_clashes(jobs: Sequence[FileJob], overlay: bool) -> None:
    inputs = {job.image.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        for written in (job.mask, job.overlay) if overlay else (job.mask,):
            if written.resolve() in inputs:
                raise ConfigError(f"{written} would replace an input image; choose another output folder")
            if written in taken:
                raise ConfigError(
                    f"{taken[written]} and {job.image} would both be written to {written}; rename one, or "
                    "segment them apart"
                )
            taken[written] = job.image
