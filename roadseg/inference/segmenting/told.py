"""The files that a row of a manifest tells of, and removing them."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from roadseg.errors import OutputError
from roadseg.inference.segmenting.done import frame_name
from roadseg.inference.segmenting.jobs import CONFIDENCE, OVERLAY, without_ending
from roadseg.inference.segmenting.manifest import Row
from roadseg.inference.segmenting.names import number


def told_files(row: Row) -> Iterator[str]:
    """Names below the output folder of what a row says was written; none for a row that tells of a failure.

    They follow from the name of the image or video, not from the row's `mask`: a row leads nowhere outside the folder.
    """
    name = frame_name(row)
    if name is None or "error" in row or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return
    stem = without_ending(name)
    if "video" not in row:
        yield from _mask_and_beside(row, stem)
    elif row.get("output") == "frames":
        for index in range(row.get("frames", 0)):
            yield from _mask_and_beside(row, f"{stem}/{number(index)}")
    else:
        yield f"{stem}.mkv"


def remove_files(output: Path, names: Iterable[str], *, empty_folders: bool) -> None:
    """Remove files; those that are gone already are no trouble.

    Args:
        output: the folder.
        names: of files below it.
        empty_folders: whether folders that are empty then are removed, too: not where others write into them meanwhile.

    Raises:
        OutputError: when one cannot be removed.
    """
    folders: dict[Path, None] = {}
    for name in names:
        path = output / name
        try:
            path.unlink()
            folders[path.parent] = None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        except OSError as error:
            raise OutputError(f"cannot remove {path}: {error.strerror or error}; check its permissions") from error
    for folder in folders if empty_folders else ():
        _remove_empty(folder, output)


def _mask_and_beside(row: Row, stem: str) -> Iterator[str]:
    yield f"{stem}.png"
    if row.get("overlay"):
        yield stem + OVERLAY
    if row.get("confidence"):
        yield stem + CONFIDENCE


def _remove_empty(folder: Path, output: Path) -> None:
    if folder == output:
        return
    try:
        folder.rmdir()
    except OSError:  # not empty, mostly
        return
