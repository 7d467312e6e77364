"""LabelMe annotations: one JSON file of shapes for each image."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from roadseg.data.annotation_files import check_size, load_json
from roadseg.data.class_table import ClassTable
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder
from roadseg.data.own_classes import (
    SPLIT_OF,
    Classes,
    Drives,
    cut_split,
    named_table,
    open_classes,
    own_collection,
    with_background,
)
from roadseg.data.polygons import MIN_POINTS, Point, draw_polygons
from roadseg.data.shapes import LINE_WIDTH_PX, disc, points_from, rectangle, stroke
from roadseg.errors import ConfigError, DataError

HOW_TO_GET = (
    "save each image's shapes with LabelMe as NAME.json, beside the image or in a folder of their own; "
    "https://github.com/wkentaro/labelme describes the tool"
)

_POINTS_OF = {"rectangle": 2, "circle": 2, "line": 2}
_SHAPES = ("polygon", "rectangle", "circle", "line", "linestrip")


def open_labelme(
    folder: Path,
    images: str = ".",
    annotations: str | None = None,
    classes: Classes | None = None,
    line_width_px: float = LINE_WIDTH_PX,
    background: str | None = None,
    skip_unlabelled: bool = False,
    split: str | None = None,
    drive: str | None = None,
    name: str | None = None,
) -> LabelledFrames:
    """Images, each with a LabelMe file of the same name: PATH.jpg and PATH.json.

    Shapes are drawn in the file's order, later ones over earlier ones, as LabelMe's own export does: pixels that an
    outline runs through belong to the shape. The copy of the image that a file may hold is ignored. A file without
    shapes is background everywhere.

    Args:
        folder: the dataset's folder.
        images: where the images lie, relative to `folder`, at any depth.
        annotations: where the JSON files lie, in the same folders below as the images; beside the images if not given.
        classes: the labels; see `open_folder`. If not given, the lines of `labels.txt` in `folder` (the file that
            `labelme --labels` takes), with ids from 1 on; without that, the labels that any file uses, sorted.
        line_width_px: width at which lines and line strips are drawn.
        background: label of the pixels that no shape covers; if not given they are "unannotated", which is ignored.
        skip_unlabelled: whether images without a file are left out; else they are refused.
        split: of all frames; if not given, the first folder of an image's path says it (train, val, test), and "train"
            if it says nothing.
        drive: see `open_folder`.
        name: of the dataset; the folder's name if not given.

    Raises:
        DataError: when folders are missing, files are unpaired, or the labels cannot be told.
        ConfigError: when an option cannot work.
    """
    if split is not None and split not in set(SPLIT_OF.values()):
        raise ConfigError(f"split is {split!r}; use train, val or test")
    if not line_width_px >= 1:
        raise ConfigError(f"line_width_px is {line_width_px}; use 1 or more")
    collection, name = own_collection(folder, name)
    annotations = images if annotations is None else annotations
    for part in (images, annotations):
        require_folder(folder / part, f"LabelMe dataset '{name}'", HOW_TO_GET)
    pairs = list(_pairs(folder / images, folder / annotations, skip_unlabelled))
    table = _classes(folder, classes, name, [folder / annotations / label for _, _, label in pairs])
    table, background_id = with_background(table, background)
    drives = Drives(drive)
    frames = (
        Frame(key, f"{images}/{image}", f"{annotations}/{label}", drives(key), split or cut_split(key)[0] or "train")
        for key, image, label in pairs
    )
    read = LabelMeLabels(table, background_id, line_width_px)
    return LabelledFrames(name, FrameTable(folder, frames), table, read, collection)


class LabelMeLabels:
    """Draws the shapes of a LabelMe file.

    Args:
        table: the labels.
        background: label id of what no shape covers.
        line_width_px: width of lines.
    """

    def __init__(self, table: ClassTable, background: int, line_width_px: float = LINE_WIDTH_PX) -> None:
        self._id_of = {label.name: label.id for label in table.labels}
        self._background = background
        self._width = line_width_px

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W) uint16.

        Raises:
            DataError: when the file is broken, belongs to an image of another size, or holds an unknown label or shape.
        """
        document = _load(path)
        if document.get("imageHeight") is not None or document.get("imageWidth") is not None:
            check_size(path, (document.get("imageHeight"), document.get("imageWidth")), size)
        drawn: list[tuple[int, Sequence[Point]]] = []
        for position, shape in enumerate(document["shapes"]):
            where = f"{path}, shape {position} ('{shape['label']}')"
            if shape["label"] not in self._id_of:
                raise DataError(
                    f"{where}: no such label; there are {', '.join(self._id_of)}: correct it, or add it to classes"
                )
            drawn += [(self._id_of[shape["label"]], part) for part in self._parts(where, shape)]
        try:
            return draw_polygons(size, drawn, self._background)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def _parts(self, where: str, shape: dict[str, Any]) -> list[list[Point]]:
        kind = shape.get("shape_type") or "polygon"  # files of old versions do not say it
        if kind not in _SHAPES:
            raise DataError(f"{where} is a {kind}, which has no area here; use {', '.join(_SHAPES)}, or remove it")
        points = points_from(where, shape.get("points"), MIN_POINTS if kind == "polygon" else 2)
        if len(points) != _POINTS_OF.get(kind, len(points)):
            raise DataError(f"{where} is a {kind} of {len(points)} points; it needs {_POINTS_OF[kind]}")
        if kind == "polygon":
            return [points]
        if kind == "rectangle":
            return [rectangle(*points[0], *points[1])]
        if kind == "circle":
            return [disc(points[0], math.dist(points[0], points[1]))]
        return stroke(points, self._width)


def _load(path: Path) -> dict[str, Any]:
    document = load_json(path, HOW_TO_GET)
    shapes = document.get("shapes") if isinstance(document, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(s, dict) and isinstance(s.get("label"), str) for s in shapes):
        raise DataError(f"{path} is not a LabelMe file: it needs a list of shapes, each with a label; {HOW_TO_GET}")
    image = document.get("imagePath")
    # LabelMe on Windows writes backslashes; a path of that kind may hold both.
    if isinstance(image, str) and image and PureWindowsPath(image).stem.lower() != path.stem.lower():
        raise DataError(
            f"{path} was drawn on {image} by its imagePath; give both files one name, and correct imagePath"
        )
    return document


def _pairs(images: Path, annotations: Path, skip_unlabelled: bool) -> Iterator[tuple[str, str, str]]:
    image_of = by_key(find_files(images), _key, images)
    label_of = by_key(find_files(annotations, [".json"]), _key, annotations)
    if skip_unlabelled:
        image_of = {key: image for key, image in image_of.items() if key in label_of}
    return pair_by_key(image_of, label_of, images, annotations)


def _key(path: str) -> str:
    return os.path.splitext(path)[0]


def _classes(folder: Path, classes: Classes | None, name: str, files: Sequence[Path]) -> ClassTable:
    if classes is not None:
        return open_classes(folder, classes, name)
    listed = folder / "labels.txt"
    if listed.is_file():
        labels = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        labels = sorted({shape["label"] for path in files for shape in _load(path)["shapes"]})
    repeated = {label for label in labels if labels.count(label) > 1}
    if repeated:
        raise DataError(f"{listed} names {', '.join(sorted(repeated))} more than once; remove the repetition")
    return named_table(name, {label: i for i, label in enumerate(labels, 1)})
