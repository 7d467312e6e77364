"""Whether a model was trained on the frames that it is scored on, by the record in its file.

The record says which datasets a run trained on and which drives it held out. Sharing the same datasets out once more
tells frame by frame what it saw, also where two datasets label the same pictures and one of them keeps some apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from roadseg.data.assignment import assign_splits, count_frames
from roadseg.data.datamodule import RoadDataModule
from roadseg.data.dataset_config import DatasetConfig, dataset_config, mapped_classes
from roadseg.data.labelled import FrameSource
from roadseg.data.registry import dataset_spec, open_dataset
from roadseg.data.splitting import DriveSplit
from roadseg.errors import ConfigError, DataError
from roadseg.evaluation.frames import ScoredFrames
from roadseg.taxonomy import Taxonomy

_SILENT = "the model file does not say what it was trained on"


@dataclass(frozen=True)
class Seen:
    """How many of the scored frames a model was trained on.

    Attributes:
        frames: those that it is known to have been trained on.
        of: all that are scored.
        gap: why the others cannot be told; empty where they can.
    """

    frames: int
    of: int
    gap: str = ""

    @property
    def verdict(self) -> bool | Literal["unknown"]:
        """True if some were, False if none was, "unknown" if that cannot be told."""
        if self.frames:
            return True
        return "unknown" if self.gap else False

    def __str__(self) -> str:
        """One line for people."""
        if self.frames:
            least = "at least " if self.gap else ""
            return f"{least}{self.frames} of the {self.of} frames were trained on: the scores flatter"
        if self.gap:
            return f"unknown whether the frames were trained on: {self.gap}"
        return "none of the frames was trained on, by the model file's record"


def seen_in_training(
    provenance: Mapping[str, Any], taxonomy: Taxonomy, frames: ScoredFrames, data: RoadDataModule
) -> Seen:
    """Compare a model file's record with the frames that are scored.

    Args:
        provenance: the record, `ModelHeader.provenance`. Folders that it names are opened only if the configuration
            names them too, since a model file may come from anyone.
        taxonomy: of the model.
        frames: that are scored.
        data: the configuration that they come from, which says where data lies.
    """
    scored = {frames.identity(index) for index in range(len(frames))}
    record = provenance.get("data")
    try:
        configs, drives, counts = _read(record)
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError):
        return Seen(0, len(scored), _SILENT)
    gaps = _other_sources(provenance)
    opened, missing = _open(configs, taxonomy, data)
    gaps += [f"{name}, which it was trained on, is not here" for name in missing if counts.get(name, 1)]
    try:
        train = assign_splits([s for s, _ in opened], [c for _, c in opened], taxonomy, drives)["train"]
    except DataError as error:
        return Seen(0, len(scored), str(error))
    here = count_frames(train)
    gaps += [
        f"{name} gave {then} frames to training, and gives {here[name]} here"
        for name, then in counts.items()
        if name in here and here[name] != then
    ]
    trained = {
        (part.collection, name)
        for part in train
        for name in map(part.frames.name, range(len(part.frames)))
        if (part.collection, name) in scored
    }
    return Seen(len(trained), len(scored), "; ".join(gaps))


def _read(record: Any) -> tuple[list[DatasetConfig], DriveSplit | None, dict[str, int]]:
    """Datasets, drives held out, and frames that each dataset gave to training, of `RoadDataModule.describe`."""
    configs = [dataset_config("data.datasets", settings) for settings in record["datasets"]]
    held = record.get("held_out")
    drives = None if held is None else DriveSplit(tuple(held["val"]), tuple(held.get("test") or ()))
    counts = {name: int(count) for name, count in record.get("frames", {}).get("train", {}).items()}
    return configs, drives, counts


def _other_sources(provenance: Mapping[str, Any]) -> list[str]:
    """Models that this one learned from: what they were trained on is in their files, not in this one."""
    recipe = provenance.get("recipe")
    learned = {
        "it began from": (provenance.get("initialisation"), "source"),
        "it was taught by": (recipe.get("distillation") if isinstance(recipe, Mapping) else None, "teacher"),
    }
    return [
        f"{how} {held.get(key, 'another model')}, and what that one saw is not told here"
        for how, (held, key) in learned.items()
        if isinstance(held, Mapping)
    ]


def _open(
    configs: Sequence[DatasetConfig], taxonomy: Taxonomy, data: RoadDataModule
) -> tuple[list[tuple[FrameSource, DatasetConfig]], list[str]]:
    """The recorded datasets that are at hand, and the names of the others."""
    opened, missing = [], []
    for config in configs:
        try:
            folder = _folder(config, data.configs)
            source = open_dataset(config.dataset, data.root, folder, **config.options)
            source.classes = mapped_classes(source.classes, config, taxonomy)
        except (ConfigError, DataError, TypeError, ValueError):
            missing.append(config.dataset)
        else:
            opened.append((source, replace(config, folder=folder)))
    return opened, missing


def _folder(config: DatasetConfig, own: Sequence[DatasetConfig]) -> str | None:
    """Where a recorded dataset lies here.

    Raises:
        DataError: for a dataset of one's own in a folder that the configuration does not name.
    """
    folders = [other.folder for other in own if other.dataset == config.dataset]
    if config.folder is None or config.folder in folders:
        return config.folder
    if dataset_spec(config.dataset).table is None:
        raise DataError(f"the folder {config.folder} of {config.dataset} is not one of the configuration")
    return folders[0] if folders else None
