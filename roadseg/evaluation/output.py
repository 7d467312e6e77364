"""The folder that a command writes its results to."""

import json
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from roadseg.errors import OutputError
from roadseg.inference.result import write_whole


def check_folder(folder: str | Path, overwrite: bool) -> Path:
    """Refuse a folder that results cannot or should not go to, before hours of computing.

    Args:
        folder: need not be there.
        overwrite: whether it may hold files.

    Raises:
        OutputError: when it is a file, holds something, or cannot be written to.
    """
    folder = Path(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file; give -o a folder")
        inside = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        if inside and not overwrite:
            raise OutputError(
                f"{folder} holds {', '.join(inside[:3])}{', ...' if len(inside) > 3 else ''}; give -o another folder, "
                "or --overwrite to replace results in it"
            )
        with tempfile.TemporaryDirectory(dir=_nearest(folder)):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: {error.strerror or error}; choose another folder by -o"
        ) from error
    return folder


def write_files(folder: Path, files: Mapping[str, bytes], stale: Collection[str] = ()) -> None:
    """Write results, each file whole, and remove pictures that an earlier run left and this one does not replace.

    Args:
        folder: made if it is not there.
        files: path in the folder -> content.
        stale: patterns of such pictures.

    Raises:
        OutputError: when a file cannot be written or removed.
    """
    for name, data in files.items():
        write_whole(folder / name, data)
    written = {folder / name for name in files}
    try:
        for pattern in stale:
            for path in set(folder.glob(pattern)) - written:
                path.unlink()
    except OSError as error:
        raise OutputError(f"cannot remove {error.filename}: {error.strerror or error}") from error


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """A JSON file; NaN is refused, because JSON has none."""
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
