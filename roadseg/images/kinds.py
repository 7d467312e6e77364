"""What a file is, told by its first bytes and never by a name."""

import re
from collections.abc import Callable
from functools import partial

from roadseg.errors import CorruptImageError, ImageError, UnsupportedImageError
from roadseg.images.container import EncodedImage
from roadseg.images.jpeg import parse_jpeg
from roadseg.images.png import MAGIC, parse_png
from roadseg.images.webp import parse_webp

_WEBP = re.compile(rb"RIFF.{4}WEBP", re.DOTALL)

_OTHERS = (
    (rb"GIF8[79]a", "a GIF image"),
    (rb"BM.{4}\0\0\0\0", "a BMP image"),
    (rb"II[*+]\0|MM\0[*+]", "a TIFF image or a camera's raw file"),
    (rb".{4}ftypavi[fs]", "an AVIF image"),
    (rb".{4}ftyp(hei|hev|mif1|msf1)", "an HEIF image, as phones make them"),
    (rb".{4}ftyp", "a video (MP4)"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL image"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (rb"\0\0\x01\0", "an icon (ICO)"),
    (rb"8BPS", "a Photoshop file"),
    (rb"[\x8a\x8b][MJ]NG\r\n", "an MNG or JNG file"),
    (rb"P[1-7]\s", "a PNM image"),
    (rb"%PDF-", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "gzip-compressed"),
    (rb"(\xef\xbb\xbf)?\s{0,99}<(!doctype html|html)", "an HTML page"),
    (rb"(\xef\xbb\xbf)?\s{0,99}<.*?svg", "an SVG drawing"),
    (rb"(\xef\xbb\xbf)?\s{0,99}<", "an XML or HTML text"),
    (rb"data:image/", "a data URL; decode it first"),
    (rb"https?://", "a URL, and none is ever fetched"),
)
_LOOKED_AT = 512
"""Bytes at the beginning that are searched."""


def inspect_image(data: bytes, *, name: str = "image", whole: bool = True) -> EncodedImage:
    """Look through an encoded image without decoding it; takes no memory beyond the file's.

    Args:
        data: the encoded file.
        name: what to call the image in an error.
        whole: refuse a JPEG file that has no end, too; else its decoder finds whether there is enough of it.

    Raises:
        UnsupportedImageError: not JPEG, PNG or WebP, an animation, or of a kind that is not decoded.
        CorruptImageError: empty, cut off, or damaged as far as its container tells.
    """
    if not data:
        raise CorruptImageError(f"{name} is empty (0 bytes)")
    parse = _parser(data, whole)
    if parse is None:
        raise UnsupportedImageError(
            f"{name} is not a JPEG, PNG or WebP image: {_looks_like(data)}; convert it to one of these"
        )
    try:
        return parse(data)
    except ImageError as error:
        raise type(error)(f"{name} {error}") from None


def _parser(data: bytes, whole: bool) -> Callable[[bytes], EncodedImage] | None:
    if data.startswith(b"\xff\xd8\xff"):
        return partial(parse_jpeg, whole=whole)
    if data.startswith(MAGIC):
        return parse_png
    return parse_webp if _WEBP.match(data) else None


def _looks_like(data: bytes) -> str:
    head = data[:_LOOKED_AT]
    kinds = (kind for pattern, kind in _OTHERS if re.match(pattern, head, re.DOTALL | re.IGNORECASE))
    kind = next(kinds, None)
    return f"it is {kind}" if kind else f"it begins with the bytes {data[:8].hex(' ')}, which are of no known kind"
