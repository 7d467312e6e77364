"""Image sizes as a command line writes them: HEIGHTxWIDTH."""

import re

from roadseg.errors import ConfigError

Size = tuple[int, int]
"""(H, W) of an image in pixels."""

LARGEST_SIDE_PX = 65536
"""Not far beyond it the sizes of the widest intermediates would no longer fit 64-bit numbers."""


def parse_size(text: str, option: str = "--size") -> Size:
    """(H, W) from "HxW".

    Args:
        text: what was given.
        option: where it was given, for the error.

    Raises:
        ConfigError: when the text is something else, or a side is out of range.
    """
    match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= side <= LARGEST_SIDE_PX for side in size):
        raise ConfigError(
            f"{option} is '{text}'; use HEIGHTxWIDTH in pixels, such as 512x1024, each from 1 to {LARGEST_SIDE_PX}"
        )
    return size


def size_name(size: Size) -> str:
    """An image size as `parse_size` reads it."""
    return f"{size[0]}x{size[1]}"
