"""What a user says of a dataset of their own: its labels, drives and splits."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from roadseg.data.class_table import ClassTable, SourceLabel, load_class_table
from roadseg.errors import ConfigError, DataError
from roadseg.taxonomy import list_taxonomies, load_taxonomy

Classes = str | Path | Mapping[str, int | Sequence[int]]
"""A class table's name or file, or the labels themselves: name -> id, or name -> [red, green, blue]."""

SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names that say the split."""


def open_classes(folder: Path, classes: Classes, name: str) -> ClassTable:
    """The class table that the option `classes` of a dataset means.

    Args:
        folder: the dataset's folder, in which files are looked for first.
        classes: a table's file or name, or {name: id} or {name: [red, green, blue]}.
        name: of the dataset.

    Raises:
        DataError: when there is no such table, or it is wrong.
        ConfigError: when labels are neither ids nor colours.
    """
    if not isinstance(classes, Mapping):
        inside = folder / classes
        return load_class_table(inside if inside.is_file() else classes)
    if not classes or not all(type(label) is str and label for label in classes):
        raise ConfigError(
            f"classes of dataset '{name}': give names as words (quote no, yes, on, off); got {dict(classes)!r}"
        )
    if all(type(value) is int for value in classes.values()):
        return named_table(name, classes)  # type: ignore[arg-type]
    if not all(_is_colour(value) for value in classes.values()):
        raise ConfigError(
            f"classes of dataset '{name}': give every label an id (name: 1), or every label a colour (name: [128, 64, "
            f"128], each 0..255); got {dict(classes)!r}"
        )
    return named_table(name, {label: i for i, label in enumerate(classes)}, classes)  # type: ignore[arg-type]


def named_table(name: str, ids: Mapping[str, int], colours: Mapping[str, Sequence[int]] | None = None) -> ClassTable:
    """Labels without a map: one that is called like a class of a taxonomy family means that class, no other means any.

    So a label "road" is taken at its word: nothing of it is a lane marking. Where that is not so, give a label map.

    Args:
        name: of the dataset.
        ids: label name -> id.
        colours: label name -> [red, green, blue].

    Raises:
        DataError: when an id occurs twice or is out of range.
    """
    labels = []
    for label, value in ids.items():
        colour = (colours or {}).get(label)
        rgb = None if colour is None else (colour[0], colour[1], colour[2])
        to = {family: (label,) for family, names in _names_by_family().items() if label in names}
        labels.append(SourceLabel(value, label, rgb, to))
    return ClassTable(name, tuple(labels))


def with_background(table: ClassTable, background: str | None) -> tuple[ClassTable, int]:
    """The table with a label for what no shape covers, and that label's id.

    Args:
        table: the labels of shapes.
        background: one of them, or a further one; None for one that is ignored.
    """
    name = background or "unannotated"
    for label in table.labels:
        if label.name == name:
            return table, label.id
    free = next(i for i in range(len(table.labels) + 1) if i not in set(table.ids))
    added = named_table(table.name, {name: free}).labels
    return ClassTable(table.name, added + table.labels, table.source, table.licence), free


class Drives:
    """Tells drives by the names of frames.

    Args:
        pattern: regular expression with one group; None for the folder that the image lies in.

    Raises:
        ConfigError: when it is none, or has not one group.
    """

    def __init__(self, pattern: str | None) -> None:
        try:
            self._pattern = None if pattern is None else re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"drive is {pattern!r}, which is no regular expression: {error}") from error
        if self._pattern and self._pattern.groups != 1:
            raise ConfigError(f"drive is {pattern!r}; it needs one group in parentheses, it has {self._pattern.groups}")

    def __call__(self, name: str) -> str:
        """The drive of a frame's name.

        Raises:
            DataError: when the pattern does not match.
        """
        if self._pattern is None:
            _, below = cut_split(name)
            return below.rpartition("/")[0] or below
        found = self._pattern.search(name)
        if not found or not found[1]:
            raise DataError(
                f"frame {name}: no drive, since {self._pattern.pattern!r} finds nothing in it; correct `drive`"
            )
        return found[1]


def cut_split(name: str) -> tuple[str | None, str]:
    """The split that the first folder of a relative path says, or None, and the path below it."""
    first, slash, below = name.partition("/")
    return (SPLIT_OF[first.lower()], below) if slash and first.lower() in SPLIT_OF else (None, name)


@cache
def _names_by_family() -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for taxonomy in map(load_taxonomy, list_taxonomies()):
        refined = {c.refines for c in taxonomy.classes if c.refines}
        names.setdefault(taxonomy.family or taxonomy.name, set()).update(taxonomy.names, refined)
    return names


def _is_colour(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)


def own_collection(folder: Path, name: str | None) -> tuple[str, str]:
    """Collection and name of a dataset of one's own.

    Frames of two folders are different pictures, whatever they are called, unless both datasets are given one name.
    """
    return (name, name) if name else (str(folder.resolve()), folder.resolve().name)
