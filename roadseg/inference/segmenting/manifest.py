"""The record of a run: `manifest.jsonl`, first what all its frames have in common, then a row a frame.

A row says what was written for a frame, or why nothing was. Rows are in the order in which frames were finished, and of
two rows for one frame, in one manifest or in those of several shards, the one that was finished later counts.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import roadseg
from roadseg.errors import DataError, OutputError
from roadseg.inference.segmenting.described import Described
from roadseg.inference.segmenting.locking import lock_file
from roadseg.inference.segmenting.names import readable
from roadseg.inference.segmenting.shards import Shard

NAME = "manifest.jsonl"
FORMAT_VERSION = 1
DECIDES = ("model_digest", "engine", "precision", "device", "options", "orientation", "ignore_regions")
"""Fields of a header that change masks: one folder holds masks of one set of them. Of devices only the kind counts."""

SOURCES_NAMED = 10
"""A shell may give a hundred thousand files: of so many sources the header has the names, of all their digest."""

Row = dict[str, Any]


def manifest_path(output: Path, shard: Shard | None) -> Path:
    """Where the manifest of a run lies."""
    return output / (NAME if shard is None else shard.file_name(NAME))


def make_header(
    model: str, predictor: Described, orientation: str, regions_digest: str | None, sources: Sequence[Path]
) -> Row:
    """The first row of a manifest.

    Args:
        model: what the user calls the model.
        predictor: what segments.
        orientation: as a predictor takes it.
        regions_digest: SHA-256 of the file of ignore regions, None without one.
        sources: what is segmented.
    """
    names = [readable(os.path.realpath(source)) for source in sources]
    return {
        "format_version": FORMAT_VERSION,
        "roadseg": roadseg.__version__,
        "model": model,
        "model_digest": predictor.digest,
        "taxonomy": predictor.taxonomy.to_dict(),
        "engine": predictor.engine.name,
        "precision": predictor.engine.precision,
        "device": predictor.engine.device,
        "options": predictor.options.to_dict(),
        "orientation": orientation,
        "ignore_regions": regions_digest,
        "sources": names[:SOURCES_NAMED],
        "sources_count": len(names),
        "sources_digest": hashlib.sha256("\0".join(sorted(names)).encode()).hexdigest(),
    }


def check_header(path: Path, header: Mapping[str, Any], *, same_sources: bool) -> None:
    """Refuse to write into a folder what does not go with what is there.

    Args:
        path: a manifest in the folder.
        header: of the run to come.
        same_sources: whether it must be about the same sources, too.

    Raises:
        OutputError: when they differ; the message says in what.
        DataError: when the manifest is none.
    """
    there = read_header(path)
    if there is None:
        return
    fix = "choose another output folder, or --overwrite to begin it anew"
    for key in DECIDES:
        if _decisive(key, there.get(key)) != _decisive(key, header[key]):
            same = f"give --{key} {there.get(key)}, " if key in ("engine", "precision", "device") else ""
            raise OutputError(f"{path} is of another run: {_difference(key, there.get(key), header[key])}; {same}{fix}")
    if same_sources and there.get("sources_digest") != header["sources_digest"]:
        raise OutputError(
            f"{path} is of {_sources(there)}, this run of {_sources(header)}; --resume to add to it, {fix}"
        )


def _decisive(key: str, value: Any) -> Any:
    """What of a field changes masks: "cuda" of "cuda:1", "gpu" of "gpu.1"."""
    return re.split("[:.]", value)[0] if key == "device" and isinstance(value, str) else value


def is_of_sources(path: Path, header: Mapping[str, Any]) -> bool:
    """Whether a manifest is of the same sources as a run to come, or tells of nothing.

    Raises:
        DataError: when the file cannot be read, or is no manifest that this version knows.
    """
    there = read_header(path)
    return there is None or there.get("sources_digest") == header["sources_digest"]


def told_sources(path: Path) -> str:
    """What a manifest is of, for messages.

    Raises:
        DataError: when the file cannot be read.
    """
    return _sources(read_header(path) or {})


def read_header(path: Path) -> Row | None:
    """The first row of a manifest; None where the run that began it did not get so far.

    Raises:
        DataError: when the file cannot be read, or is no manifest that this version knows.
    """
    try:
        with path.open("rb") as file:
            line = file.readline()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not line.endswith(b"\n"):
        return None
    header = _parsed(line)
    if header is None or "model_digest" not in header:
        raise DataError(f"{path} is no manifest of `roadseg segment`; move it away, or choose another output folder")
    if header.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {header.get('format_version')}, this roadseg knows {FORMAT_VERSION}; choose "
            "another output folder"
        )
    return header


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows after the header, with their position in bytes.

    A torn line, which a run that was killed leaves at the end and a machine that lost power perhaps elsewhere, is
    passed over: its frame is simply not recorded.

    Raises:
        DataError: when the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            position = len(file.readline())
            for line in file:
                row = _parsed(line)
                if row is not None:
                    yield position, row
                position += len(line)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def read_row(line: bytes) -> Row | None:
    """One row, from the line at a position that `read_rows` gave; None when somebody wrote over it meanwhile."""
    return _parsed(line)


def began(path: Path) -> float:
    """Unix time at which a manifest was begun; where its header does not say, that of its last change.

    Raises:
        DataError: when the file cannot be read.
    """
    seconds = (read_header(path) or {}).get("began")
    if isinstance(seconds, int | float):
        return float(seconds)
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


class ManifestWriter:
    """Appends rows to a manifest, each whole and at once: what was finished is on record if the process is killed.

    Nobody else can write it meanwhile. What is there stays, but for a torn line at its end.

    Args:
        path: of the manifest; its folder is made if it is not there.

    Raises:
        OutputError: when it cannot be written, or another run is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        except OSError as error:
            raise self._cannot(error) from error
        try:
            lock_file(self._file, path)
            self._cut(_whole_lines(path))
        except OSError as error:
            self._file.close()
            raise self._cannot(error) from error
        except OutputError:
            self._file.close()
            raise

    @property
    def is_empty(self) -> bool:
        """Whether not even a header is there."""
        return not self._size

    def begin(self, header: Row) -> None:
        """Drop all that is there, and write the first row.

        Raises:
            OutputError: when it cannot be written.
        """
        try:
            self._cut(0)
        except OSError as error:
            raise self._cannot(error) from error
        self.append({**header, "began": now()})

    def append(self, row: Row) -> None:
        """Add a row.

        Raises:
            OutputError: when it cannot be written; nothing of it stays.
        """
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:]) or 0
        except OSError as error:
            self._cut(self._size)
            raise self._cannot(error) from error
        self._size += len(line)

    def close(self) -> None:
        """Close the file, and let others write it."""
        self._file.close()

    def _cut(self, size: int) -> None:
        self._file.truncate(size)
        self._file.seek(size)
        self._size = size

    def _cannot(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.path}: {error.strerror or error}; choose another place or make room")


def now() -> float:
    """Unix time in s, as manifests have it."""
    return round(time.time(), 3)


def _whole_lines(path: Path) -> int:
    """Length of a file up to the end of its last whole line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def _parsed(line: bytes) -> Row | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _sources(header: Mapping[str, Any]) -> str:
    names, count = header.get("sources", []), header.get("sources_count", 0)
    return ", ".join(names) + (f" and {count - len(names)} more" if count > len(names) else "")


def _difference(key: str, there: Any, here: Any) -> str:
    if isinstance(there, dict) and isinstance(here, dict):
        key, there, here = next(
            (f"{key}.{k}", there.get(k), here.get(k)) for k in {**there, **here} if there.get(k) != here.get(k)
        )
    return f"{key} was {json.dumps(there)} and is now {json.dumps(here)}"
