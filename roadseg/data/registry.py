"""The datasets by name: the only place where a name becomes a dataset."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from roadseg.data.class_table import ClassTable, list_class_tables, load_class_table
from roadseg.data.labelled import FrameSource
from roadseg.data.root import data_root
from roadseg.errors import ConfigError


@dataclass(frozen=True)
class DatasetSpec:
    """How to open a dataset.

    Attributes:
        module: that defines it, imported when it is asked for.
        opener: its function there, of the dataset's folder and the dataset's own options.
        taxonomy: the one its masks are read in unless another is chosen.
        table: name of its class table, by its options; None where the classes lie beside the frames.
        on_disk: whether it lies in a folder of the data root; the others are made as they are read.
    """

    module: str
    opener: str
    taxonomy: str
    table: Callable[..., str] | None = None
    on_disk: bool = True

    @property
    def open(self) -> Callable[..., FrameSource]:
        """The function."""
        return getattr(import_module(self.module), self.opener)

    @property
    def options(self) -> list[str]:
        """Names of the dataset's own options."""
        return [name for name in inspect.signature(self.open).parameters if name != "folder"]

    @property
    def how_to_get(self) -> str:
        """A sentence that says how to get the data; empty for what is made as it is read."""
        return getattr(import_module(self.module), "HOW_TO_GET", "")


def _spec(
    name: str,
    taxonomy: str = "hdmap",
    table: Callable[..., str] | None = None,
    on_disk: bool = True,
) -> DatasetSpec:
    return DatasetSpec(f"roadseg.data.datasets.{name}", f"open_{name}", taxonomy, table, on_disk)


def _always(table: str) -> Callable[..., str]:
    return lambda **options: table


DATASETS: Mapping[str, DatasetSpec] = {
    "ade20k": _spec("ade20k", "ade150", _always("ade20k")),
    "apolloscape": _spec("apolloscape", table=_always("apolloscape")),
    "apolloscape_lanes": _spec("apolloscape_lanes", "hdmap-lanes"),
    "bdd100k": _spec(
        "bdd100k",
        "cityscapes19",
        lambda labels="sem_seg": {"sem_seg": "bdd100k"}.get(labels, f"bdd100k_{labels}"),
    ),
    "bdd100k_lanes": _spec("bdd100k_lanes", "hdmap-lanes", _always("bdd100k_lanes")),
    "camvid": _spec("camvid", "camvid11", _always("camvid")),
    "camvid32": _spec("camvid32", "camvid32", _always("camvid32")),
    "cityscapes": _spec("cityscapes", "cityscapes19", _always("cityscapes")),
    "coco": _spec("coco"),
    "comma10k": _spec("comma10k", table=_always("comma10k")),
    "cvat": _spec("cvat"),
    "folder": _spec("folder"),
    "idd": _spec("idd", table=lambda labels="polygons": "idd_level3" if labels == "level3Ids" else "idd"),
    "kitti": _spec("kitti", "cityscapes19", _always("cityscapes")),
    "kitti360": _spec("kitti360", "cityscapes19", _always("kitti360")),
    "labelme": _spec("labelme"),
    "shards": _spec("shards"),
    "synthetic": _spec("synthetic", "hdmap-synthetic", _always("synthetic"), on_disk=False),
    "vistas": _spec("vistas", table=lambda version="2.0", labels="labels": f"vistas{str(version).replace('.', '')}"),
}


def dataset_spec(name: str) -> DatasetSpec:
    """The entry of a dataset.

    Raises:
        ConfigError: when there is none; the message lists those there are.
    """
    if name not in DATASETS:
        raise ConfigError(f"no dataset '{name}'; known: {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a dataset does not have.

    Raises:
        ConfigError: naming the option and those there are.
    """
    known = dataset_spec(name).options
    for option in options:
        if option not in known:
            raise ConfigError(
                f"dataset '{name}' has no option '{option}' (data.options); it has {', '.join(known) or 'none'}"
            )


def open_dataset(
    name: str, root: str | Path | None = None, folder: str | Path | None = None, /, **options: Any
) -> FrameSource:
    """Open a dataset: all its splits, with labels in its own ids.

    Args:
        name: see `DATASETS`.
        root: the data root; None is $ROADSEG_DATA if set, else ./data.
        folder: the dataset's folder if it does not lie under its name in the data root.
        options: the dataset's own.

    Raises:
        ConfigError: when the name or an option is unknown, or an option has a value that cannot work.
        DataError: when data is missing or broken.
    """
    spec = dataset_spec(name)
    check_options(name, options)
    if not spec.on_disk:
        return spec.open(**options)
    return spec.open(Path(folder).expanduser() if folder else data_root(root) / name, **options)


def class_table_of(
    name: str, root: str | Path | None, folder: str | Path | None, options: Mapping[str, Any]
) -> ClassTable:
    """The class table of a dataset, which is opened only if its classes lie beside its frames.

    Raises:
        ConfigError: when the name or an option is unknown.
        DataError: when it must be opened and is missing or broken.
    """
    spec = dataset_spec(name)
    check_options(name, options)
    table = spec.table(**options) if spec.table else None
    if table in list_class_tables():
        return load_class_table(table)
    return open_dataset(name, root, folder, **options).classes
