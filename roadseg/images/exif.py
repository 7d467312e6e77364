"""The one thing that is read of EXIF: which way up the camera was."""

from typing import Literal

_ORIENTATION = 0x0112
_SHORT = 3
_BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}


def exif_orientation(exif: bytes) -> int:
    """The orientation tag of EXIF data; only their first directory is looked through, and nothing is allocated.

    Args:
        exif: with or without the "Exif" identifier before it.

    Returns:
        1..8; 1 where there is no tag, a meaningless one, or the data are broken: they say nothing about the pixels.

    Source: Exif 2.32 (CIPA DC-008), section 4.6; TIFF 6.0, section 2.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    start = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[start : start + 2], order)
    for at in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        if int.from_bytes(tiff[at : at + 2], order) == _ORIENTATION:
            kind, value = (int.from_bytes(tiff[at + i : at + i + 2], order) for i in (2, 8))
            return value if kind == _SHORT and 1 <= value <= 8 else 1
    return 1
