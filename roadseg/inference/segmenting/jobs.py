"""What is to be done: an image and its mask, a video and its mask."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

VideoOutput = Literal["frames", "mask"]
"""`frames`: a folder of PNG masks, one a frame; `mask`: one lossless video of class ids."""

OVERLAY, CONFIDENCE = "_overlay.png", "_confidence.png"
"""Endings, behind the mask's name without its own, of what lies beside it."""


@dataclass(frozen=True)
class FileJob:
    """An image file and the mask to write for it; what else is written lies beside the mask.

    Attributes:
        image: the file.
        mask: where the mask is written.
        relative: the image's path below the folder that was searched, with forward slashes; its name in manifests.
    """

    image: Path
    mask: Path
    relative: str

    @property
    def name(self) -> str:
        """The frame's name for the patterns of ignore regions: its relative path without ending."""
        return without_ending(self.relative)

    @property
    def overlay(self) -> Path:
        """Where the overlay is written."""
        return self.mask.with_name(f"{self.mask.stem}{OVERLAY}")

    @property
    def confidence(self) -> Path:
        """Where the confidence is written."""
        return self.mask.with_name(f"{self.mask.stem}{CONFIDENCE}")


@dataclass(frozen=True)
class VideoJob:
    """A video file and what is written for it.

    Attributes:
        video: the file.
        mask: the mask video (.mkv), or the folder of the frames' masks.
        relative: as of `FileJob`.
        output: which of the two.
    """

    video: Path
    mask: Path
    relative: str
    output: VideoOutput

    @property
    def name(self) -> str:
        """The video's name for the patterns of ignore regions: its relative path without ending."""
        return without_ending(self.relative)


Job = FileJob | VideoJob


def without_ending(relative: str) -> str:
    """A path less the ending of its file name."""
    folder, slash, name = relative.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return f"{folder}{slash}{stem}" if dot and stem else relative
