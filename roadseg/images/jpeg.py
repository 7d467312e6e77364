"""The container of JPEG: its segments, and which of them are the picture.

Source: ITU-T T.81 (09/92), annex B; T.871 (JFIF); Adobe Technical Note 5116, section 18.
"""

import re
from dataclasses import dataclass, field

from roadseg.errors import CorruptImageError, UnsupportedImageError
from roadseg.images.container import EncodedImage
from roadseg.images.exif import exif_orientation

MAX_SCANS = 100
"""Each goes over the whole image, so that a small file of thousands would keep a decoder busy for minutes. Encoders
write 1 to about 20."""

_MAX_SEGMENTS = 4096

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_BEHIND_PIXELS = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # restart markers belong to the pixels
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")

_SOI, _EOI, _SOS, _EXIF = 0xD8, 0xD9, 0xDA, 0xE1
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_NOT_DECODED = {
    **dict.fromkeys((0xC3, 0xCB), "lossless"),
    **dict.fromkeys((0xC9, 0xCA), "arithmetic-coded"),  # libjpeg takes them or not, as it was built; browsers do not
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "hierarchical"),
}
_FRAMES = frozenset((_BASELINE, _EXTENDED, _PROGRESSIVE, *_NOT_DECODED))

_RESTARTS = 0xDD
_TABLES = frozenset((0xC4, 0xDB, _RESTARTS))
"""Huffman codes, quantisation, restart interval."""

_COLOUR = {0xE0: b"JFIF\0", 0xEE: b"Adobe"}
"""Application segments that tell a decoder what the components are."""


@dataclass
class _Frame:
    """What the frame header says, and what was found so far."""

    marker: int
    width: int
    height: int
    components: frozenset[int]
    blocks: int
    begun: set[int] = field(default_factory=set)
    scans: int = 0


def parse_jpeg(data: bytes, *, whole: bool = True) -> EncodedImage:
    """Look through a JPEG file from its first marker to its end marker; what lies behind that is not looked at.

    Args:
        data: the file.
        whole: refuse a file that has no end; else the decoder finds whether there is enough of it.

    Raises:
        CorruptImageError: cut off, or damaged as far as its segments tell.
        UnsupportedImageError: of a kind that is not decoded: 12 or 16 bits, lossless, hierarchical, other than 1, 3 or
            4 components, or in more scans than `MAX_SCANS`.
    """
    pieces, exif, frame, interval, end = [data[:2]], b"", None, 0, 2
    for _ in range(_MAX_SEGMENTS):
        marker, start, end = _segment(data, end, _MARKER)
        if marker == _SOS:
            break
        if marker in _FRAMES:
            if frame is not None:
                raise CorruptImageError("is damaged: this JPEG file has two frame headers")
            frame = _read_frame(marker, data[start:end])
        elif marker == _RESTARTS:
            interval = int.from_bytes(data[start + 4 : end], "big")
        elif marker == _EXIF and data.startswith(b"Exif\0\0", start + 4):
            exif = exif or data[start + 4 : end]
        elif marker in (_SOI, _EOI):
            raise CorruptImageError(
                "is truncated or damaged: this JPEG file ends, or another begins, before its pixels do"
            )
        if marker in _FRAMES or marker in _TABLES or data.startswith(_COLOUR.get(marker, b"-"), start + 4):
            pieces.append(data[start:end])
    else:
        raise UnsupportedImageError(f"has more than {_MAX_SEGMENTS} JPEG segments before its pixels; save it anew")
    if frame is None:
        raise CorruptImageError("is damaged: the pixels of this JPEG file come before its frame header")
    last, behind = _read_scans(data, start, frame, whole)
    pieces.append(data[start:behind])
    plain = frame.marker != _PROGRESSIVE and frame.scans == 1
    if plain and interval and whole:
        _count_restarts(data[start:last], frame, interval)
    return EncodedImage(
        "JPEG", frame.width, frame.height, exif_orientation(exif), tuple(pieces), behind - last if plain else 0
    )


def _segment(data: bytes, at: int, pattern: re.Pattern[bytes]) -> tuple[int, int, int]:
    """The next segment: its marker, where it begins, and where it ends. The end marker has no more than itself."""
    found = pattern.search(data, at)
    if found is None:
        raise CorruptImageError(f"is truncated or damaged: its {len(data)} bytes hold no end of the JPEG image")
    start, marker = found.start(), found[0][1]
    if marker == _EOI or marker == _SOI:
        return marker, start, start + 2
    if marker == 0x01 or 0xD0 <= marker <= 0xD7:
        raise CorruptImageError(f"is damaged: at byte {start} of this JPEG file stands marker {marker:02X}")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    if length < 2 or start + 2 + length > len(data):
        raise CorruptImageError(f"is truncated or damaged: a JPEG segment at byte {start} says it has {length} bytes")
    return marker, start, start + 2 + length


def _read_frame(marker: int, segment: bytes) -> _Frame:
    if marker in _NOT_DECODED:
        raise UnsupportedImageError(
            f"is a {_NOT_DECODED[marker]} JPEG, which is not decoded; save it as an ordinary one"
        )
    if len(segment) < 10 or len(segment) != 10 + 3 * segment[9]:
        raise CorruptImageError(f"is damaged: its JPEG frame header has {len(segment)} bytes")
    bits, count = segment[4], segment[9]
    height, width = (int.from_bytes(segment[i : i + 2], "big") for i in (5, 7))
    if bits != 8:
        raise UnsupportedImageError(f"is a JPEG of {bits} bits a channel, and 8 are decoded; save it as 16-bit PNG")
    if count not in (1, 3, 4):
        raise UnsupportedImageError(f"is a JPEG of {count} channels; grey, colour and CMYK have 1, 3 and 4")
    if not (width and height):
        raise CorruptImageError(f"is damaged: its header says {width}x{height} pixels")
    wide, high = (8 * max(sampling) for sampling in zip(*(divmod(s, 16) for s in segment[11::3]), strict=True))
    if count == 1 or not (wide and high):  # blocks of one component are not grouped
        wide = high = 8
    blocks = -(-width // wide) * -(-height // high)
    return _Frame(marker, width, height, frozenset(segment[10::3]), blocks)


def _count_restarts(scan: bytes, frame: _Frame, interval: int) -> None:
    """Refuse a scan that lacks intervals, which libjpeg fills with grey without a word."""
    expected = -(-frame.blocks // interval) - 1
    found = len(_RESTART.findall(scan))
    if found < expected:
        raise CorruptImageError(f"is truncated or damaged: its JPEG data have {found} restart markers of {expected}")


def _read_scans(data: bytes, start: int, frame: _Frame, whole: bool) -> tuple[int, int]:
    """Go over the pixels from the first scan's header; gives where the end marker stands, and where it ends."""
    marker, end = _SOS, start
    while marker != _EOI:
        if not whole and _MARKER_BEHIND_PIXELS.search(data, end) is None:
            return len(data), len(data)
        marker, start, end = _segment(data, end, _MARKER_BEHIND_PIXELS)
        if marker == _SOS:
            _begin_scan(data[start:end], frame)
        elif marker in _FRAMES or marker == _SOI:
            raise CorruptImageError("is truncated or damaged: another JPEG image begins before this one ends")
    missing = frame.components - frame.begun
    if missing:
        raise CorruptImageError(
            f"is truncated or damaged: {len(missing)} of its {len(frame.components)} channels are missing"
        )
    return start, end


def _begin_scan(segment: bytes, frame: _Frame) -> None:
    frame.scans += 1
    if frame.scans > MAX_SCANS:
        raise UnsupportedImageError(f"is a JPEG of more than {MAX_SCANS} scans; save it anew")
    count = segment[4] if len(segment) > 4 else 0
    if len(segment) != 8 + 2 * count or not count:
        raise CorruptImageError(f"is damaged: a JPEG scan header has {len(segment)} bytes")
    if segment[5 + 2 * count] == 0:  # the mean of each block, without which there is no picture
        frame.begun.update(segment[5 : 5 + 2 * count : 2])
