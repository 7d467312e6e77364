"""Annotation files: reading them, and what all tools share that keep many images' annotations in one file."""

import json
import marshal
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from roadseg.data.frames import Frame
from roadseg.data.listing import by_key, find_files
from roadseg.data.own_classes import SPLIT_OF, Drives, cut_split
from roadseg.errors import ConfigError, DataError

_LISTED = 5


class PackedRecords:
    """Values by number, packed into one array: little memory, and nothing that a worker process copies.

    Args:
        records: (key, value), sorted by key; a value is what JSON can say, or bytes.
    """

    def __init__(self, records: Iterable[tuple[int, Any]]) -> None:
        keys, lengths, blob = array("q"), array("q"), bytearray()
        for key, value in records:
            data = marshal.dumps(value)  # ten times as fast as JSON; it stays in memory
            keys.append(key)
            lengths.append(len(data))
            blob += data
        self._keys = np.array(keys, np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self._blob = np.frombuffer(bytes(blob), np.uint8)

    def __getitem__(self, key: int) -> Any:
        """The value of a key."""
        place = int(np.searchsorted(self._keys, key))
        data = self._blob[self._offsets[place] : self._offsets[place + 1]].tobytes()
        return marshal.loads(data)


class Splits:
    """Tells the split of frames in an annotation file.

    Args:
        split: of all frames, or None.
        annotations: path of the annotation file, whose words may say it.

    Raises:
        ConfigError: when there is no such split.
    """

    def __init__(self, split: str | None, annotations: str) -> None:
        if split is not None and split not in set(SPLIT_OF.values()):
            raise ConfigError(f"split is {split!r}; use train, val or test")
        words = {SPLIT_OF[word] for word in re.findall(r"[a-z]+", annotations.lower()) if word in SPLIT_OF}
        self._of_all = split or (words.pop() if len(words) == 1 else None)

    def __call__(self, image: str, said: str | None = None) -> str:
        """The split of a frame by its image's path, unless the annotation file itself says it."""
        return self._of_all or SPLIT_OF.get((said or "").lower()) or cut_split(image)[0] or "train"


def listed_frames(
    path: Path,
    folder: Path,
    files: Mapping[int, tuple[str, str | None]],
    splits: Splits,
    drives: Drives,
    annotations: str,
    images: str,
) -> Iterator[Frame]:
    """The frames that an annotation file lists.

    Args:
        path: the file, for messages.
        folder: of the images.
        files: image id -> path as the file says it, and the split if it says one.
        splits: tells splits.
        drives: tells drives.
        annotations: path of the annotation file for `Frame.label`.
        images: path of the images for `Frame.image`.

    Raises:
        DataError: when images are missing, or share a name.
    """
    there = set(find_files(folder))
    found = {key: _place(file, images, said, there) for key, (file, said) in files.items()}
    missing = [files[key][0] for key, image in found.items() if image is None]
    if missing:
        listed = ", ".join(sorted(missing)[:_LISTED])
        raise DataError(f"{path} lists {len(missing)} image(s) that are not in {folder}: {listed}; add or remove them")
    image_of = {key: image for key, image in found.items() if image is not None}
    if not image_of:
        raise DataError(f"{path} lists no image; export it again, with its images")
    key_of: dict[str, int] = {}
    for key, image in image_of.items():
        if key_of.setdefault(image, key) != key:
            raise DataError(f"{path} lists {image} twice, as images {key_of[image]} and {key}; merge or remove one")
    for name, image in sorted(by_key(key_of, lambda image: os.path.splitext(image)[0], folder).items()):
        key = key_of[image]
        yield Frame(name, f"{images}/{image}", f"{annotations}#{key}", drives(name), splits(image, files[key][1]))


def image_key(path: Path) -> int:
    """The image id in a label path such as annotations.json#17."""
    return int(path.name.rpartition("#")[2])


def load_json(path: Path, how_to_get: str) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        how_to_get: sentence that tells how to make one, for messages.

    Raises:
        DataError: when it is missing, truncated, or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error}); {how_to_get}") from error
    except (ValueError, RecursionError) as error:  # of which UnicodeDecodeError and JSONDecodeError are kinds
        raise DataError(f"{path} is not JSON, or was cut off ({error}); export it again") from error


def check_size(path: Path, said: tuple[Any, Any], size: tuple[int, int]) -> None:
    """Refuse annotations that were made on an image of another size.

    Raises:
        DataError: naming both sizes.
    """
    if said != size:
        raise DataError(
            f"{path} was drawn on an image of {said[1]}x{said[0]}, but the image is {size[1]}x{size[0]} (width x "
            "height); annotate the image at its present size, or bring back the original"
        )


def _place(file: str, images: str, said: str | None, there: set[str]) -> str | None:
    """Where an image lies: tools write its path from the images' folder, from the dataset's, or leave a subset out."""
    plain = os.path.normpath(file.replace("\\", "/"))
    tries = [plain, plain.removeprefix(f"{os.path.normpath(images)}/"), *([f"{said}/{plain}"] if said else [])]
    return next((place for place in tries if place in there), None)
