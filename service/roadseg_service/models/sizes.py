"""Sizes of images, as settings write them."""

import re
from collections.abc import Sequence

Size = tuple[int, int]
"""(H, W) in px."""

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


def check_sizes(sizes: Sequence[str]) -> None:
    """Refuse what is no size.

    Raises:
        ValueError: for the first one that is none.
    """
    for size in sizes:
        parse_size(size)


def parse_size(text: str) -> Size:
    """The size that is written as WIDTHxHEIGHT.

    Raises:
        ValueError: when it is not.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is no size; write WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(found[2]), int(found[1])
