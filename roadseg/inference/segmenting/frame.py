"""One frame outside the network: reading it, and writing what was found in it. Runs in threads beside the network."""

import hashlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.errors import DataError, ImageTooLargeError, RoadsegError
from roadseg.images import FORMATS, DecodedImage, Orientation, decode_image, read_bytes
from roadseg.inference.result import SegmentationResult, encode_png, write_whole
from roadseg.inference.segmenting.jobs import FileJob
from roadseg.inference.segmenting.manifest import Row
from roadseg.inference.segmenting.names import name_fields
from roadseg.inference.segmenting.products import Products
from roadseg.taxonomy import IGNORE_INDEX

MAX_FILE_BYTES = 1 << 31
"""A larger file is not read at all. The largest image that is decoded takes 1.4 GB in 16 bits, uncompressed."""


@dataclass(frozen=True)
class ReadFrame:
    """A frame on its way to the network.

    Attributes:
        job: what is done.
        image: the decoded image.
        source: the manifest's fields about the file.
        seconds: that reading it took.
    """

    job: FileJob
    image: DecodedImage
    source: Row
    seconds: float

    @property
    def pixels(self) -> int:
        """How many it has."""
        return self.image.pixels.shape[0] * self.image.pixels.shape[1]


@dataclass(frozen=True)
class Outcome:
    """What became of a frame or a video.

    Attributes:
        relative: its path below the folder that was searched.
        row: of the manifest; None when the frame was done before.
        error: what kept it from a mask.
        frames: how many images it stands for.
    """

    relative: str
    row: Row | None = None
    error: RoadsegError | None = None
    frames: int = 1


def expected_pixels(job: FileJob, known: Row | None) -> int:
    """How many pixels a frame will probably have, from its file's header.

    Args:
        job: what is done.
        known: the frame's row of an earlier run, which is believed: no file of millions that are done is opened.

    Returns:
        Height times width; where that is unknown as many as the file has bytes, which are in memory before it is known
        that they are no image.
    """
    try:
        height, width = known["size"] if known is not None and "size" in known else _size_in_header(job.image)
        return int(height) * int(width)
    except Exception:  # reading it will say what is wrong
        return stat_fields(job.image)["bytes"] or 0


def _size_in_header(path: Path) -> tuple[int, int]:
    _refuse_endless(path)
    with Image.open(path, formats=FORMATS) as image:
        return image.height, image.width


def read_frame(job: FileJob, orientation: Orientation, known: Row | None, products: Products) -> ReadFrame | None:
    """Read and decode a frame.

    Args:
        job: what is done.
        orientation: as a predictor takes it.
        known: the frame's row of an earlier run that this one continues.
        products: what is written beside the mask.

    Returns:
        The frame; None when the earlier run did it, from the file as it is now, and what it wrote is still there.

    Raises:
        DataError: when the file cannot be read.
        ImageError: when it cannot be decoded.
    """
    begun = time.perf_counter()
    written = known is not None and is_written(job, known, products)
    if known is not None and written and stat_fields(job.image).items() <= known.items():
        return None
    _refuse_endless(job.image)
    source = stat_fields(job.image)  # before reading: a file that changes meanwhile is read again by the next run
    data = read_bytes(job.image)
    source["sha256"] = hashlib.sha256(data).hexdigest()
    if known is not None and written and known.get("sha256") == source["sha256"]:
        return None
    image = decode_image(data, orientation=orientation, name=str(job.image))
    return ReadFrame(job, image, source, time.perf_counter() - begun)


def _refuse_endless(path: Path) -> None:
    """Refuse what would be waited for, or read, without end: a pipe, a disk image that somebody called .jpg."""
    try:
        found = os.stat(path)
    except OSError:
        return  # reading it will say what is wrong
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} is no file but a pipe, a device or a folder; take it away")
    if found.st_size > MAX_FILE_BYTES:
        raise ImageTooLargeError(
            f"{path} has {found.st_size} bytes; an image that can be decoded has at most {MAX_FILE_BYTES}"
        )


def is_written(job: FileJob, row: Row, products: Products) -> bool:
    """Whether a row tells of a mask, and it and all that goes with it is there, the mask in its right length."""
    if "error" in row or "mask_sha256" not in row:
        return False
    try:
        return job.mask.stat().st_size == row["mask_bytes"] and all(path.is_file() for path in products.beside(job))
    except OSError:
        return False


def write_frame(frame: ReadFrame, result: SegmentationResult, products: Products, inference_s: float) -> Row:
    """Write a frame's mask and what belongs beside it.

    Args:
        frame: what was read.
        result: what was found, with its confidence.
        products: what is written beside the mask.
        inference_s: seconds that the network took.

    Returns:
        The frame's row of the manifest.

    Raises:
        OutputError: when a file cannot be written.
    """
    begun = time.perf_counter()
    job, confidence = frame.job, result.confidence
    png = result.png()
    if products.overlay:
        write(job.overlay, encode_png(Image.fromarray(result.overlay())))
    if products.confidence and confidence is not None:
        write(job.confidence, encode_png(Image.fromarray(as_grey(confidence))))
    write(job.mask, png)
    pixels, left_out = class_pixels(result.mask, result.taxonomy.names)
    seconds = frame.seconds + inference_s + time.perf_counter() - begun
    return {
        **name_fields("image", job.relative),
        **frame.source,
        "size": list(result.mask.shape),
        "exif_orientation": result.exif_orientation,
        **name_fields("mask", mask_name(job)),
        "mask_sha256": hashlib.sha256(png).hexdigest(),
        "mask_bytes": len(png),
        **products.fields(),
        "classes": pixels,
        "left_out_px": left_out,
        "mean_confidence": None if confidence is None else mean_confidence(confidence),
        "seconds": round(seconds, 4),
    }


def failed_row(job: FileJob, error: Exception) -> Row:
    """The row of a frame that came to nothing; what a killed run left half-written of it is removed."""
    for path in (job.mask, job.overlay, job.confidence):
        try:
            unfinished(path).unlink(missing_ok=True)
        except OSError:
            break
    return {**name_fields("image", job.relative), "error": readable_error(error)}


def readable_error(error: Exception) -> str:
    """An error's words, as text that UTF-8 can say."""
    words = str(error) if isinstance(error, RoadsegError) else f"{type(error).__name__}: {error}".removesuffix(": ")
    return words.encode("utf-8", "backslashreplace").decode()


def mask_name(job: FileJob) -> str:
    """A mask's path below the output folder, with forward slashes."""
    return f"{job.name}.png"


def write(path: Path, data: bytes) -> None:
    """Write a file whole. Its temporary name is always the same, so that a run that goes on replaces what is left.

    Raises:
        OutputError: when it cannot be written.
    """
    write_whole(path, data, temporary=unfinished(path))


def unfinished(path: Path) -> Path:
    """The name of a file that is being written."""
    return path.with_name(f".{path.name}.part")


def class_pixels(mask: npt.NDArray[np.uint8], names: list[str]) -> tuple[dict[str, int], int]:
    """Pixels of each class that occurs, and how many have none."""
    counts = Image.fromarray(np.ascontiguousarray(mask)).histogram()  # ten times as fast as bincount, which widens
    return {name: n for name, n in zip(names, counts, strict=False) if n}, counts[IGNORE_INDEX]


def mean_confidence(confidence: npt.NDArray[np.float32]) -> float | None:
    """Mean over the pixels outside ignore regions, where it is 0; None when there are none."""
    counted = cv2.countNonZero(confidence)
    return round(cv2.sumElems(confidence)[0] / counted, 6) if counted else None


def as_grey(confidence: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """(H, W) float32 in 0..1 as uint8: 255 x confidence, rounded."""
    return cv2.convertScaleAbs(confidence, alpha=255)


def stat_fields(path: Path) -> Row:
    """Size and times of a file. Files that agree in them are taken to be the same without being read."""
    try:
        found = os.stat(path)
    except OSError:
        return {"bytes": None}  # reading it will say what is wrong
    return {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
