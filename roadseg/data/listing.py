"""Finding the files of a dataset, and pairing images with labels."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from roadseg.errors import DataError
from roadseg.images import IMAGE_SUFFIXES

_LISTED = 5
"""Offending files that an error names; the rest are counted."""


def find_files(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES, *, below: bool = True) -> list[str]:
    """Paths of files, relative to `folder` with forward slashes, sorted; hidden ones are left out.

    Args:
        folder: where to look.
        suffixes: endings in lower case, each with what must stand before it, for example "_labelIds.png"; compared
            without regard to case.
        below: whether to search through the folders below, too.
    """
    endings = tuple(suffix.lower() for suffix in suffixes)
    return sorted(path for path in _walk(str(folder), "", below) if path.lower().endswith(endings))


def _walk(folder: str, prefix: str, below: bool) -> Iterator[str]:
    with os.scandir(os.path.join(folder, prefix)) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield prefix + entry.name
            elif below:
                yield from _walk(folder, f"{prefix}{entry.name}/", below)


def require_folder(folder: Path, dataset: str, how_to_get: str) -> None:
    """Refuse a data root in which a dataset's folder is missing.

    Args:
        folder: which must be there; its parent or grandparent is the data root.
        dataset: name for the message.
        how_to_get: a sentence that says how to get the data.

    Raises:
        DataError: when it is missing.
    """
    if folder.is_dir():
        return
    misplaced = folder.parent.parent / folder.name
    if misplaced.is_dir() and folder.parent.name == folder.parent.parent.name:
        raise DataError(
            f"{dataset}: no folder {folder}, but {misplaced} exists: "
            f"the data root is the folder *above* {folder.parent.name}"
        )
    for above in folder.parents:
        if above.is_dir():
            inside = sorted(p.name for p in above.iterdir() if not p.name.startswith("."))[:_LISTED]
            held = f"{above} holds {', '.join(inside)}" if inside else f"{above} is empty"
            raise DataError(f"{dataset}: no folder {folder} ({held}); {how_to_get}")
    raise DataError(f"{dataset}: no folder {folder}; {how_to_get}")


def pair_by_key(
    images: dict[str, str], labels: dict[str, str], images_in: Path, labels_in: Path
) -> Iterator[tuple[str, str, str]]:
    """Pair images with label files.

    Args:
        images: key -> path of the image.
        labels: key -> path of the label file.
        images_in: for messages.
        labels_in: for messages.

    Yields:
        (key, image, label), sorted by key.

    Raises:
        DataError: when one has no partner; the message names the first ones.
    """
    if not images:
        raise DataError(f"{images_in} holds no image; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    _refuse_unpaired("image", images_in, [images[k] for k in images if k not in labels], "mask", labels_in)
    _refuse_unpaired("mask", labels_in, [labels[k] for k in labels if k not in images], "image", images_in)
    for key in sorted(images):
        yield key, images[key], labels[key]


def by_key(paths: Iterable[str], key: Callable[[str], str], folder: Path) -> dict[str, str]:
    """Key of each path -> path.

    Raises:
        DataError: when two paths have one key.
    """
    found: dict[str, str] = {}
    for path in paths:
        first = found.setdefault(key(path), path)
        if first != path:
            raise DataError(f"{folder} holds {first} and {path}: remove one, or give them other names")
    return found


def stem(path: str) -> str:
    """File name of a path, without folders and ending."""
    return Path(path).stem


def _refuse_unpaired(kind: str, folder: Path, lonely: list[str], other_kind: str, other_folder: Path) -> None:
    if lonely:
        listed = ", ".join(sorted(lonely)[:_LISTED]) + (", ..." if len(lonely) > _LISTED else "")
        raise DataError(
            f"{len(lonely)} {kind}(s) in {folder} have no {other_kind} of the same name in {other_folder}: {listed}; "
            f"add the {other_kind}(s) or remove the {kind}(s)"
        )
