"""The container of WebP: its chunks, and which of them is the picture.

Source: WebP Container Specification (developers.google.com/speed/webp); RFC 9649; RFC 6386, section 9.1.
"""

from collections.abc import Iterator
from itertools import islice

from roadseg.errors import CorruptImageError, UnsupportedImageError, plural
from roadseg.images.container import EncodedImage
from roadseg.images.exif import exif_orientation

_MAX_CHUNKS = 65_536
_ANIMATED = 0x02
"""Flag of the extended header."""


def parse_webp(data: bytes) -> EncodedImage:
    """Look through a WebP file; what lies behind it is not looked at.

    A separate plane of transparency is left out, since it is not used; so is all metadata.

    Raises:
        CorruptImageError: cut off, or damaged as far as its chunks tell.
        UnsupportedImageError: an animation.
    """
    chunks = list(islice(_chunks(data), _MAX_CHUNKS + 1))
    if len(chunks) > _MAX_CHUNKS:
        raise UnsupportedImageError(f"has more than {_MAX_CHUNKS} WebP chunks; save it anew")
    names = [name for name, _ in chunks]
    header = chunks[0][1] if names[:1] == [b"VP8X"] else b""
    if {b"ANIM", b"ANMF"}.intersection(names) or (header and header[0] & _ANIMATED):
        frames = plural(names.count(b"ANMF"), "frame")
        raise UnsupportedImageError(f"is an animation of {frames}; send one still image")
    canvas = (_number(header[4:7]) + 1, _number(header[7:10]) + 1) if header else None
    exif = next((payload for name, payload in chunks if name == b"EXIF"), b"")
    pictures = [chunk for chunk in chunks if chunk[0] in (b"VP8 ", b"VP8L")]
    if len(pictures) != 1:
        raise CorruptImageError(f"is damaged: a still WebP file holds one picture, and this one {len(pictures)}")
    ((name, payload),) = pictures
    width, height = _lossy_size(payload) if name == b"VP8 " else _lossless_size(payload)
    if canvas not in (None, (width, height)):
        raise CorruptImageError(f"is damaged: its header says {canvas}, and its picture is {width}x{height} pixels")
    padded = payload + bytes(len(payload) % 2)
    pieces = (b"RIFF", _four(len(padded) + 12), b"WEBP", name, _four(len(payload)), padded)
    return EncodedImage("WEBP", width, height, exif_orientation(exif), pieces)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    end = 8 + _number(data[4:8])
    if end > len(data):
        raise CorruptImageError(f"is truncated or damaged: its header says {end} bytes, and {len(data)} are there")
    at = 12
    while at + 8 <= end:
        size = _number(data[at + 4 : at + 8])
        if at + 8 + size > end:
            raise CorruptImageError(f"is damaged: a WebP chunk that begins at byte {at} ends behind the image")
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _lossy_size(frame: bytes) -> tuple[int, int]:
    width, height = (_number(frame[i : i + 2]) & 0x3FFF for i in (6, 8))
    if len(frame) < 10 or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a" or not (width and height):
        raise CorruptImageError("is damaged: its VP8 picture begins with no key frame")
    return width, height


def _lossless_size(frame: bytes) -> tuple[int, int]:
    bits = _number(frame[1:5])
    if len(frame) < 5 or frame[0] != 0x2F or bits >> 29:
        raise CorruptImageError("is damaged: its VP8L picture has no signature, or an unknown version")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _number(field: bytes) -> int:
    return int.from_bytes(field, "little")


def _four(number: int) -> bytes:
    return number.to_bytes(4, "little")
