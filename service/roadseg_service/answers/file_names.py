"""Names for the answers to a batch's files, made of the names that strangers gave them."""

import re
import unicodedata

_MOST_BYTES = 100
_WITHOUT_NAME = "file"

EXTENSIONS = {"image/png": ".png", "application/json": ".json", "image/webp": ".webp"}
"""By media type."""


def shown_name(given: str) -> str:
    """A file's own name, without folders and control characters, of at most 200 characters."""
    last = re.split(r"[/\\]", given)[-1]
    return "".join(c for c in last if unicodedata.category(c)[0] != "C")[:200]


def answer_name(index: int, given: str, media_type: str) -> str:
    """A name that is safe on any file system, and unlike those of other files by its number.

    Args:
        index: of the file in its batch, from 0.
        given: the file's name in the request; anything.
        media_type: of the answer.
    """
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", unicodedata.normalize("NFC", shown_name(given)))
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in stem).strip("_")
    # File systems bound a name by its bytes.
    short = safe.encode()[:_MOST_BYTES].decode("utf-8", "ignore")
    return f"{index:04d}_{short or _WITHOUT_NAME}{EXTENSIONS[media_type]}"
