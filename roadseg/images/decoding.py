"""From an encoded image, a PIL image or an array to RGB pixels, by one set of rules."""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from roadseg.errors import CorruptImageError, DataError, ImageTooLargeError, UnsupportedImageError
from roadseg.images.container import MAX_PIXELS, MAX_SIDE_PX, EncodedImage
from roadseg.images.kinds import inspect_image
from roadseg.images.png import has_all_rows

Orientation = Literal["displayed", "stored"]
"""`displayed`: the EXIF orientation is applied; `stored`: the raster as the sensor wrote it."""

Box = tuple[int, int, int, int]
"""Top, left, bottom and right in px."""

_EXIF_ORIENTATION = 0x0112

_FILLER = hashlib.sha512(b"roadseg").digest().replace(b"\xff", b"\0")
"""Bytes without a marker that decode to no even grey."""


_STRIP_PIXELS = 1 << 18
"""Converted at once."""

_TURNS: Mapping[int, Callable[[Any], Any]] = {
    1: lambda rgb: rgb,
    2: lambda rgb: cv2.flip(rgb, 1),
    3: lambda rgb: cv2.rotate(rgb, cv2.ROTATE_180),
    4: lambda rgb: cv2.flip(rgb, 0),
    5: cv2.transpose,
    6: lambda rgb: cv2.rotate(rgb, cv2.ROTATE_90_CLOCKWISE),
    7: lambda rgb: cv2.transpose(cv2.rotate(rgb, cv2.ROTATE_180)),
    8: lambda rgb: cv2.rotate(rgb, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""From the stored raster to the displayed one, by EXIF orientation."""


@dataclass(frozen=True)
class DecodedImage:
    """An image and what was done to read it.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, C-contiguous.
        format: "JPEG", "PNG" or "WEBP".
        exif_orientation: the tag found in the file, 1..8; 1 where there is none.
        orientation: which raster `pixels` is.
    """

    pixels: npt.NDArray[np.uint8]
    format: str
    exif_orientation: int
    orientation: Orientation


def decode_image(
    data: bytes,
    *,
    orientation: Orientation = "displayed",
    max_pixels: int = MAX_PIXELS,
    max_side_px: int = MAX_SIDE_PX,
    name: str = "image",
    reduction: int = 1,
    box: Box | None = None,
) -> DecodedImage:
    """Decode a JPEG, PNG or WebP still image; the format is told by the bytes, never by a name.

    16-bit images are scaled to 8 bits (the high byte), grey and palette images become RGB, CMYK is converted, an alpha
    channel is dropped, and bytes behind the image are ignored; docs/decoding.md has the whole table.

    Args:
        data: the encoded file.
        orientation: whether the EXIF orientation is applied.
        max_pixels: bound on width x height, checked before anything is decoded.
        max_side_px: bound on width and on height, checked before anything is decoded.
        name: what to call the image in an error.
        reduction: see `roadseg.jpeg_parts.read_reduced_image`.
        box: see `roadseg.jpeg_parts.read_image_part`; the whole image if not given.

    Raises:
        UnsupportedImageError: not JPEG, PNG or WebP, an animation, or of a kind that is not decoded.
        ImageTooLargeError: more pixels than `max_pixels`, or a longer side than `max_side_px`.
        CorruptImageError: truncated or damaged.
        DataError: the box is not inside the image.
        ValueError: `orientation` is neither of the two.
    """
    if orientation not in get_args(Orientation):
        raise ValueError(f"orientation is {orientation!r}; use 'displayed' or 'stored'")
    encoded = inspect_image(data, name=name, whole=box is None)
    encoded.refuse_large(max_pixels, max_side_px, name)
    return decode_inspected(encoded, orientation=orientation, name=name, reduction=reduction, box=box)


def decode_inspected(
    encoded: EncodedImage,
    *,
    orientation: Orientation = "displayed",
    name: str = "image",
    reduction: int = 1,
    box: Box | None = None,
) -> DecodedImage:
    """Decode an image that `inspect_image` looked through and whose size the caller takes; see `decode_image`.

    Raises:
        CorruptImageError: the decoder finds it damaged.
        DataError: the box is not inside the image.
    """
    image = _open(encoded, encoded.bare(), name)
    box = _reduce(image, reduction, box, name)
    _load(image, name)
    if reduction == 1 and box is None:
        _refuse_short_scan(encoded, image, name)
        _refuse_short_rows(encoded, image, name)
    image = image.crop(box) if box else image
    pixels = _displayed(image, orientation, encoded.exif_orientation, name)
    return DecodedImage(pixels, encoded.format, encoded.exif_orientation, orientation)


def encoded_image_size(data: bytes, *, name: str = "image") -> tuple[int, int]:
    """(H, W) of an encoded image as stored, without decoding it.

    Raises:
        ImageError: when it is not an image, or its container is damaged.
    """
    encoded = inspect_image(data, name=name)
    return encoded.height, encoded.width


def image_from_pil(image: Image.Image, *, orientation: Orientation = "displayed") -> DecodedImage:
    """Take a PIL image, under the rules of `decode_image`.

    Raises:
        UnsupportedImageError: when it has no pixels.
        CorruptImageError: when its pixels cannot be loaded or converted.
    """
    if 0 in image.size:
        raise UnsupportedImageError(f"the PIL image has no pixels: its size is {image.width}x{image.height}")
    _load(image, "the PIL image")
    tag = _exif_orientation(image)
    pixels = _displayed(image, orientation, tag, "the PIL image")
    return DecodedImage(pixels, image.format or "array", tag, orientation)


def image_from_array(array: npt.NDArray[np.uint8]) -> DecodedImage:
    """Take an (H, W, 3) uint8 RGB array.

    Raises:
        UnsupportedImageError: when shape or type differ; the message says how to convert.
    """
    if not isinstance(array, np.ndarray):
        raise UnsupportedImageError(f"an image is an array, a path, bytes or a PIL image; got {type(array).__name__}")
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UnsupportedImageError(f"an image array has shape (H, W, 3) in RGB order; got shape {array.shape}")
    if array.dtype != np.uint8:
        raise UnsupportedImageError(
            f"an image array is uint8 with values 0..255; got {array.dtype}: scale and convert it, .astype(np.uint8)"
        )
    return DecodedImage(np.ascontiguousarray(array), "array", 1, "displayed")


def _open(encoded: EncodedImage, bare: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(bare), formats=(encoded.format,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"{name} is too large: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # a decoder fed with hostile bytes may raise anything
        raise CorruptImageError(f"{name} is damaged: {error}") from error
    if image.size != (encoded.width, encoded.height):
        raise CorruptImageError(f"{name} is damaged: its headers disagree about its size")
    return image


def _load(image: Image.Image, name: str) -> None:
    # A switch of the whole process, which other libraries turn on; then files cut off in their pixels would pass.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # see _open
        raise CorruptImageError(f"{name} is truncated or damaged: {error}") from error


def _reduce(image: Image.Image, reduction: int, box: Box | None, name: str) -> Box | None:
    """Have an image decoded at a part of its size, if it can be; gives (left, top, right, bottom) of the box there."""
    width, height = image.size
    top, left, bottom, right = box or (0, 0, height, width)
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise DataError(
            f"{name} is {width}x{height} (width x height), and has no part {[top, left, bottom, right]}; "
            "read its size again"
        )
    if reduction > 1:
        image.draft(None, (max(1, width // reduction), max(1, height // reduction)))
    factor = reduction if image.size != (width, height) else 1
    return None if box is None else (left // factor, top // factor, right // factor, bottom // factor)


def _refuse_short_scan(encoded: EncodedImage, image: Image.Image, name: str) -> None:
    """Refuse a JPEG whose one scan ends before the picture does, which libjpeg fills with even grey without a word.

    Whatever the scan lacks, the last pixel is then grey. Where it is, the file is decoded once more with other bytes
    before its end marker: a whole picture does not get that far.
    """
    if not encoded.scan_tail or not _is_middle_grey(image):
        return
    bare = encoded.bare()
    end = len(bare) - encoded.scan_tail
    other = _open(encoded, bare[:end] + _FILLER + bare[end:], name)
    _load(other, name)
    if other.tobytes() != image.tobytes():
        raise CorruptImageError(
            f"{name} is truncated or damaged: its JPEG data end before its {image.width}x{image.height} pixels"
        )


def _refuse_short_rows(encoded: EncodedImage, image: Image.Image, name: str) -> None:
    """Refuse a PNG whose pixels end early, which Pillow leaves black without a word; looked into where the end is."""
    if not encoded.raw_bytes:
        return
    last = image.crop((0, image.height - 1, image.width, image.height))
    if (encoded.interlaced or not np.asarray(last).any()) and not has_all_rows(encoded):
        raise CorruptImageError(
            f"{name} is truncated or damaged: its PNG data end before its {image.width}x{image.height} pixels"
        )


def _is_middle_grey(image: Image.Image) -> bool:
    """Whether the last pixel may be what zero coefficients become, up to colours that spread from its neighbours."""
    last = image.getpixel((image.width - 1, image.height - 1))
    channels = last if isinstance(last, tuple) else (last,)
    if len(channels) == 4:
        return channels[3] == 127  # inverted black
    return abs(float(np.mean(np.asarray(Image.new(image.mode, (1, 1), last).convert("L")))) - 128) <= 2


def _displayed(image: Image.Image, orientation: Orientation, tag: int, name: str) -> npt.NDArray[np.uint8]:
    try:
        rgb = _to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # see _open
        raise CorruptImageError(f"{name} is damaged: {error}") from error
    return rgb if orientation == "stored" else _TURNS[tag](rgb)


def _exif_orientation(image: Image.Image) -> int:
    try:
        tag = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # unreadable EXIF says nothing about the pixels
        return 1
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1


def _to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    """In strips: a whole image would be in memory four times over, in the ways that Pillow and numpy meet."""
    if image.mode in {"I", "F"}:
        raise ValueError(f"pixel type {image.mode} has no defined range; save it with 8 or 16 bits a channel")
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        rgb[top : top + rows] = np.asarray(_as_rgb(strip))
    return rgb


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255; the high byte keeps the picture, as it does for 16-bit RGB.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P":
        image = image.convert("RGBA")  # a palette entry may be transparent, which RGB cannot say
    return image if image.mode == "RGB" else image.convert("RGB")
