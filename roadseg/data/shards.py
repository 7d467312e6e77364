"""Datasets as tar shards, for sets that do not fit a disk or lie on a web server.

The shards are WebDataset's: an open format, in which a frame is three neighbouring files of a tar, `KEY.jpg` (or png,
webp; the image file as it was), `KEY.label.png` (label ids, 8 or 16 bits) and `KEY.json` (name, drive, split, size).
Beside them lie `frames.jsonl`, where in its shard each frame is, and `index.json`, the classes and the digest of every
file.

Why webdataset and not litdata: a sample here is a frame and a seed, drawn by `EpochSampler`, which is what makes a run
deterministic, restartable within an epoch and right on several processes; that needs frames by number. litdata's format
is its own, its order and its resuming belong to its loader, it brings boto3, obstore and tifffile, and it reads no
plain web server. WebDataset's tars are read by number with the offsets kept here; the library writes them, opens URLs,
and keeps the cache within bounds. It is needed to write shards and to read them from a URL; those on disk are read
without it.
"""

import copy
import io
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.data.class_table import ClassTable
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.shard_format import INDEX, VERSION, ShardEntry, classes_from_json
from roadseg.data.shard_store import ShardStore, StoredFile, open_store
from roadseg.data.shard_writer import write_shards
from roadseg.errors import DataError
from roadseg.images import DecodedImage, decode_image
from roadseg.jpeg_parts import decode_image_part

__all__ = ["ShardedFrames", "write_shards"]

_CHUNK = 1 << 24
_FILE_NAME = re.compile(r"[\w-]+\.(tar|jsonl)")


class ShardedFrames:
    """Frames with labels in shards: a `FrameSource`.

    It holds nothing open, so that worker processes may be forked from it or be sent a copy, and threads may share it.
    What is fetched from a web server is checked against the index; shards on disk are, when `verify` is called.

    Args:
        location: the folder that `write_shards` filled, or its URL (https:, http: or file:).
        cache: folder on a local disk in which files from a web server are kept.
        cache_bytes: how much is kept there. An epoch that is shuffled within few shards at a time (see `blocks`) needs
            room for these; one that is shuffled as a whole fetches shards again and again unless all fit.

    Raises:
        DataError: when there is no dataset, or its index is damaged.
        ConfigError: when the URL is of another kind, or needs a cache and none is named.
    """

    def _image_file(self, index: int) -> tuple[bytes, Path]:
        _, _, offset, length, *_ = self._place(index)
        return self._store.read(self._shard(index), offset, length), self.frames.image_path(index)

    def _unturned(self, decoded: DecodedImage, index: int) -> npt.NDArray[np.uint8]:
        if decoded.exif_orientation != 1:
            raise DataError(
                f"{self.frames.image_path(index)} ({self.frames.name(index)}) carries the EXIF orientation "
                f"{decoded.exif_orientation}, and nothing tells whether its mask was drawn on the turned image or on "
                "the stored one; turn its pixels, or remove the tag, and write the shards anew"
            )
        return decoded.pixels

    def __init__(self, location: str | Path, cache: Path | None = None, cache_bytes: int = 50_000_000_000) -> None:
        self._store = open_store(location, cache, cache_bytes)
        index = _read_index(self._store, f"{location}/{INDEX}")
        self.name: str = index["name"]
        self.collection: str = index["collection"]
        self.classes: ClassTable = index["classes"]
        self._shards: list[StoredFile] = index["shards"]
        self._starts = np.concatenate([[0], np.cumsum(index["counts"])]).astype(np.int64)
        self.frames, self._places = _read_frames(self._store, index["frames"], index["shards"], self._starts)
        self._rows = np.arange(len(self.frames))

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def blocks(self) -> npt.NDArray[np.int64]:
        """(n + 1,) positions at which the frames pass from one shard to the next, with 0 and the length around them.

        An order that shuffles the n blocks, and frames only within a few blocks at a time, reads few shards at a time.
        """
        if not len(self):
            return np.zeros(1, np.int64)
        shard = np.searchsorted(self._starts, self._rows, "right")
        return np.concatenate([[0], np.flatnonzero(np.diff(shard)) + 1, [len(self)]]).astype(np.int64)

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of a frame's image; nothing is read."""
        height, width = self._place(index)[:2]
        return height, width

    def read_image(self, index: int, reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Image (H, W, 3) uint8 RGB; with a reduction of 2, 4 or 8 of that part of its sides, rounded up, if a JPEG.

        Raises:
            DataError: when the shard cannot be read, or the image carries an EXIF orientation other than 1.
            ImageError: when the image is broken.
        """
        data, path = self._image_file(index)
        return self._unturned(decode_image(data, orientation="stored", name=str(path), reduction=reduction), index)

    def read_image_part(self, index: int, box: tuple[int, int, int, int], reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Part (top, left, bottom, right) of an image, (h, w, 3) uint8; see `roadseg.jpeg_parts.read_image_part`.

        Raises:
            DataError: when the shard cannot be read, or the image carries an EXIF orientation other than 1.
            ImageError: when the part is broken.
        """
        data, path = self._image_file(index)
        return self._unturned(decode_image_part(data, box, reduction, name=str(path)), index)

    def read_labels(self, index: int, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W) uint8 or uint16; `size` is the image's (H, W).

        Raises:
            DataError: when the shard cannot be read, or the labels are damaged or of another size.
        """
        *_, offset, length = self._place(index)
        data, path = self._store.read(self._shard(index), offset, length), self.frames.label_path(index)
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                labels = np.array(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"labels {path} cannot be read ({error}); write the shards anew") from error
        if labels.shape != size:
            raise DataError(f"labels {path} have the shape {labels.shape}, their image {size}; write the shards anew")
        return labels

    def read_labels_part(
        self, index: int, size: tuple[int, int], box: tuple[int, int, int, int]
    ) -> npt.NDArray[np.integer]:
        """Part (top, left, bottom, right) of the label ids; see `read_labels`."""
        top, left, bottom, right = box
        return self.read_labels(index, size)[top:bottom, left:right]

    def take(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> "ShardedFrames":
        """The same with some of the frames, in the order given; nothing is read."""
        taken = copy.copy(self)
        taken.frames = self.frames.take(indices)
        taken._rows = self._rows[np.asarray(indices, np.int64)]
        return taken

    def verify(self) -> None:
        """Compare every shard with its digest in the index; shards on a web server are all fetched.

        Raises:
            DataError: naming the first that differs.
        """
        for shard in self._shards:
            _check(self._store, shard)

    def _place(self, index: int) -> list[int]:
        return self._places[self._rows[index]].tolist()

    def _shard(self, index: int) -> StoredFile:
        return self._shards[int(np.searchsorted(self._starts, self._rows[index], "right")) - 1]


def _read_index(store: ShardStore, where: str) -> dict[str, Any]:
    text = store.read_small(INDEX)
    try:
        index = json.loads(text)
        if index["version"] != VERSION:
            raise DataError(f"{where} has version {index['version']!r}; this roadseg reads version {VERSION}")
        shards = [_file_from_json(entry) for entry in index["shards"]]
        counts = [int(entry["frames"]) for entry in index["shards"]]
        return {
            "name": str(index["name"]),
            "collection": str(index["collection"]),
            "classes": classes_from_json(index["classes"]),
            "frames": _file_from_json(index["frames"]),
            "shards": shards,
            "counts": counts,
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{where} is damaged, or no index of shards ({error!r}); write the shards anew") from error


def _file_from_json(entry: Any) -> StoredFile:
    name = str(entry["file"])
    if not _FILE_NAME.fullmatch(name):  # it becomes part of a path
        raise ValueError(f"file is {name!r}")
    return StoredFile(name, int(entry["bytes"]), str(entry["sha256"]))


def _check(store: ShardStore, file: StoredFile) -> None:
    digest = sha256()
    for offset in range(0, file.size, _CHUNK):
        digest.update(store.read(file, offset, min(_CHUNK, file.size - offset)))
    if digest.hexdigest() != file.digest:
        raise DataError(
            f"{store.folder / file.name} is not as it was written: its SHA-256 is not {file.digest[:16]}..., which "
            "the index names; copy it again, or write the shards anew"
        )


def _read_frames(
    store: ShardStore, file: StoredFile, shards: Sequence[StoredFile], starts: npt.NDArray[np.int64]
) -> tuple[FrameTable, npt.NDArray[np.int64]]:
    """The frames, and (N, 6) of each: height, width, and offset and length of its image and its labels."""
    places = array("q")
    shard_of = np.repeat(np.arange(len(shards)), np.diff(starts))

    def frames() -> Iterator[Frame]:
        _check(store, file)
        for position, line in enumerate(io.BytesIO(store.read(file, 0, file.size))):
            entry = ShardEntry(*json.loads(line))
            places.extend(entry[5:])
            folder = shards[shard_of[position]].name
            yield Frame(entry.name, f"{folder}/{entry.image}", f"{folder}/{entry.label}", entry.drive, entry.split)

    try:
        table = FrameTable(store.folder, frames())
        if len(table) != starts[-1]:
            raise ValueError(f"{len(table)} frames instead of {starts[-1]}")
    except (ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"{store.folder / file.name} does not fit its index ({error!r}); write the shards anew"
        ) from error
    return table, np.array(places, np.int64).reshape(-1, 6)
