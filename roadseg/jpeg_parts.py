"""Reading less than a whole image: at a part of its size, or a part of it; of JPEG files in a part of the time."""

from pathlib import Path

from roadseg.images import MAX_PIXELS, DecodedImage, Orientation, decode_image, read_bytes

_OTHER_FRAMES = frozenset(range(0xC2, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers of progressive, lossless and arithmetic-coded images."""

_CONTEXT_ROWS = 16
"""Decoded below a part, since a decoder interpolates colours between rows."""


def read_reduced_image(
    path: str | Path, reduction: int, *, orientation: Orientation = "displayed", max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    """Read an image file at a part of its size: JPEG decodes to 1/2, 1/4 or 1/8 in a fraction of the time.

    Args:
        path: the file; formats that cannot do this are read whole.
        reduction: 1, 2, 4 or 8; the sides are divided by it, rounded up.
        orientation: see `decode_image`.
        max_pixels: bound on the whole image.

    Raises:
        DataError: when the file cannot be read at all.
        ImageError: as `decode_image` raises it, with the path in the message.
        ValueError: another reduction.
    """
    if reduction not in (1, 2, 4, 8):
        raise ValueError(f"reduction is {reduction}; use 1, 2, 4 or 8")
    data = read_bytes(Path(path))
    return decode_image(data, orientation=orientation, max_pixels=max_pixels, name=str(path), reduction=reduction)


def read_image_part(
    path: str | Path, box: tuple[int, int, int, int], reduction: int = 1, *, max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    """Read a part of an image file as stored; of most JPEG files nothing below it is decoded.

    The pixels are those that a whole read gives there. Damage below the part is not found.

    Args:
        path: the file.
        box: top, left, bottom and right in px of the whole image, multiples of `reduction`.
        reduction: see `read_reduced_image`.
        max_pixels: bound on the pixels that are decoded.

    Returns:
        The part: of JPEG files at 1/reduction of its sides, of others whole.

    Raises:
        DataError: when the file cannot be read at all, or the box is not inside the image.
        ImageError: as `decode_image` raises it, with the path in the message.
    """
    return decode_image_part(read_bytes(Path(path)), box, reduction, max_pixels=max_pixels, name=str(path))


def decode_image_part(
    data: bytes,
    box: tuple[int, int, int, int],
    reduction: int = 1,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str = "image",
) -> DecodedImage:
    """Decode a part of an encoded image; see `read_image_part`.

    Raises:
        DataError: when the box is not inside the image.
        ImageError: as `decode_image` raises it.
    """
    shortened = _shorten_jpeg(data, box[2] + _CONTEXT_ROWS * reduction)
    return decode_image(shortened, orientation="stored", max_pixels=max_pixels, name=name, reduction=reduction, box=box)


def _shorten_jpeg(data: bytes, rows: int) -> bytes:
    """A JPEG file whose header says that it ends after so many rows, so that decoders stop there.

    Only for files of one scan over all components (baseline, not progressive); others, and what is no JPEG, stay as
    they are.
    """
    at, frame = 2, None
    while data.startswith(b"\xff\xd8") and at + 10 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xC0, 0xC1):
            frame = at
        elif marker == 0xDA:  # the pixels begin
            if frame is None or data[at + 4] != data[frame + 9] or int.from_bytes(data[frame + 5 : frame + 7]) <= rows:
                return data
            return data[: frame + 5] + rows.to_bytes(2, "big") + data[frame + 7 :]
        elif marker in _OTHER_FRAMES or not 0xC0 <= marker < 0xFF:
            break
        at += 2 + length
    return data
