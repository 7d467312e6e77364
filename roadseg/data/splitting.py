"""Splits by drive: frames of one drive look alike, so whole drives are trained on or validated on, never both."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from roadseg.data.frames import FrameTable
from roadseg.errors import ConfigError, DataError, OutputError, plural

_EXACT_SEARCH = 200_000
"""Ways to share the drives out up to which all are tried; beyond, there are drives enough for a greedy choice."""

_VERSION = 1
_LISTED = 5


@dataclass(frozen=True)
class DriveSplit:
    """What a split file says: the drives held out; every other drive is trained on.

    Attributes:
        val: drives to validate on, as "drive", or as "collection/drive" where collections share a drive's name.
        test: drives kept for the last word, in the same form.
        seed: with which the split was drawn; None if it was written by hand.
        source: what it was drawn from, for readers.
    """

    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    seed: int | None = None
    source: str = ""

    def split_of(self, collection: str, drive: str) -> str:
        """The split, "train", "val" or "test", of a drive of a collection."""
        for name in (drive, f"{collection}/{drive}"):
            if name in self._split_of:
                return self._split_of[name]
        return "train"

    @cached_property
    def _split_of(self) -> dict[str, str]:
        return dict.fromkeys(self.test, "test") | dict.fromkeys(self.val, "val")


def split_by_drive(
    frames: Sequence[tuple[str, FrameTable]], val_share: float, seed: int, test_share: float = 0.0
) -> dict[str, list[str]]:
    """Share whole drives out so that the splits hold the parts of all frames that are asked for, as nearly as they can.

    With few drives every way is tried, and the seed decides between equally good ones; with many, drives are drawn in
    an order that the seed decides. A picture that several datasets of a collection label counts once.

    Args:
        frames: (collection, its frames) of each dataset; drives of one name in one collection are one drive.
        val_share: part of the frames to validate on, above 0 and below 1.
        seed: the same seed and frames give the same split.
        test_share: part of the frames to test on; 0 for no such split.

    Returns:
        Drives, sorted, of "train", "val" and "test", the last empty if it was not asked for; see `DriveSplit.val` for
        their form.

    Raises:
        ConfigError: when the shares leave nothing to train on.
        DataError: when there are fewer drives than splits, so that one would stay empty.
    """
    if not (0 < val_share < 1 and 0 <= test_share < 1 and val_share + test_share < 1):
        raise ConfigError(
            f"val_share is {val_share} and test_share {test_share}; use parts of the frames, val_share above 0, that "
            "leave some to train on"
        )
    shares = {"val": val_share} if test_share == 0 else {"val": val_share, "test": test_share}
    frames_of = _count_frames(frames)
    if len(frames_of) <= len(shares):
        raise DataError(
            f"{plural(len(frames_of), 'drive')} ({', '.join(sorted(frames_of)[:_LISTED]) or 'no frames'}) cannot be "
            f"split into train, {' and '.join(shares)}: one would stay empty; add drives, or ask for fewer splits"
        )
    drives = sorted(frames_of)
    np.random.default_rng(seed).shuffle(drives)
    counts = np.array([frames_of[drive] for drive in drives], np.int64)
    targets = np.array(list(shares.values())) * counts.sum()
    ways = (len(shares) + 1) ** len(drives)
    place = _best_way(counts, targets) if ways <= _EXACT_SEARCH else _greedy_way(counts, targets)
    return {
        split: sorted(drive for drive, p in zip(drives, place.tolist(), strict=True) if p == number)
        for number, split in enumerate(["train", "val", "test"])
    }


def write_split(path: Path, split: DriveSplit) -> None:
    """Write a split file, whole or not at all; `read_split` reads it.

    Raises:
        OutputError: when it cannot be written.
    """
    document = {
        "version": _VERSION,
        "val": list(split.val),
        "test": list(split.test),
        "seed": split.seed,
        "source": split.source,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write split file {path}: {error.strerror or error}; choose another place") from error


def read_split(path: Path) -> DriveSplit:
    """Read a split file: YAML with version, val, and if wanted test, seed and source.

    Raises:
        DataError: when it is missing, of another form, or holds a drive in two splits; the message names the file.
    """
    where = f"split file {path}"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"cannot read {where}: {error.strerror or error}; write one with `roadseg data split`"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{where} is not a YAML file: {error}") from error
    keys = {"version", "val", "test", "seed", "source"}
    if not isinstance(data, Mapping) or not {"version", "val"} <= set(data) or set(data) - keys:
        raise DataError(
            f"{where}: expected a mapping with version and val, and if wanted test, seed, source; got {data!r}"
        )
    if type(data["version"]) is not int or data["version"] != _VERSION:
        raise DataError(f"{where} has version {data['version']!r}; this roadseg reads version {_VERSION}")
    seed = data.get("seed")
    if not (seed is None or type(seed) is int):
        raise DataError(f"{where}: seed is {seed!r}; use a whole number")
    val, test = (_drives_from(where, key, data.get(key)) for key in ("val", "test"))
    if not val:
        raise DataError(f"{where}: val names no drive; name at least one")
    twice = sorted(set(val) & set(test))
    if twice:
        raise DataError(f"{where}: {', '.join(twice[:_LISTED])} is in val and in test; leave it in one")
    return DriveSplit(val, test, seed, str(data.get("source") or ""))


def _drives_from(where: str, key: str, drives: Any) -> tuple[str, ...]:
    if drives is None:
        return ()
    if not isinstance(drives, list) or not all(type(drive) is str and drive for drive in drives):
        # A drive such as 0001 is a number to YAML, which forgets its zeros.
        raise DataError(
            f"{where}: {key} is {drives!r}; use a list of drive names, in quotes where they look like numbers"
        )
    return tuple(drives)


def _count_frames(frames: Sequence[tuple[str, FrameTable]]) -> dict[str, int]:
    """Distinct frames of each drive, by the name that it has in a split."""
    collections = list(dict.fromkeys(collection for collection, _ in frames))
    count_of = {c: _count_in_collection([table for owner, table in frames if owner == c]) for c in collections}
    owners = Counter(chain.from_iterable(count_of.values()))
    return {
        drive if owners[drive] == 1 else f"{collection}/{drive}": count
        for collection, counts in count_of.items()
        for drive, count in counts.items()
    }


def _count_in_collection(tables: Sequence[FrameTable]) -> Counter[str]:
    if len(tables) == 1:  # whose names are unique, so that none need be remembered
        return Counter(frame.drive for frame in tables[0])
    drive_of = {frame.name: frame.drive for table in tables for frame in table}
    return Counter(drive_of.values())


def _best_way(counts: npt.NDArray[np.int64], targets: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Split number of each drive, 0 being train, by trying all ways."""
    splits = len(targets) + 1
    ways = np.arange(splits ** len(counts))
    held, has_train = np.zeros((len(targets), len(ways)), np.int64), np.zeros(len(ways), bool)
    for position, count in enumerate(counts.tolist()):
        digit = ways // splits**position % splits
        has_train |= digit == 0
        for number in range(1, splits):
            held[number - 1] += count * (digit == number)
    missed = np.abs(held - targets[:, None]).sum(0)
    missed[~has_train | (held == 0).any(0)] = np.inf
    best = int(missed.argmin())
    return np.array([best // splits**position % splits for position in range(len(counts))], np.int64)


def _greedy_way(counts: npt.NDArray[np.int64], targets: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Split number of each drive: in order, each goes to the first split that has room, then gaps are closed."""
    place, room = np.zeros(len(counts), np.int64), targets.copy()
    for position, count in enumerate(counts.tolist()):
        fits = np.flatnonzero(room >= count)
        if len(fits):
            place[position] = fits[0] + 1
            room[fits[0]] -= count
    for number in range(1, len(targets) + 1):
        smallest = np.where(place == 0, counts, counts.max() + 1).argmin()
        overshoot = counts[smallest] - room[number - 1]
        if not (place == number).any() or overshoot < room[number - 1]:
            place[smallest] = number
    return place
