"""Going through folders of millions of files."""

import heapq
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from roadseg.errors import DataError


def walk_files(
    folder: str | Path,
    suffixes: Collection[str],
    *,
    skip: Collection[str] = (),
    unreadable: Callable[[str, DataError], None] | None = None,
) -> Iterator[str]:
    """Files in a folder and all folders below, one at a time, in the order of their names.

    A folder is listed when the walk comes to it, so that the first file is there at once; the names of one folder at a
    time are held (about 80 bytes each), and those of the folders above it. Links to files are followed, and those that
    lead nowhere are given, too, so that whoever reads them tells of it. Links to folders are not followed: they may
    lead in a circle, or to the same files once more. Pipes, sockets and devices are passed over.

    Args:
        folder: where to begin.
        suffixes: file endings to look for, in lower case, with their dot.
        skip: real paths of folders that are passed over.
        unreadable: what to do with a folder below that cannot be listed: takes its path relative to `folder` and the
            error. By default the error is raised.

    Yields:
        Paths relative to `folder`.

    Raises:
        DataError: when `folder` cannot be listed.
    """
    root = os.fspath(folder)
    real_root = os.path.realpath(root)
    stack = [("", iter(_listed(root, suffixes)))]
    while stack:
        inside, entries = stack[-1]
        for name, is_folder in entries:
            path = os.path.join(inside, name)
            if not is_folder:
                yield path
            elif os.path.join(real_root, path) not in skip:  # no links on the way, so this is its real path
                try:
                    stack.append((path, iter(_listed(os.path.join(root, path), suffixes))))
                except DataError as error:
                    if unreadable is None:
                        raise
                    unreadable(path, error)
                    continue
                break
        else:
            stack.pop()


def _listed(folder: str, suffixes: Collection[str]) -> Iterator[tuple[str, bool]]:
    """(Name, whether it is a folder) of what is to be looked at in a folder, by name."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif os.path.splitext(entry.name)[1].lower() in suffixes and _is_file(entry):
                    files.append(entry.name)
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror or error}; check its permissions") from error
    files.sort()
    folders.sort()
    return heapq.merge(((name, False) for name in files), ((name, True) for name in folders))


def _is_file(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a file, or should be one: reading a link that leads nowhere says what is wrong with it."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # a link that leads to itself, or to where this user may not look
        return True
