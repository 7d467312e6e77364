"""How one dataset of a mixture is configured."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from roadseg.data.class_table import ClassTable
from roadseg.data.registry import check_options, dataset_spec
from roadseg.errors import ConfigError, DataError
from roadseg.ignore_regions import IgnoreRegions
from roadseg.taxonomy import Taxonomy

SPLITS = ("train", "val", "test")


@dataclass
class DatasetConfig:
    """One dataset of a mixture.

    Attributes:
        dataset: its name; docs/data.md lists them.
        folder: where it lies, if not under its name in the data root.
        options: the dataset's own.
        weight: share of a training epoch's samples, relative to the other datasets' weights; null for all datasets
            counts every frame once.
        short_side_px: frames are resized to this short side, for training and before they are segmented for a score, so
            that things of one size look it in all datasets; null leaves them at their size.
        splits: those that the dataset gives frames to; others of its frames are left out.
        label_map: label name -> class names of the taxonomy, in place of what comes with the dataset; an empty list
            ignores the label. Or the path of a YAML file with such a mapping.
        ignore_regions: parts of the image that are neither trained on nor scored, such as the camera's own car: each a
            polygon of [x, y] in parts of width and height, and if wanted `frames`, a pattern of frame names.
    """

    dataset: str
    folder: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    weight: float | None = None
    short_side_px: int | None = None
    splits: list[str] = field(default_factory=lambda: list(SPLITS))
    label_map: dict[str, list[str]] | str | None = None
    ignore_regions: list[dict[str, Any]] = field(default_factory=list)


def dataset_config(where: str, settings: Any) -> DatasetConfig:
    """One dataset's settings from plain values; a class that stands alone in a label map is a list of one.

    Raises:
        ConfigError: when a setting is unknown, missing, or of the wrong kind.
    """
    if isinstance(settings, DatasetConfig):
        return settings
    if not isinstance(settings, Mapping) or "dataset" not in settings:
        raise ConfigError(f"{where}: expected a mapping with dataset and its settings, got {settings!r}")
    for name, value in settings.items():
        if name not in _KINDS:
            near = difflib.get_close_matches(str(name), _KINDS, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(_KINDS)}"
            raise ConfigError(f"{where}: no setting '{name}'{hint}")
        kinds, words = _KINDS[name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ConfigError(f"{where}.{name} is {value!r}; use {words}")
    values = dict(settings)
    if isinstance(values.get("label_map"), dict):
        values["label_map"] = {k: [v] if isinstance(v, str) else v for k, v in values["label_map"].items()}
        if not all(isinstance(v, list) and all(type(n) is str for n in v) for v in values["label_map"].values()):
            raise ConfigError(f"{where}.label_map is {settings['label_map']!r}; use label: [class, ...]")
    return DatasetConfig(**values)


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "dataset": ((str,), "the name of a dataset"),
    "folder": ((str, type(None)), "a path, or null"),
    "options": ((dict,), "a mapping of the dataset's own options"),
    "weight": ((int, float, type(None)), "a number above 0, or null"),
    "short_side_px": ((int, type(None)), "a whole number of px, or null"),
    "splits": ((list,), f"a list of some of {', '.join(SPLITS)}"),
    "label_map": ((dict, str, type(None)), "a mapping of labels to lists of classes, the path of one, or null"),
    "ignore_regions": ((list,), "a list of regions"),
}
"""Setting -> its types, and what they are in words."""


def check_configs(configs: Sequence[DatasetConfig]) -> None:
    """Refuse settings that cannot work, before anything is opened.

    Raises:
        ConfigError: naming the setting, its value and the fix.
    """
    if not configs:
        raise ConfigError("data.datasets is empty; name at least one dataset")
    for i, config in enumerate(configs):
        where = f"data.datasets[{i}]"
        check_options(config.dataset, config.options)
        if config.weight is not None and not 0 < config.weight < float("inf"):
            raise ConfigError(f"{where}.weight is {config.weight}; use a finite value above 0, or null")
        if config.short_side_px is not None and not 32 <= config.short_side_px <= 8192:
            raise ConfigError(f"{where}.short_side_px is {config.short_side_px}; use 32 to 8192, or null")
        unknown = sorted(set(config.splits) - set(SPLITS))
        if unknown or not config.splits:
            raise ConfigError(f"{where}.splits is {config.splits}; use some of {', '.join(SPLITS)}")
        IgnoreRegions(config.ignore_regions)
    weighted = [config.weight is not None for config in configs]
    if any(weighted) and not all(weighted):
        raise ConfigError("data.datasets: some have a weight and some have none; give every one a weight, or none")


def mapped_classes(classes: ClassTable, config: DatasetConfig, taxonomy: Taxonomy) -> ClassTable:
    """A dataset's class table with the label map of its configuration.

    Raises:
        DataError: when the map names an unknown label or class, or its file is wrong.
    """
    if config.label_map is None:
        return classes
    targets = read_label_map(Path(config.label_map)) if isinstance(config.label_map, str) else config.label_map
    return classes.with_targets(taxonomy.family or taxonomy.name, targets)


def read_label_map(path: Path) -> dict[str, list[str]]:
    """A label map from a YAML file: label name -> list of class names.

    Raises:
        DataError: when the file is unreadable or something else.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"label map {path} cannot be read: {error}") from error
    if not isinstance(data, Mapping) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in data.values()
    ):
        raise DataError(f"label map {path}: expected label: [class, ...] in each line")
    return {str(label): names for label, names in data.items()}


def native_taxonomy(configs: Sequence[DatasetConfig]) -> str:
    """The taxonomy of datasets for which none was chosen.

    Raises:
        ConfigError: when they have different ones.
    """
    names = {config.dataset: dataset_spec(config.dataset).taxonomy for config in configs}
    if len(set(names.values())) > 1:
        listed = ", ".join(f"{dataset}: {name}" for dataset, name in names.items())
        raise ConfigError(f"the datasets have different taxonomies ({listed}); choose one by data.taxonomy")
    return next(iter(names.values()))
