"""Which frames are most worth labelling."""

import csv
import io
import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roadseg.errors import ConfigError
from roadseg.inference.segmenting.frame import write
from roadseg.inference.segmenting.manifest import Row
from roadseg.inference.segmenting.names import readable
from roadseg.inference.segmenting.shards import Shard

APART = 10
"""So many frames lie between two listed ones of a folder, unless the user says otherwise."""


class Ranked(NamedTuple):
    """A frame in the ranking.

    Attributes:
        image: its relative path.
        uncertainty: mean over its pixels of 1 - confidence.
    """

    image: str
    uncertainty: float


def rank_frames(frames: Iterable[tuple[str, Row]], apart: int = APART) -> list[Ranked]:
    """Frames by uncertainty, the most uncertain first, without those that nearly repeat one further up.

    The uncertainty of a frame is the mean over its pixels of 1 - confidence: no threshold to choose, and a far pole
    counts less than a whole road that the network does not know. Frames of a drive hardly differ from their neighbours,
    so one is left out when one of its folder that is listed further up lies less than `apart` frames before or after
    it: each frame that is not listed is near one that is at least as uncertain. Held are the names, and 16 bytes a
    frame.

    Args:
        frames: relative paths and rows, the frames of a folder in their order; failed ones have no confidence, and are
            not listed.
        apart: 1 lists all.

    Raises:
        ConfigError: when apart is below 1.
    """
    if apart < 1:
        raise ConfigError(f"frames cannot be ranked {apart} apart; use 1 or more")
    uncertainties, folders, names = array("d"), array("q"), []
    numbers: dict[str, int] = {}
    for name, row in frames:
        confidence = row.get("mean_confidence")
        if confidence is None:
            continue
        uncertainties.append(round(1 - confidence, 6))
        folders.append(numbers.setdefault(name.rpartition("/")[0], len(numbers)))
        names.append(name)
    chosen = _apart(np.frombuffer(uncertainties), np.frombuffer(folders, np.int64), apart)
    return [Ranked(names[i], uncertainties[i]) for i in chosen]


def _apart(uncertainties: npt.NDArray[np.float64], folders: npt.NDArray[np.int64], apart: int) -> Iterator[int]:
    """Positions by falling uncertainty, none of which is near an earlier one of its folder."""
    by_folder = np.argsort(folders, kind="stable")  # the files of a folder surround its subfolders
    place = np.empty_like(by_folder)
    place[by_folder] = np.arange(len(by_folder))
    covered = np.zeros(len(place), bool)
    grouped = folders[by_folder]
    for i in np.argsort(-uncertainties, kind="stable").tolist():
        at = int(place[i])
        if covered[at]:
            continue
        yield i
        near = slice(max(0, at - apart + 1), at + apart)
        covered[near] |= grouped[near] == folders[i]


def write_ranking(ranking: Iterable[Ranked], output: Path, shard: Shard | None) -> Path:
    """Write a ranking as `ranking.csv` and `ranking.jsonl`.

    Args:
        ranking: what `rank_frames` gives.
        output: the folder.
        shard: whose name the files bear.

    Returns:
        Where the CSV file lies.

    Raises:
        OutputError: when a file cannot be written.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["rank", "image", "uncertainty"])
    lines = []
    for rank, (image, uncertainty) in enumerate(ranking, 1):
        writer.writerow([rank, readable(image), f"{uncertainty:.6f}"])
        lines.append(
            json.dumps({"rank": rank, "image": readable(image), "uncertainty": uncertainty}, ensure_ascii=False) + "\n"
        )
    paths = [output / (shard.file_name(name) if shard else name) for name in ("ranking.csv", "ranking.jsonl")]
    for path, text in zip(paths, (table.getvalue(), "".join(lines)), strict=True):
        write(path, text.encode())
    return paths[0]
