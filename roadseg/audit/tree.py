"""Auditing a folder of which nothing is known but where it lies."""

import colorsys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from roadseg.audit.auditing import audit_parts
from roadseg.audit.findings import Occurrence
from roadseg.audit.frame_scan import Part
from roadseg.audit.report import AuditReport
from roadseg.data.class_table import ClassTable, SourceLabel, load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.label_files import ColourLabels
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import find_files
from roadseg.data.mapped import MappedFrames
from roadseg.errors import DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import IGNORE_INDEX, RoadClass, Taxonomy

_SPLIT_OF = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "leftImg8bit", "JPEGImages")
_MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annots", "gtFine", "gt", "SegmentationClass")
_IMAGE_ENDINGS = ("_leftImg8bit",)
_MASK_ENDINGS = ("_gtFine_labelIds", "_labelIds", "_L", "_mask", "_labels", "_label", "_gt")
_FAMILY = "audit"
_LOOKED_AT = 5


class _Folders(NamedTuple):
    images: str
    masks: str
    split: str | None  # None: told by the folders inside
    table: str | None  # class table that goes with the layout


def audit_tree(
    folder: str | Path,
    *,
    classes: ClassTable | None = None,
    waive: Collection[str] = (),
    workers: int | None = None,
    progress: bool = True,
) -> AuditReport:
    """Audit images and masks that are found by convention, also where files are missing.

    Looked for are `train/` with `trainannot/` (and val, test), and `images/` with `masks/`, `labels/`, `annotations/`
    or the like, either below or above folders `train`, `val` and `test`, and the trees of Cityscapes. Without a class
    table, neither given nor lying there as `classes.yaml`, every id is taken for a label, and unknown labels, shifted
    ids and missing classes cannot be told.

    Args:
        folder: where to look.
        classes: the labels.
        waive: findings that are known and accepted; see `Waivers`.
        workers: number of processes; by default one a core.
        progress: whether to show a bar, if the terminal can.

    Raises:
        DataError: when the folder holds no such tree.
        ConfigError: when a waiver names no check, or `workers` is less than 1.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file: audit a configuration with -c FILE" if folder.is_file() else "does not exist"
        raise DataError(f"{folder} {what}; give a folder with images and masks")
    found = list(_find_folders(folder))
    if not found:
        raise DataError(
            f"{folder} holds no images and masks that are found by convention: looked for train/ with trainannot/, "
            f"and for one of {', '.join(_IMAGE_FOLDERS)} with one of {', '.join(_MASK_FOLDERS)}; give a "
            "configuration instead"
        )
    name = folder.resolve().name
    table = classes or _table_of(folder, found)
    frames: list[Frame] = []
    lonely: list[Occurrence] = []
    for folders in found:
        _pair(folder, folders, name, frames, lonely)
    parts = _parts(name, FrameTable(folder, frames), table or _any_label())
    return audit_parts(
        parts, lonely, waive=waive, workers=workers, progress=progress, with_classes=table is not None and bool(parts)
    )


def _find_folders(folder: Path) -> Iterator[_Folders]:
    for split, name in _SPLIT_OF.items():
        if (folder / split).is_dir() and (folder / f"{split}annot").is_dir():
            yield _Folders(split, f"{split}annot", name, "camvid")
        yield from _twins(folder, f"{split}/", name)
    yield from _twins(folder, "", None)


def _twins(folder: Path, above: str, split: str | None) -> Iterator[_Folders]:
    images = next((name for name in _IMAGE_FOLDERS if (folder / above / name).is_dir()), None)
    masks = next((name for name in _MASK_FOLDERS if (folder / above / name).is_dir()), None)
    if images and masks:
        table = "cityscapes" if images == "leftImg8bit" and masks == "gtFine" else None
        if (folder / "label_colors.txt").is_file():
            table = "camvid32"
        yield _Folders(above + images, above + masks, split, table)


def _table_of(folder: Path, found: list[_Folders]) -> ClassTable | None:
    if (folder / "classes.yaml").is_file():
        return load_class_table(folder / "classes.yaml")
    return load_class_table(found[0].table) if found[0].table else None


def _pair(folder: Path, folders: _Folders, dataset: str, frames: list[Frame], lonely: list[Occurrence]) -> None:
    images, masks = find_files(folder / folders.images), find_files(folder / folders.masks)
    ids = [path for path in masks if path.endswith("_labelIds.png")]
    image_of = _by_key(images, _IMAGE_ENDINGS)
    mask_of = _by_key(ids or masks, _MASK_ENDINGS)
    for key in sorted({*image_of, *mask_of}):
        split, name = _split_of(key, folders.split)
        image, mask = image_of.get(key, []), mask_of.get(key, [])
        if len(image) == len(mask) == 1:
            paths = f"{folders.images}/{image[0]}", f"{folders.masks}/{mask[0]}"
            frames.append(Frame(name, *paths, _drive_of(name, folders), split))
            continue
        lone = [("image", f"{folders.images}/{p}") for p in image] + [("mask", f"{folders.masks}/{p}") for p in mask]
        for kind, path in lone:
            detail = f"{kind} of {len(image)} image(s) and {len(mask)} mask(s) named {key}"
            lonely.append(Occurrence("unpaired", dataset, split, name, str(folder / path), detail))


def _by_key(paths: list[str], endings: tuple[str, ...]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        stem = path.rpartition(".")[0]
        ending = next((e for e in endings if stem.endswith(e)), "")
        found.setdefault(stem.removesuffix(ending), []).append(path)
    return found


def _split_of(key: str, split: str | None) -> tuple[str, str]:
    """Split and name of a frame."""
    first, slash, below = key.partition("/")
    if split is None and slash and first.lower() in _SPLIT_OF:
        return _SPLIT_OF[first.lower()], below
    return split or "train", key


def _drive_of(name: str, folders: _Folders) -> str:
    if folders.table in {"camvid", "camvid32"}:
        return name.partition("_")[0]
    return name.rpartition("/")[0]


def _parts(name: str, table: FrameTable, classes: ClassTable) -> list[Part]:
    if not len(table):
        return []
    taxonomy, mapped = _own_taxonomy(name, classes)
    colours = any(label.colour is not None for label in classes.labels) and _shows_colours(table)
    source = LabelledFrames(name, table, mapped, ColourLabels(mapped) if colours else None)
    sets = LabelSets.collect(taxonomy, [])
    splits = [split for split in ("train", "val", "test") if split in table.splits]
    rows = {split: [i for i, frame in enumerate(table) if frame.split == split] for split in splits}
    return [Part(split, MappedFrames(source.take(rows[split]), sets)) for split in splits]


def _shows_colours(table: FrameTable) -> bool:
    """Whether the first mask that can be opened is in RGB."""
    for i in range(min(_LOOKED_AT, len(table))):
        try:
            with Image.open(table.label_path(i)) as image:
                return image.mode in {"RGB", "RGBA"}
        except (OSError, ValueError, SyntaxError):
            continue
    return False


def _own_taxonomy(name: str, classes: ClassTable) -> tuple[Taxonomy, ClassTable]:
    """A taxonomy with one class for each label that is not ignored, and the table mapped to it."""
    means_something = any(label.to for label in classes.labels)
    used = [x for x in classes.labels if x.id != IGNORE_INDEX and (x.to or not means_something)][:IGNORE_INDEX]
    names = [x.name for x in used]
    unique = {x.id: x.name if names.count(x.name) == 1 else f"{x.name}-{x.id}" for x in used}
    colours = _colours(used)
    own = tuple(RoadClass(unique[x.id], colours[x.id]) for x in used)
    labels = tuple(
        replace(x, to={**x.to, _FAMILY: (unique[x.id],)} if x.id in unique else x.to) for x in classes.labels
    )
    return Taxonomy(name, 1, own, family=_FAMILY), replace(classes, labels=labels)


def _colours(labels: list[SourceLabel]) -> dict[int, tuple[int, int, int]]:
    """A colour of its own for each label: the published one unless another label has it."""
    colours: dict[int, tuple[int, int, int]] = {}
    for i, label in enumerate(labels):
        colour = label.colour
        if colour is None or colour in colours.values():
            r, g, b = colorsys.hsv_to_rgb(i * 0.618 % 1.0, 0.5 + i % 3 * 0.25, 1.0 - i % 4 * 0.125)
            colour = (round(255 * r), round(255 * g), i % 256 if i % 2 else round(255 * b))
        while colour in colours.values():
            colour = (colour[0], colour[1], (colour[2] + 1) % 256)
        colours[label.id] = colour
    return colours


def _any_label() -> ClassTable:
    return ClassTable("unnamed labels", tuple(SourceLabel(i, f"label-{i}") for i in range(256)))
