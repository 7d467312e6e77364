"""The container of PNG: its chunks, all of them checked, and which of them are the picture.

Source: Portable Network Graphics (PNG) Specification, third edition (W3C, 2025).
"""

import zlib
from collections.abc import Iterator

from roadseg.errors import CorruptImageError, UnsupportedImageError, plural
from roadseg.images.container import EncodedImage
from roadseg.images.exif import exif_orientation

MAGIC = b"\x89PNG\r\n\x1a\n"

_MAX_CHUNKS = 65_536
"""Files of strangers may hold millions of empty ones, which take time."""

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits a channel by colour type: grey, RGB, palette, grey with alpha, RGB with alpha."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

_PALETTE = 3

_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Of interlaced pixels: first row and column, and steps between rows and columns."""

_INFLATED_AT_ONCE = 1 << 18

_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")

_Chunk = tuple[bytes, int, int]
"""Its name, and where in the file it begins and ends."""


def parse_png(data: bytes) -> EncodedImage:
    """Look through a PNG file from its signature to its end chunk; what lies behind that is not looked at.

    Pillow stops at the last row, and takes a file that is cut off behind it and one whose checksums are wrong.

    Raises:
        CorruptImageError: cut off, or damaged as far as its chunks and their checksums tell.
        UnsupportedImageError: an animation, or of a kind that the standard does not know.
    """
    chunks = list(_chunks(data))
    names = [name for name, _, _ in chunks]
    width, height, bits, colour, interlaced = _header(data, chunks)
    if b"acTL" in names:
        at = chunks[names.index(b"acTL")][1]
        frames = plural(int.from_bytes(data[at + 8 : at + 12], "big"), "frame")
        raise UnsupportedImageError(f"is an animation of {frames}; send one still image")
    unknown = [name for name in names if not name[0] & 0x20 and name not in _CRITICAL]
    if unknown:
        raise UnsupportedImageError(f"is a PNG file with the unknown critical chunk {unknown[0].decode('ascii')}")
    first = names.index(b"IDAT") if b"IDAT" in names else 0
    last = first + names.count(b"IDAT")
    if not first or set(names[first:last]) != {b"IDAT"}:
        raise CorruptImageError("is damaged: its IDAT chunks are not there, or not in one row")
    palette = [i for i in range(first) if names[i] == b"PLTE"]
    if colour == _PALETTE and len(palette) != 1:
        raise CorruptImageError(f"is damaged: it has {len(palette)} palettes before its pixels, and needs one")
    kept = [0, *(palette if colour == _PALETTE else []), *range(first, last), len(chunks) - 1]
    pieces = (MAGIC, *(data[chunks[i][1] : chunks[i][2]] for i in kept))
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    sides = [(-(-(width - x) // dx), -(-(height - y) // dy)) for y, x, dy, dx in passes]
    raw = sum(high * (1 + -(-wide * bits // 8)) for wide, high in sides if wide > 0 and high > 0)
    tag = _orientation(data, chunks)
    return EncodedImage("PNG", width, height, tag, pieces, raw_bytes=raw, interlaced=interlaced)


def has_all_rows(image: EncodedImage) -> bool:
    """Whether a PNG's pixels inflate to as many bytes as its header says; takes as long as decoding half of it."""
    inflate, left = zlib.decompressobj(), image.raw_bytes
    try:
        for piece in image.pieces:
            pending = piece[8:-4] if piece[4:8] == b"IDAT" else b""
            while pending and left > 0:
                left -= len(inflate.decompress(pending, _INFLATED_AT_ONCE))
                pending = inflate.unconsumed_tail
    except zlib.error:
        return False
    return left <= 0


def _chunks(data: bytes) -> Iterator[_Chunk]:
    at, count, view = len(MAGIC), 0, memoryview(data)
    name = b""
    while name != b"IEND":
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data) or len(data) < at + 12:
            raise CorruptImageError(
                f"is truncated or damaged: a PNG chunk that begins at byte {at} ends behind the file's end"
            )
        if not (name.isalpha() and name.isascii()):
            raise CorruptImageError(f"is damaged: at byte {at} a PNG chunk is called {name!r}")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise CorruptImageError(f"is damaged: the checksum of its {name.decode()} chunk at byte {at} is wrong")
        count += 1
        if count > _MAX_CHUNKS:
            raise UnsupportedImageError(f"has more than {_MAX_CHUNKS} PNG chunks; save it anew")
        yield name, at, end
        at = end


def _header(data: bytes, chunks: list[_Chunk]) -> tuple[int, int, int, int, bool]:
    """Width, height, bits a pixel, colour type, and whether it is interlaced."""
    name, start, end = chunks[0]
    if name != b"IHDR" or end - start != 25 or sum(other[0] == b"IHDR" for other in chunks) != 1:
        raise CorruptImageError("is damaged: a PNG file begins with one IHDR chunk of 13 bytes")
    header = data[start + 8 : end - 4]
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (0, 4))
    depth, colour, *methods = header[8:]
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise CorruptImageError(f"is damaged: its header says {width}x{height} pixels")
    if depth not in _DEPTHS.get(colour, ()) or methods[:2] != [0, 0] or methods[2] > 1:
        raise CorruptImageError(
            f"is damaged: its header says {depth} bits, colour type {colour} and methods {methods}, which PNG lacks"
        )
    return width, height, depth * _CHANNELS[colour], colour, bool(methods[2])


def _orientation(data: bytes, chunks: list[_Chunk]) -> int:
    return next((exif_orientation(data[at + 8 : end - 4]) for name, at, end in chunks if name == b"eXIf"), 1)
