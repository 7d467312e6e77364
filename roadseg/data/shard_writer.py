"""Writing a dataset as tar shards; see `roadseg.data.shards` for the format."""

import io
import json
import os
import tarfile
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from roadseg.data.labelled import FrameSource
from roadseg.data.shard_format import FRAMES, INDEX, VERSION, ShardEntry, classes_to_json
from roadseg.errors import ConfigError, DataError, OutputError, name_missing_extra


def write_shards(source: FrameSource, folder: Path, frames_per_shard: int = 500) -> Path:
    """Write a dataset as shards, image files unchanged; labels are decoded, and kept as PNGs of the dataset's own ids.

    The index is written last: without it the folder is no dataset. A run that was stopped goes on behind the shards
    that it finished. The same frames give the same bytes. Frames keep their order; sets whose neighbours look alike
    train better from shards of frames that were shuffled before, `source.take(permutation)`.

    Args:
        source: the dataset; its images must be files.
        folder: for the shards; made if it is not there.
        frames_per_shard: the last shard may have fewer. Shards of some hundred MB suit web servers.

    Returns:
        Path of the index.

    Raises:
        ConfigError: when frames_per_shard is not positive.
        DataError: when there are no frames, or one is broken.
        OutputError: when the folder holds shards of something else, or finished ones, or cannot be written.
        MissingExtraError: when webdataset is not installed.
    """
    if frames_per_shard < 1:
        raise ConfigError(f"frames_per_shard is {frames_per_shard}; use at least 1")
    if not len(source.frames):
        raise DataError(f"dataset '{source.name}' has no frames to write")
    if (folder / INDEX).exists():
        raise OutputError(f"{folder} holds finished shards, and nothing is overwritten; choose another folder")
    with name_missing_extra("writing shards"):
        import webdataset.writer  # noqa: F401  (now, rather than after minutes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob(".*.part"):  # of a run that was killed
            part.unlink()
        return _write_all(source, folder, frames_per_shard)
    except OSError as error:
        raise OutputError(f"cannot write shards to {folder}: {error.strerror or error}; make room there") from error


def _write_all(source: FrameSource, folder: Path, frames_per_shard: int) -> Path:
    starts = range(0, len(source.frames), frames_per_shard)
    shards: list[dict[str, Any]] = []
    listing = folder / f".{FRAMES}.part"
    with (
        listing.open("w", encoding="ascii") as lines,
        tqdm(total=len(source.frames), desc="writing shards", unit="frame", disable=None) as progress,
    ):
        for number, start in enumerate(starts):
            positions = range(start, min(start + frames_per_shard, len(source.frames)))
            path = folder / f"shard-{number:06d}.tar"
            if not path.exists():
                _write_shard(source, positions, path)
            for line in _list_shard(source, positions, path):
                lines.write(json.dumps(line) + "\n")
            shards.append({**_describe(path), "frames": len(positions)})
            progress.update(len(positions))
    listing.replace(folder / FRAMES)
    index = {
        "version": VERSION,
        "name": source.name,
        "collection": source.collection,
        "classes": classes_to_json(source.classes),
        "frames": _describe(folder / FRAMES),
        "shards": shards,
    }
    part = folder / f".{INDEX}.part"
    part.write_text(json.dumps(index, indent=1), encoding="ascii")
    return part.replace(folder / INDEX)


def _write_shard(source: FrameSource, positions: range, path: Path) -> None:
    from webdataset.writer import TarWriter

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # A fixed time, so that the same frames give the same bytes.
        with part.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as tar:
            for position in positions:
                tar.write({"__key__": f"{position:09d}", **_files_of(source, position)})
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _files_of(source: FrameSource, position: int) -> dict[str, bytes]:
    """Ending -> content of a frame's three files."""
    frame, image = source.frames[position], source.frames.image_path(position)
    try:
        data = image.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {image}: {error.strerror or error}; shards hold image files") from error
    height, width = source.image_size(position)
    about = {"name": frame.name, "drive": frame.drive, "split": frame.split, "height": height, "width": width}
    labels = source.read_labels(position, (height, width))
    return {
        image.suffix.lower().lstrip("."): data,
        "json": json.dumps(about).encode(),
        "label.png": _encode_labels(labels, source.frames.label_path(position)),
    }


def _encode_labels(labels: npt.NDArray[np.integer], path: Path) -> bytes:
    if labels.dtype != np.uint8:
        if labels.size and not 0 <= labels.min() <= labels.max() <= 65535:
            raise DataError(f"{path} holds label ids from {labels.min()} to {labels.max()}; shards hold 0 to 65535")
        labels = labels.astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def _list_shard(source: FrameSource, positions: range, path: Path) -> list[ShardEntry]:
    """Where the frames of a shard lie in it; the shard must hold the frames of these positions."""
    try:
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            triples = [members[i : i + 3] for i in range(0, len(members), 3)]
            entries = [_entry(tar, {m.name.partition(".")[2]: m for m in triple}) for triple in triples]
    except (tarfile.TarError, ValueError, LookupError) as error:
        raise _other_frames(path) from error
    wanted = [source.frames[position] for position in positions]
    if [(e.name, e.drive, e.split) for e in entries] != [(f.name, f.drive, f.split) for f in wanted]:
        raise _other_frames(path)
    return entries


def _entry(tar: tarfile.TarFile, files: dict[str, tarfile.TarInfo]) -> ShardEntry:
    """The entry of a frame from its three files by ending."""
    label, about_file = files.pop("label.png"), tar.extractfile(files.pop("json"))
    (image,) = files.values()
    assert about_file is not None
    about = json.load(about_file)
    return ShardEntry(
        *(about["name"], image.name, label.name, about["drive"], about["split"], about["height"], about["width"]),
        *(image.offset_data, image.size, label.offset_data, label.size),
    )


def _other_frames(path: Path) -> OutputError:
    return OutputError(
        f"{path} is there already and holds other frames than this dataset would put there; choose an empty folder, or "
        "remove it"
    )


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"file": path.name, "bytes": path.stat().st_size, "sha256": file_digest(file, "sha256").hexdigest()}
