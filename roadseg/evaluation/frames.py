"""The labelled frames that a model file is scored on, in the model's classes."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadseg.data.assignment import count_frames
from roadseg.data.config import read_data_config
from roadseg.data.datamodule import RoadDataModule
from roadseg.data.mapped import MappedFrames
from roadseg.data.mixture import OpenedData, label_sets_of, open_data, tables_of
from roadseg.errors import ConfigError, DataError, ImageError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import Taxonomy


@dataclass(frozen=True)
class ScoredFrame:
    """One frame, at its own size.

    Attributes:
        name: of the frame.
        image: (H, W, 3) uint8 RGB.
        truth: (H, W) uint8 set ids, 255 ignored.
    """

    name: str
    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]


class ScoredFrames:
    """The frames of one split, never resized.

    Args:
        parts: what each dataset gives, not all empty.
        limit: frames that are used, spread evenly over all; None uses all.
    """

    def __init__(self, parts: Sequence[MappedFrames], limit: int | None = None) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = [0, *accumulate(len(part) for part in self._parts)]
        self.available = self._starts[-1]
        """Frames of the split."""
        self._count = self.available if limit is None else min(limit, self.available)
        self.label_sets: LabelSets = self._parts[0].label_sets
        """Meaning of the ids in masks."""

    def __len__(self) -> int:
        """Number of frames that are used."""
        return self._count

    def name(self, index: int) -> str:
        """Name of a frame."""
        part, inside = self._place(index)
        return part.name(inside)

    def identity(self, index: int) -> tuple[str, str]:
        """(collection, name) of a frame: the same for every label set of one picture."""
        part, inside = self._place(index)
        return part.source.collection, part.name(inside)

    def drive(self, index: int) -> str:
        """The recording that a frame was taken from, with its collection: camvid/0016E5."""
        part, inside = self._place(index)
        return f"{part.source.collection}/{part.source.frames.drive(inside)}"

    def datasets(self) -> dict[str, int]:
        """Frames that each dataset gives to the split."""
        return count_frames([part.source for part in self._parts])

    def read(self, index: int) -> ScoredFrame:
        """One frame.

        Raises:
            DataError: when it cannot be read, or image and labels differ in size; the message names it.
        """
        part, inside = self._place(index)
        name = part.name(inside)
        try:
            image = part.read_image(inside)
            truth = part.read_mask(inside, (image.shape[0], image.shape[1]))
        except (DataError, ImageError) as error:
            raise DataError(f"frame {name} cannot be scored: {error}") from error
        if truth.shape != image.shape[:2]:
            raise DataError(
                f"frame {name} cannot be scored: its image is {image.shape[1]}x{image.shape[0]}, its labels "
                f"{truth.shape[1]}x{truth.shape[0]} (width x height); export them at the image's size"
            )
        return ScoredFrame(name, image, truth)

    def _place(self, index: int) -> tuple[MappedFrames, int]:
        if not 0 <= index < self._count:
            raise IndexError(f"frame {index} of {self._count}")
        frame = index * self.available // self._count
        part = bisect_right(self._starts, frame) - 1
        return self._parts[part], frame - self._starts[part]


def open_scored(config: str | Path, split: str, taxonomy: Taxonomy, limit: int | None = None) -> ScoredFrames:
    """Open a split of a configuration's data in the classes of a model.

    The taxonomy that the configuration names is not used: the datasets' label maps say what their labels are in the
    model's. Drives that the configuration holds out are.

    Args:
        config: a training configuration, or a file with its data section.
        split: "train", "val" or "test".
        taxonomy: of the model.
        limit: frames that are used, spread evenly over the split; None uses all.

    Raises:
        ConfigError: when the configuration is wrong.
        DataError: when data is missing, cannot be read in these classes, or gives no frame to the split.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--frames is {limit}; use at least 1, or leave it out for all frames")
    data = read_data_config(config)
    _refuse_foreign_label_map(data, taxonomy, config)
    try:
        label_sets = label_sets_of(tables_of(data.configs, data.root, taxonomy), taxonomy)
    except DataError as error:
        raise DataError(
            f"the model's classes are those of taxonomy '{taxonomy.name}', in which {config} cannot be read: {error}"
        ) from error
    opened = open_data(data.configs, data.root, label_sets, data.drives)
    if not any(map(len, opened.splits[split])):
        raise DataError(_empty_split(opened, split, config))
    return ScoredFrames(opened.splits[split], limit)


def data_facts(config: str | Path, split: str, frames: ScoredFrames) -> dict[str, Any]:
    """What was scored, in plain values that are the same on every machine."""
    return {
        "config": Path(config).name,
        "config_sha256": hashlib.sha256(Path(config).read_bytes()).hexdigest(),
        "split": split,
        "frames": len(frames),
        "frames_in_split": frames.available,
        "datasets": frames.datasets(),
        "labels": frames.label_sets.names,
    }


def _refuse_foreign_label_map(data: RoadDataModule, taxonomy: Taxonomy, config: str | Path) -> None:
    """A label map is written in class names of the configuration's taxonomy, which may mean nothing in the model's."""
    own, wanted = (t.family or t.name for t in (data.taxonomy, taxonomy))
    for dataset in data.configs:
        if dataset.label_map is not None and own != wanted:
            raise ConfigError(
                f"{config}: the label_map of {dataset.dataset} is written in classes of '{data.taxonomy.name}', but "
                f"the model has those of '{taxonomy.name}'; write the label_map, and data.taxonomy, in the model's"
            )


def _empty_split(opened: OpenedData, split: str, config: str | Path) -> str:
    counts = {name: sum(map(len, parts)) for name, parts in opened.splits.items()}
    held = ", ".join(f"{name} ({count})" for name, count in counts.items() if count) or "none at all"
    return f"{config} gives no frame to the split '{split}'; splits with frames: {held}; choose one by --split"
