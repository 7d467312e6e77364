"""What is written beside a mask."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roadseg.inference.segmenting.jobs import CONFIDENCE, OVERLAY, FileJob


@dataclass(frozen=True)
class Products:
    """What is written beside a mask.

    Attributes:
        overlay: NAME_overlay.png, the mask's colours over the image.
        confidence: NAME_confidence.png, 8-bit grey: 255 x confidence, rounded, so exact to 0.002. In 16 bits it would
            take several times the room, for digits that no calibration of a network backs.
    """

    overlay: bool = False
    confidence: bool = False

    def names(self, stem: str) -> Iterator[str]:
        """The names of what lies beside a mask, from the mask's without ending."""
        if self.overlay:
            yield stem + OVERLAY
        if self.confidence:
            yield stem + CONFIDENCE

    def fields(self) -> dict[str, bool]:
        """What a row of the manifest says of them: those that are written, as true."""
        return {name: True for name in ("overlay", "confidence") if getattr(self, name)}

    def beside(self, job: FileJob) -> Iterator[Path]:
        """The files of a job, its mask left out."""
        if self.overlay:
            yield job.overlay
        if self.confidence:
            yield job.confidence


MASK_ALONE = Products()
