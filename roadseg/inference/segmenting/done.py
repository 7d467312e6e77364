"""What earlier runs did: the last row of each frame, found without holding the rows."""

import hashlib
import os
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from roadseg.errors import DataError
from roadseg.inference.segmenting.jobs import without_ending
from roadseg.inference.segmenting.manifest import Row, began, read_row, read_rows
from roadseg.inference.segmenting.names import folders_above, name_from

OPEN_AT_ONCE = 64
"""Manifests of a thousand shards would be more files than a process may have open."""


SIZES_NOTED = 16


class Recorded:
    """The rows of manifests, by the name of the frame.

    Held are 20 bytes a row: a hash of the name, and where the row is. A row that is asked for is read from its file,
    and its name compared. Not to be used by several threads at a time.

    Args:
        paths: manifests. Of rows for one frame the one that was finished last counts, whatever manifest it is in.

    Attributes:
        frame_folders: folders below the output folder that hold the frames of one video each, with the videos' names.
        other_folders: hashes of the folders that hold masks of anything else.
        first_sizes: of each manifest the sizes (H, W) of its frames, in the order in which they first came; no more
            than `SIZES_NOTED`.

    Raises:
        DataError: when one cannot be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.frame_folders: dict[str, str] = {}
        self.other_folders: set[int] = set()
        self.first_sizes: dict[Path, dict[tuple[int, int], None]] = {path: {} for path in paths}
        self._paths = paths
        self._open: OrderedDict[int, BinaryIO] = OrderedDict()
        keys, places, numbers, times = array("Q"), array("Q"), array("I"), array("d")
        for number, path in enumerate(paths):
            latest = began(path)
            for position, row in read_rows(path):
                latest = max(latest, _finished(row))  # a clock that was set back must not turn a file round
                name = frame_name(row)
                if name is not None:
                    keys.append(_key(name))
                    places.append(position)
                    numbers.append(number)
                    times.append(latest)
                    self._note_folder(row, name)
                    _note_size(self.first_sizes[path], row)
        order = np.lexsort((np.frombuffer(times), np.frombuffer(keys, np.uint64)))
        self._keys = np.frombuffer(keys, np.uint64)[order]
        self._places = np.frombuffer(places, np.uint64)[order]
        self._numbers = np.frombuffer(numbers, np.uint32)[order]

    def __len__(self) -> int:
        """Number of rows, earlier ones of the same frames included."""
        return len(self._keys)

    def last(self, relative: str) -> Row | None:
        """The row that counts for a frame, if there is one.

        Args:
            relative: the frame's path below the folder that was searched.
        """
        key = _key(relative)
        at = int(np.searchsorted(self._keys, np.uint64(key), "right")) - 1
        while at >= 0 and int(self._keys[at]) == key:
            row = self._row(at)
            if row is not None and frame_name(row) == relative:
                return row
            at -= 1
        return None

    def close(self) -> None:
        """Close the manifests."""
        while self._open:
            self._open.popitem()[1].close()

    def _row(self, at: int) -> Row | None:
        number = int(self._numbers[at])
        file = self._open.pop(number, None) or _opened(self._paths[number])
        self._open[number] = file
        if len(self._open) > OPEN_AT_ONCE:
            self._open.popitem(last=False)[1].close()
        try:
            file.seek(int(self._places[at]))
            return read_row(file.readline())
        except OSError as error:
            raise DataError(f"cannot read {self._paths[number]}: {error.strerror or error}") from error

    def _note_folder(self, row: Row, name: str) -> None:
        if "error" in row:
            return
        if row.get("output") == "frames":
            self.frame_folders[without_ending(name)] = name
        self.other_folders.update(map(hash, folders_above(name)))


def has_rows(path: Path) -> bool:
    """Whether a manifest tells of any frame.

    Raises:
        DataError: when the file cannot be read.
    """
    return next(read_rows(path), None) is not None


def frame_name(row: Row) -> str | None:
    """The relative path of the image or video that a row is about; None when it is about neither."""
    try:
        return name_from(row, "video" if "video" in row else "image")
    except (KeyError, ValueError):
        return None


def _note_size(sizes: dict[tuple[int, int], None], row: Row) -> None:
    if len(sizes) < SIZES_NOTED and "size" in row:
        height, width = row["size"]
        sizes[int(height), int(width)] = None


def _finished(row: Row) -> float:
    """When a row was written, as Unix time; 0 where it does not say."""
    seconds = row.get("finished")
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "big")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
