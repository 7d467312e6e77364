"""Reading images: the one decoder that training, the predictor and the service share.

One decoder, so that a frame has the same pixels wherever it is read. It is Pillow, which refuses truncated files where
OpenCV's decoders have returned whatever was in memory.
"""

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from roadseg.errors import CorruptImageError, DataError, ImageTooLargeError, UnsupportedImageError
from roadseg.walking import walk_files

Orientation = Literal["displayed", "stored"]
"""`displayed`: the EXIF orientation is applied; `stored`: the raster as the sensor wrote it."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
"""File endings that a folder is searched for, in lower case."""

MAX_PIXELS = 178_956_970
"""Largest image decoded unless the caller says otherwise (Pillow's own bound against decompression bombs)."""

FORMATS = ("JPEG", "PNG", "WEBP")
"""What is decoded, by Pillow's names."""

_EXIF_ORIENTATION = 0x0112


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
    name: str = "image",
    reduction: int = 1,
    box: tuple[int, int, int, int] | None = None,
) -> DecodedImage:
    """Decode a JPEG, PNG or WebP still image; the format is told by the bytes, never by a name.

    16-bit images are scaled to 8 bits (the high byte), grey and palette images become RGB, CMYK is converted, an alpha
    channel is dropped, and bytes behind the image are ignored.

    Args:
        data: the encoded file.
        orientation: whether the EXIF orientation is applied.
        max_pixels: bound on width x height, checked before anything is decoded.
        name: what to call the image in an error.
        reduction: see `roadseg.jpeg_parts.read_reduced_image`.
        box: see `roadseg.jpeg_parts.read_image_part`; the whole image if not given.

    Raises:
        UnsupportedImageError: not JPEG, PNG or WebP, or an animation.
        ImageTooLargeError: more pixels than `max_pixels`.
        CorruptImageError: truncated or damaged.
        DataError: the box is not inside the image.
        ValueError: `orientation` is neither of the two.
    """
    if orientation not in get_args(Orientation):
        raise ValueError(f"orientation is {orientation!r}; use 'displayed' or 'stored'")
    image = _open_still(data, max_pixels, name)
    box = _reduce(image, reduction, box, name)
    pixels, tag = _load(image, orientation, name, box)
    return DecodedImage(pixels, _kind(image), tag, orientation)


def read_image(
    path: str | Path, *, orientation: Orientation = "displayed", max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    """Read an image file; see `decode_image`.

    Raises:
        DataError: when the file cannot be read at all.
        ImageError: as `decode_image` raises it, with the path in the message.
    """
    return decode_image(read_bytes(Path(path)), orientation=orientation, max_pixels=max_pixels, name=str(path))


def read_image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image file as stored, from its header alone.

    Raises:
        DataError: when the file cannot be read at all.
        ImageError: when it is not an image, or its header is damaged.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.height, image.width
    except Exception:  # the careful way finds the words for what is wrong
        data = read_bytes(Path(path))
        opened = _open(data, str(path))
        return opened.height, opened.width


def image_from_pil(image: Image.Image, *, orientation: Orientation = "displayed") -> DecodedImage:
    """Take a PIL image, under the rules of `decode_image`.

    Raises:
        UnsupportedImageError: when it has no pixels.
        CorruptImageError: when its pixels cannot be loaded or converted.
    """
    if 0 in image.size:
        raise UnsupportedImageError(f"the PIL image has no pixels: its size is {image.width}x{image.height}")
    pixels, tag = _load(image, orientation, "the PIL image")
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


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Image files among the given files and folders; folders are searched through, in sorted order.

    Raises:
        DataError: when a path does not exist, or a folder holds no image or cannot be listed.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [path / name for name in walk_files(path, IMAGE_SUFFIXES)]
            if not inside:
                raise DataError(
                    f"{path} holds no image; looked for {', '.join(sorted(IMAGE_SUFFIXES))} in all folders below"
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path} does not exist; give image files, or folders of them")
    return found


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        DataError: when it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        link = f" (a link to {os.readlink(path)})" if os.path.islink(path) else ""
        raise DataError(f"cannot read {path}{link}: {error.strerror or error}") from error


def _open(data: bytes, name: str) -> Image.Image:
    if not data:
        raise CorruptImageError(f"{name} is empty (0 bytes)")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise _unidentified(data, name) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"{name} is too large: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # a decoder fed with hostile bytes may raise anything
        raise CorruptImageError(f"{name} is damaged: {error}") from error


def _open_still(data: bytes, max_pixels: int, name: str) -> Image.Image:
    image = _open(data, name)
    _refuse_large(image, max_pixels, name)
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise UnsupportedImageError(
            f"{name} is an animation of {getattr(image, 'n_frames', 'some')} frames; send one still image"
        )
    return image


def _reduce(
    image: Image.Image, reduction: int, box: tuple[int, int, int, int] | None, name: str
) -> tuple[int, int, int, int] | None:
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


def _kind(image: Image.Image) -> str:
    return "JPEG" if image.format == "MPO" else str(image.format)


def _unidentified(data: bytes, name: str) -> CorruptImageError | UnsupportedImageError:
    known = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
    for magic, kind in known.items():
        if data.startswith(magic):
            return CorruptImageError(
                f"{name} begins like a {kind} file but is damaged or truncated ({len(data)} bytes)"
            )
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return CorruptImageError(f"{name} begins like a WebP file but is damaged or truncated ({len(data)} bytes)")
    return UnsupportedImageError(
        f"{name} is not a JPEG, PNG or WebP image (it begins with {data[:8]!r}); convert it to one of these"
    )


def _refuse_large(image: Image.Image, max_pixels: int, name: str) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{name} is {width}x{height} = {width * height} pixels; at most {max_pixels} pixels are accepted"
        )


def _load(
    image: Image.Image, orientation: Orientation, name: str, box: tuple[int, int, int, int] | None = None
) -> tuple[npt.NDArray[np.uint8], int]:
    try:
        image.load()
        tag = _exif_orientation(image)
        image = image.crop(box) if box and box != (0, 0, *image.size) else image
        rgb = _to_rgb(image)
        if orientation == "displayed" and tag != 1:
            rgb = np.ascontiguousarray(np.asarray(_transpose(Image.fromarray(rgb), tag)))
        return rgb, tag
    except MemoryError:
        raise
    except Exception as error:  # see _open
        raise CorruptImageError(f"{name} is truncated or damaged: {error}") from error


def _exif_orientation(image: Image.Image) -> int:
    try:
        tag = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # unreadable EXIF says nothing about the pixels
        return 1
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1


def _transpose(image: Image.Image, tag: int) -> Image.Image:
    image.getexif()[_EXIF_ORIENTATION] = tag
    return ImageOps.exif_transpose(image)


def _to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode == "RGB":
        return np.array(image)  # nearly every frame; converting would copy it once more
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255; the high byte keeps the picture, as it does for 16-bit RGB.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P":
        image = image.convert("RGBA")  # a palette entry may be transparent, which RGB cannot say
    elif image.mode in {"I", "F"}:
        raise ValueError(f"pixel type {image.mode} has no defined range; save it with 8 or 16 bits a channel")
    return np.array(image.convert("RGB"), dtype=np.uint8)
