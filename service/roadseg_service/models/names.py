"""What strangers are told of where models are: their names, and no folders."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

_ABSOLUTE = re.compile(r"(?<![\w.:/~-])~?/[^\s/]")
_SEE_LOG = "the server's log has the details"


def name_of(model: str) -> str:
    """The name in a model's path: without folders and `.safetensors`; folders have no endings."""
    return Path(model).name.removesuffix(".safetensors") or model


def without_folders(text: str, paths: Iterable[str]) -> str:
    """A text in which paths are their last part; one that tells of others, too, is not repeated at all.

    Args:
        text: such as an error's.
        paths: that it may tell of.
    """
    for path in sorted({*paths, *map(os.path.realpath, paths)}, key=len, reverse=True):
        text = text.replace(path, Path(path).name or path)
    return _SEE_LOG if _ABSOLUTE.search(text) else text
