"""Whether a video file is whole, from the lengths that its own format writes down.

How many frames a video should have is no help: OpenCV gives an estimate for most formats.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

from roadseg.errors import DataError

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_SIZE_BYTES = 8


def is_cut_off(path: Path) -> bool:
    """Whether a file ends before its format says.

    MP4 and QuickTime (ISO/IEC 14496-12, 4.2), AVI (RIFF, with the further chunks of OpenDML) and Matroska and WebM
    (RFC 8794, RFC 9559) say how long they are. Recordings that were never finished, and transport streams, do not: then
    it is taken for whole.

    Raises:
        DataError: when the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            start = file.read(12)
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return _boxes_end(file, length) > length
            if start[:4] == b"RIFF":
                return _chunks_end(file, length) > length
            return start[:4] == _EBML and _segment_end(file) > length
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _boxes_end(file: BinaryIO, length: int) -> int:
    """Where the last of the outermost boxes ends."""
    at = 0
    while at + 8 <= length:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:
            size = int.from_bytes(file.read(_SIZE_BYTES), "big")
        if size < 8 or not kind.isalnum():  # to the end of the file, or bytes that somebody appended
            return length
        at += size
    return at


def _chunks_end(file: BinaryIO, length: int) -> int:
    """Where the last RIFF chunk ends, less 16 bytes: some writers count padding, or the bytes before the length."""
    at = 0
    while at + 8 <= length:
        file.seek(at)
        kind, size = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or size == 0:  # something appended, or a recorder that was switched off
            return length
        at += 8 + size + size % 2
    return at - 16


def _segment_end(file: BinaryIO) -> int:
    """Where the segment ends; 0 where that was not known when it was begun."""
    file.seek(len(_EBML))
    file.seek(_variable_size(file) or 0, os.SEEK_CUR)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return 0
    size = _variable_size(file)
    return 0 if size is None else file.tell() + size


def _variable_size(file: BinaryIO) -> int | None:
    """An EBML size: the zero bits it begins with are how many bytes follow. All ones stand for unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big") & ((1 << 7 * (more + 1)) - 1)
    return None if value == (1 << 7 * (more + 1)) - 1 else value
