"""Reading label masks, and refusing what only looks like one."""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from roadseg.errors import DataError, plural
from roadseg.taxonomy import IGNORE_INDEX

_INDEX_MODES = frozenset({"L", "P", "I;16"})
_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
_NOT_INTERLACED = 0
_SCALED_BITS = {"L;2": 2, "L;4": 4}
"""Grey pixels, as Pillow names them in a file, whose values it scales up to 0..255: 1 of 4 bits arrives as 17."""


def read_index_mask(path: Path) -> npt.NDArray[np.integer]:
    """Read a mask whose pixel values are label ids; of a palette image the indices, not the colours.

    Args:
        path: a PNG.

    Returns:
        (H, W) integers.

    Raises:
        DataError: when the file is unreadable, is grey of less than 8 bits, or holds colours instead of ids.
    """
    with open_mask(path) as image:
        return _indices(image, path)


def read_index_rows(path: Path, size: tuple[int, int], rows: int) -> npt.NDArray[np.integer] | None:
    """Read the uppermost rows of an index mask; nothing below them is decoded, and damage there is not found.

    Args:
        path: a PNG.
        size: (H, W) that it is expected to have.
        rows: how many, at most H.

    Returns:
        (rows, W) integers. None when the file is missing, interlaced, no PNG or of another size: read it whole.

    Raises:
        DataError: as `read_index_mask` raises it.
    """
    try:
        data = _shorten_png(path.read_bytes(), size, rows)
    except OSError:
        return None
    if data is None:
        return None
    with open_mask(path, data) as image:
        return _indices(image, path)


def _shorten_png(data: bytes, size: tuple[int, int], rows: int) -> bytes | None:
    """A PNG whose header says that it ends after so many rows, so that the decoder stops there."""
    header, checksum = data[12:29], data[29:33]
    as_expected = data.startswith(_PNG_START) and header[4:12] == struct.pack(">II", size[1], size[0])
    if not as_expected or header[-1] != _NOT_INTERLACED or checksum != struct.pack(">I", zlib.crc32(header)):
        return None
    header = header[:8] + struct.pack(">I", rows) + header[12:]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def _indices(image: ImageFile.ImageFile, path: Path) -> npt.NDArray[np.integer]:
    if image.mode == "1":
        raise DataError(
            f"mask {path} is black and white (1 bit), but an index mask is expected, whose pixel values are class "
            "ids; export it with 8 bits"
        )
    bits = _scaled_bits(image)
    if bits:
        raise DataError(
            f"mask {path} is grey of {bits} bits, whose values are read as shades, not as class ids; export it "
            "with 8 bits, or as a palette PNG"
        )
    if image.mode not in _INDEX_MODES:
        raise DataError(
            f"mask {path} is an image of colours ({image.mode}), but an index mask is expected: one channel whose "
            "pixel values are class ids; export it as an index or palette PNG"
        )
    return np.array(image)


def _scaled_bits(image: ImageFile.ImageFile) -> int | None:
    """Bits of grey pixels that do not arrive as they are in the file; known only until the pixels are loaded."""
    return next((_SCALED_BITS[tile[3]] for tile in image.tile if tile[3] in _SCALED_BITS), None)


@contextmanager
def open_mask(path: Path, data: bytes | None = None) -> Iterator[ImageFile.ImageFile]:
    """Open a still PNG, and say what is wrong with a file that is none, whenever that comes to light.

    Args:
        path: the file.
        data: what to decode in its place.

    Raises:
        DataError: when the file is unreadable, lossy or an animation.
    """
    try:
        # JPEG is opened only to be refused by name. Others, such as GIF, may store other indices than were drawn.
        with Image.open(path if data is None else io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.format == "JPEG":
                raise DataError(f"mask {path} is a JPEG, whose compression changes ids; export it as a PNG")
            if getattr(image, "is_animated", False):
                raise DataError(f"mask {path} is an animation; export it as one still PNG")
            yield image
    except Image.UnidentifiedImageError as error:
        raise DataError(f"mask {path} cannot be read: it is not a PNG; export it again as a PNG") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"mask {path} cannot be read ({error}); export it again as a PNG") from error


class LabelTable:
    """Maps the label ids of a dataset to the ids of masks.

    Args:
        targets: label id, 0..65535 -> id in the mask, or 255 for pixels to ignore. Every other label id is refused.
    """

    def __init__(self, targets: Mapping[int, int]) -> None:
        self.known = sorted(targets)
        self._target = np.full(65536, IGNORE_INDEX, np.uint8)
        self._is_known = np.zeros(65536, bool)
        for source, target in targets.items():
            self._target[source] = target
            self._is_known[source] = True
        self._first_unknown = 65536 if self._is_known.all() else int(np.argmin(self._is_known))
        self._is_identity = all(source == target for source, target in targets.items())

    def apply(self, labels: npt.NDArray[np.integer], path: Path) -> npt.NDArray[np.uint8]:
        """Mask ids (H, W) uint8 of label ids (H, W).

        Raises:
            DataError: when an id is outside the label set; the message names ids, counts and file.
        """
        self.check(labels, path)
        return self.look_up(labels)

    def check(self, labels: npt.NDArray[np.integer], path: Path) -> None:
        """Refuse label ids that are not of the label set.

        Raises:
            DataError: naming ids, counts and file.
        """
        strange = self._strange(labels)
        if strange is None:
            return
        values, counts = np.unique(labels[strange], return_counts=True)
        listed = ", ".join(f"{v} ({n} pixels)" for v, n in list(zip(values, counts, strict=True))[:5])
        raise DataError(
            f"mask {path} holds {plural(len(values), 'value')} outside the label set: {listed}; allowed are "
            f"{_ranges(self.known)}: correct the mask, or check that its dataset is the right one"
        )

    def look_up(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Mask ids (H, W) uint8 of checked label ids (H, W); the array itself when every id stays the same."""
        if labels.dtype == np.uint8:
            if self._is_identity:
                return labels.astype(np.uint8, copy=False)
            return cv2.LUT(labels, self._target[:256])  # some ten times as fast as indexing
        return self._target[labels]

    def _strange(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_] | None:
        """Where label ids are unknown, or None: nearly always, so this is the quick way to know."""
        if labels.dtype.kind == "u" and labels.size and labels.max() < self._first_unknown:
            return None
        if labels.dtype == np.uint8:
            known = cv2.LUT(labels, self._is_known[:256].astype(np.uint8))
            return None if cv2.countNonZero(known) == known.size else known == 0
        if labels.dtype == np.uint16:
            return None if self._is_known[labels].all() else ~self._is_known[labels]
        outside = (labels < 0) | (labels > 65535)
        strange = outside | ~self._is_known[np.where(outside, 0, labels)]
        return strange if strange.any() else None


def _ranges(ids: list[int]) -> str:
    """Sorted ids in words: 0 to 18, 255."""
    among = set(ids)
    starts = [i for i in ids if i - 1 not in among]
    ends = [i for i in ids if i + 1 not in among]
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True))
