"""What a predictor returns, and how a mask is written and shown."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.errors import ConfigError, OutputError
from roadseg.taxonomy import Taxonomy


@dataclass(frozen=True)
class SegmentationResult:
    """The mask of one image.

    Attributes:
        image: (H, W, 3) uint8 RGB, the raster that the mask belongs to.
        mask: (H, W) uint8, class ids of `taxonomy`; 255 in ignore regions, and where the confidence is too low.
        taxonomy: the classes.
        model_digest: SHA-256 of the model file, in hexadecimal.
        confidence: (H, W) float32 in 0..1, the probability of the chosen class, or its margin over the second (see
            `roadseg.inference.options.ConfidenceKind`); None unless asked for.
        exif_orientation: the tag of the source file, 1..8 (1: none, or the source was an array).
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    taxonomy: Taxonomy
    model_digest: str
    confidence: npt.NDArray[np.float32] | None = None
    exif_orientation: int = 1

    def areas(self) -> dict[str, int]:
        """Pixels of each class that occurs, by class name, in id order."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.taxonomy))
        return {name: int(count) for name, count in zip(self.taxonomy.names, counts, strict=False) if count}

    def overlay(self, opacity: float = 0.5) -> npt.NDArray[np.uint8]:
        """The image with the class colours laid over it.

        Args:
            opacity: 0 shows the image alone, 1 the colours alone.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            ConfigError: when opacity is outside 0..1.
        """
        if not 0 <= opacity <= 1:
            raise ConfigError(f"opacity is {opacity}; use a value from 0 to 1")
        colours = self.taxonomy.palette[self.mask]
        return np.asarray(cv2.addWeighted(self.image, 1 - opacity, colours, opacity, 0), dtype=np.uint8)

    def png(self) -> bytes:
        """The mask as a palette PNG; see `encode_mask`."""
        return encode_mask(self.mask, self.taxonomy)

    def save(self, path: str | Path) -> None:
        """Write the mask as a palette PNG, whole or not at all."""
        write_whole(Path(path), self.png())


def encode_mask(mask: npt.NDArray[np.uint8], taxonomy: Taxonomy) -> bytes:
    """Encode a mask as a palette PNG: pixel values are class ids, the palette holds the taxonomy's colours.

    All 256 entries are written, so that a pixel is one byte in every reader and 255 (ignore) is a valid value.
    """
    picture = Image.fromarray(np.ascontiguousarray(mask)).convert("L")
    picture.putpalette(taxonomy.palette.tobytes())
    return encode_png(picture)


def encode_png(picture: Image.Image) -> bytes:
    """PNG bytes. Level 3: masks and photographs grow by a few per cent against 6, and take a third of the time."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def write_whole(path: Path, data: bytes, *, temporary: Path | None = None) -> None:
    """Write a file through a temporary name, so that a reader or a crash never meets half of it.

    Args:
        path: the file; folders above it are made.
        data: its bytes.
        temporary: a name beside it; by default one of this process.

    Raises:
        OutputError: when it cannot be written.
    """
    temporary = temporary or path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another place or make room"
        ) from error
