"""Mapillary Vistas, releases 1.2 and 2.0."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from roadseg.data.class_table import ClassTable, load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.label_files import IndexLabels, LabelReader
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder, stem
from roadseg.data.masks import read_index_mask
from roadseg.errors import ConfigError, DataError

SPLITS = {"training": "train", "validation": "val"}
"""Published folder -> split; testing comes without labels."""

VERSIONS = {"1.2": "vistas12", "2.0": "vistas20"}
"""Release -> class table."""

HOW_TO_GET = (
    "register at https://www.mapillary.com/dataset/vistas, accept the licence (CC BY-NC-SA 4.0, non-commercial), "
    "download the archive and unpack it to `vistas` in your data root, so that vistas/training/images is there"
)

_NAME = "Mapillary Vistas"
_INSTANCES_PER_LABEL = 256


class InstanceLabels:
    """16-bit masks that hold label * 256 + number of the instance."""

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W) uint8.

        Raises:
            DataError: when the file is unreadable or has only 8 bits.
        """
        values = read_index_mask(path)
        if values.dtype == np.uint8:
            raise DataError(
                f"mask {path} has 8 bits, but an instance mask has 16 (label * 256 + instance); take the file of the "
                "published archive, or open the dataset with labels='labels'"
            )
        return (values // _INSTANCES_PER_LABEL).astype(np.uint8)


_READERS: dict[str, type[LabelReader]] = {"labels": IndexLabels, "instances": InstanceLabels}


def open_vistas(folder: Path, version: str = "2.0", labels: str = "labels") -> LabelledFrames:
    """Mapillary Vistas (Neuhold et al., 2017): street scenes from around the world, 66 or 124 labels.

    Layout: `{training,validation}/images/KEY.jpg` with masks `labels/KEY.png` (release 1.2; `v1.2/labels` where both
    releases are unpacked) or `v2.0/labels/KEY.png`: palette PNGs whose indices are positions in config_v1.2.json or
    config_v2.0.json. `instances` in place of `labels` holds the same with instances, in 16 bit. If the config is there,
    it must agree with the published one. Which frames share a drive is not published: each is its own.

    Args:
        folder: the dataset's folder.
        version: "1.2" or "2.0"; both label the same pictures.
        labels: "labels" or "instances": which masks are read.

    Raises:
        ConfigError: when an option has another value.
        DataError: when folders are missing, files are unpaired, or the config lists other labels.
    """
    version = str(version)  # a YAML file gives the number 2.0
    if version not in VERSIONS:
        raise ConfigError(f"vistas has no version '{version}'; it has {', '.join(VERSIONS)}")
    if labels not in _READERS:
        raise ConfigError(f"vistas has no masks '{labels}'; labels is one of {', '.join(_READERS)}")
    table = load_class_table(VERSIONS[version])
    _check_config(folder / f"config_v{version}.json", table)
    frames = FrameTable(folder, _frames(folder, version, labels))
    return LabelledFrames(VERSIONS[version], frames, table, _READERS[labels](), "vistas")


def _frames(folder: Path, version: str, labels: str) -> Iterator[Frame]:
    published = [name for name in SPLITS if (folder / name).is_dir()]
    for name in published or list(SPLITS):
        images, masks = folder / name / "images", _masks_of(folder / name, version, labels)
        require_folder(images, _NAME, HOW_TO_GET)
        require_folder(masks, _NAME, HOW_TO_GET)
        image_of = by_key(find_files(images, below=False), stem, images)
        mask_of = by_key(find_files(masks, [".png"], below=False), stem, masks)
        below = masks.relative_to(folder).as_posix()
        for key, image, mask in pair_by_key(image_of, mask_of, images, masks):
            yield Frame(key, f"{name}/images/{image}", f"{below}/{mask}", key, SPLITS[name])


def _masks_of(split: Path, version: str, labels: str) -> Path:
    """The archive of release 1.2 has no folder for the version, that of 2.0 has one for each."""
    versioned = split / f"v{version}" / labels
    return versioned if version != "1.2" or versioned.is_dir() else split / labels


def _check_config(path: Path, table: ClassTable) -> None:
    """Masks of another release, or of someone's own labels, would be read with wrong meanings."""
    if not path.is_file():
        return
    try:
        names = [str(label["name"]) for label in json.loads(path.read_text(encoding="utf-8"))["labels"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a config of Vistas, a list of labels that have names ({error!r})") from error
    published = [label.name for label in table.labels]
    if names == published:
        return
    place = next((i for i, (a, b) in enumerate(zip(names, published, strict=False)) if a != b), None)
    difference = (
        f"it lists {len(names)} labels in place of {len(published)}"
        if place is None
        else f"label {place} is '{names[place]}' in place of '{published[place]}'"
    )
    raise DataError(
        f"{path} is not the published one: {difference}; take the masks and the config of the original archive, or "
        "open the masks as dataset `folder` with your own labels"
    )
