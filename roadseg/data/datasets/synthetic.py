"""Procedural scenes as a dataset: no files, the labels exact."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadseg.data.class_table import load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.synthetic import SyntheticRoadDataset
from roadseg.errors import ConfigError

_SPLITS = ("train", "val", "test")


class SyntheticFrames:
    """Scenes of several splits; see `roadseg.data.labelled.FrameSource`.

    Args:
        scenes: by split.
    """

    name = collection = "synthetic"

    def __init__(self, scenes: dict[str, SyntheticRoadDataset]) -> None:
        self.classes = load_class_table("synthetic")
        self._scenes = scenes
        self._places = [(split, i) for split, dataset in scenes.items() for i in range(len(dataset))]
        self.frames = FrameTable(
            Path(),
            (Frame(name, "", "", name, split) for split, dataset in scenes.items() for name in dataset.names),
        )
        # Image and labels of a scene are asked for one after the other, by each of a loader's threads.
        self._render = lru_cache(maxsize=8)(self._render_scene)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._places)

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of a scene."""
        return self._scenes[self._places[index][0]].size

    def read_image(self, index: int, reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Image (H, W, 3) uint8 RGB, never reduced."""
        return self._render(*self._places[index])[0]

    def read_image_part(self, index: int, box: tuple[int, int, int, int], reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Part (top, left, bottom, right) of an image, (h, w, 3) uint8, never reduced."""
        top, left, bottom, right = box
        return self.read_image(index)[top:bottom, left:right]

    def read_labels(self, index: int, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Class ids (H, W) uint8 of hdmap-synthetic."""
        return self._render(*self._places[index])[1]

    def read_labels_part(
        self, index: int, size: tuple[int, int], box: tuple[int, int, int, int]
    ) -> npt.NDArray[np.integer]:
        """Part (top, left, bottom, right) of the class ids."""
        top, left, bottom, right = box
        return self.read_labels(index, size)[top:bottom, left:right]

    def take(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> "SyntheticFrames":
        """Some of the scenes, in the order given."""
        taken = SyntheticFrames(self._scenes)
        taken._places = [self._places[i] for i in indices]
        taken.frames = self.frames.take(indices)
        return taken

    def __getstate__(self) -> dict[str, Any]:
        """Without the scenes drawn so far, for loading processes that do not fork."""
        return {key: value for key, value in self.__dict__.items() if key != "_render"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with no scene drawn."""
        self.__dict__.update(state)
        self._render = lru_cache(maxsize=8)(self._render_scene)

    def _render_scene(self, split: str, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        image, mask, _ = self._scenes[split][index]
        return image, mask


def open_synthetic(
    train_frames: int = 256,
    val_frames: int = 32,
    size: tuple[int, int] = (256, 384),
    seed: int = 0,
) -> SyntheticFrames:
    """Procedural scenes with thirteen classes.

    Args:
        train_frames: scenes of the training split.
        val_frames: scenes of the validation split, and of the test split.
        size: (height, width) of a scene in px.
        seed: of the scenes; no two seeds share any.

    Raises:
        ConfigError: when a value cannot work.
    """
    for name, value in {"train_frames": train_frames, "val_frames": val_frames, "seed": seed}.items():
        least = 0 if name == "seed" else 1
        if type(value) is not int or value < least:
            raise ConfigError(f"data.options.{name} is {value!r}; use a whole number of at least {least}")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(side) is int for side in size):
        raise ConfigError(f"data.options.size is {size!r}; use [height, width] in px")
    counts = (train_frames, val_frames, val_frames)
    return SyntheticFrames(
        {
            split: SyntheticRoadDataset(count, (size[0], size[1]), 3 * seed + place)
            for place, (split, count) in enumerate(zip(_SPLITS, counts, strict=True))
        }
    )
