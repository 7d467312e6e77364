"""Several datasets as one: opened, shared out to the splits, and seen through one taxonomy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roadseg.data.assignment import assign_splits
from roadseg.data.class_table import ClassTable
from roadseg.data.dataset_config import SPLITS, DatasetConfig, mapped_classes, native_taxonomy
from roadseg.data.labelled import FrameSource
from roadseg.data.mapped import MappedFrames
from roadseg.data.registry import class_table_of, open_dataset
from roadseg.data.splitting import DriveSplit
from roadseg.errors import ConfigError, DataError
from roadseg.ignore_regions import IgnoreRegions
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import Taxonomy, load_taxonomy


def open_sources(configs: Sequence[DatasetConfig], root: str | Path | None, taxonomy: Taxonomy) -> list[FrameSource]:
    """Open every dataset, with its label map.

    Raises:
        ConfigError: when a name or option is unknown.
        DataError: when data is missing or broken, or labels are not mapped to the taxonomy.
    """
    sources = [open_dataset(config.dataset, root, config.folder, **config.options) for config in configs]
    for source, config in zip(sources, configs, strict=True):
        source.classes = mapped_classes(source.classes, config, taxonomy)
        source.classes.sets_in(taxonomy)
    return sources


def label_sets_of(tables: Sequence[ClassTable], taxonomy: Taxonomy) -> LabelSets:
    """The set ids of masks in which all these datasets can be labelled."""
    return LabelSets.collect(taxonomy, [s for table in tables for s in table.sets_in(taxonomy).values()])


@dataclass(frozen=True)
class OpenedData:
    """The frames of every split.

    Attributes:
        label_sets: meaning of the ids in masks.
        splits: split name -> what each dataset gives to it, in the order of the datasets; parts may be empty.
    """

    label_sets: LabelSets
    splits: Mapping[str, list[MappedFrames]]


def open_data(
    configs: Sequence[DatasetConfig], root: str | Path | None, label_sets: LabelSets, drives: DriveSplit | None = None
) -> OpenedData:
    """Open datasets and share their frames out to the splits; see `open_sources` and `assign_splits`.

    Args:
        configs: the datasets.
        root: the data root.
        label_sets: see `label_sets_of`.
        drives: the drives held out, in place of the published splits.

    Raises:
        ConfigError: when a name or option is unknown.
        DataError: when data is missing or broken, labels are not mapped to the taxonomy, or a drive is unknown.
    """
    return share_out(open_sources(configs, root, label_sets.taxonomy), configs, label_sets, drives)


def share_out(
    sources: Sequence[FrameSource],
    configs: Sequence[DatasetConfig],
    label_sets: LabelSets,
    drives: DriveSplit | None = None,
) -> OpenedData:
    """Share the frames of opened datasets out to the splits; see `assign_splits`.

    Raises:
        DataError: when a drive that is held out is in no dataset.
    """
    assigned = assign_splits(sources, configs, label_sets.taxonomy, drives)
    return OpenedData(label_sets, {split: mapped(parts, configs, label_sets) for split, parts in assigned.items()})


def open_frames(
    dataset: str, split: str = "train", *, root: str | Path | None = None, taxonomy: str | None = None, **options: Any
) -> MappedFrames:
    """The frames of a split of one dataset: `frames[i]` is image, mask of set ids, and name.

    Args:
        dataset: its name.
        split: "train", "val" or "test", as published.
        root: the data root.
        taxonomy: name or file of the classes; None is the dataset's own.
        options: the dataset's own.

    Raises:
        ConfigError: when a name or option is unknown.
        DataError: when data is missing or broken, or no frame belongs to the split.
    """
    if split not in SPLITS:
        raise ConfigError(f"{dataset} has no split '{split}'; it has {', '.join(SPLITS)}")
    configs = [DatasetConfig(dataset, options=options)]
    classes = load_taxonomy(taxonomy or native_taxonomy(configs))
    label_sets = label_sets_of(tables_of(configs, root, classes), classes)
    (frames,) = open_data(configs, root, label_sets).splits[split]
    if not len(frames):
        held = ", ".join(sorted({frame.split for frame in open_dataset(dataset, root, **options).frames}))
        raise DataError(f"{dataset} has no frame in the split '{split}'; it has {held or 'none at all'}")
    return frames


def tables_of(configs: Sequence[DatasetConfig], root: str | Path | None, taxonomy: Taxonomy) -> list[ClassTable]:
    """The class tables of datasets, with their label maps, opening only those whose classes lie beside their frames.

    Raises:
        ConfigError: when a name or option is unknown.
        DataError: when a dataset that must be opened is missing or broken, or a label map is wrong.
    """
    return [
        mapped_classes(class_table_of(config.dataset, root, config.folder, config.options), config, taxonomy)
        for config in configs
    ]


def mapped(parts: Sequence[FrameSource], configs: Sequence[DatasetConfig], label_sets: LabelSets) -> list[MappedFrames]:
    """The datasets' parts of a split with masks of set ids; datasets that give nothing are kept, empty."""
    return [
        MappedFrames(
            part,
            label_sets,
            config.short_side_px,
            IgnoreRegions(config.ignore_regions) if config.ignore_regions else None,
        )
        for part, config in zip(parts, configs, strict=True)
    ]
