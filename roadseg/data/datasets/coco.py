"""COCO annotation files: instances and stuff, as polygons and run-length encodings."""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadseg.data.annotation_files import PackedRecords, Splits, check_size, image_key, listed_frames, load_json
from roadseg.data.frames import FrameTable
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import require_folder
from roadseg.data.own_classes import Drives, named_table, own_collection, with_background
from roadseg.data.polygons import Point
from roadseg.data.shapes import Bitmap, Shape, bits_from_runs, decode_counts, paint, points_from
from roadseg.errors import DataError

HOW_TO_GET = (
    "export your annotations as COCO (instances or stuff) to `annotations.json`, with the images in `images` beside "
    "it; https://cocodataset.org/#format-data describes the format"
)


def open_coco(
    folder: Path,
    annotations: str = "annotations.json",
    images: str = "images",
    background: str | None = None,
    split: str | None = None,
    drive: str | None = None,
    name: str | None = None,
) -> LabelledFrames:
    """An export in COCO's format: `annotations.json` (images, categories, annotations) and a folder of images.

    The label id of a category is its position in the file plus one; categories of one name are one label. Annotations
    cover each other from the largest area to the smallest, so that a car stays visible on the road that was drawn below
    it; of equal areas the later one is on top. Parts of a polygon are united; pixels that an outline runs through
    belong to it. Crowd annotations count as their category. An image without annotations is background everywhere.
    Images that lie in the folder but not in the file are left out.

    Args:
        folder: the dataset's folder.
        annotations: the annotation file, relative to `folder`.
        images: where `file_name` is looked for, relative to `folder`.
        background: label of the pixels that no annotation covers: a category, or another name; if not given they are
            label "unannotated", which is ignored.
        split: of all frames; if not given, what the names of the annotation file or else the image's first folder say
            (`instances_val2017.json` is "val"), and "train" if they say nothing.
        drive: see `open_folder`.
        name: of the dataset; the folder's name if not given.

    Raises:
        DataError: when files are missing, or the annotation file is broken or contradicts itself.
        ConfigError: when an option cannot work.
    """
    collection, name = own_collection(folder, name)
    require_folder(folder / images, f"COCO dataset '{name}'", HOW_TO_GET)
    path = folder / annotations
    document = load_json(path, HOW_TO_GET)
    _check_sections(path, document)
    labels = _labels(path, document["categories"])
    ids = dict.fromkeys(labels.values())
    table = named_table(name, {label: i for i, label in enumerate(ids, 1)})
    label_of = {category: table.label(label).id for category, label in labels.items()}
    table, background_id = with_background(table, background)
    sizes, files = _images(path, document["images"])
    shapes = _by_image(path, document.pop("annotations"), label_of, sizes)
    records = PackedRecords((key, [*sizes[key], shapes.pop(key, [])]) for key in sorted(sizes))
    splits = Splits(split, annotations)
    frames = listed_frames(path, folder / images, files, splits, Drives(drive), annotations, images)
    reader = CocoLabels(records, background_id)
    return LabelledFrames(name, FrameTable(folder, frames), table, reader, collection)


class CocoLabels:
    """Draws the annotations of one image of a COCO file.

    Args:
        records: image id -> [height, width, [[label id, annotation id, segmentation], ...]].
        background: label id of what no annotation covers.
    """

    def __init__(self, records: PackedRecords, background: int) -> None:
        self._records = records
        self._background = background

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W) uint16.

        Args:
            path: annotation file, "#", image id.
            size: (H, W) of the image.

        Raises:
            DataError: when the image has another size than the file says, or an annotation is broken.
        """
        height, width, annotations = self._records[image_key(path)]
        check_size(path, (height, width), size)
        shapes = []
        for label, annotation, segmentation in annotations:
            shape = _shape(f"{path}, annotation {annotation}", segmentation, size)
            shapes.append((_area(shape), label, shape))
        shapes.sort(key=lambda entry: -entry[0])
        return paint(path, size, [(label, shape) for _, label, shape in shapes], self._background)


def _shape(where: str, segmentation: Any, size: tuple[int, int]) -> Shape:
    if isinstance(segmentation, list) and segmentation:
        return [_part(where, part) for part in segmentation]
    if not isinstance(segmentation, Mapping) or not {"size", "counts"} <= set(segmentation):
        raise DataError(
            f"{where} has no outline (segmentation is {str(segmentation)[:40]}); draw it, or remove it: a box is not "
            "enough"
        )
    height, width = size
    if segmentation["size"] != [height, width]:
        raise DataError(
            f"{where}: its mask has size {segmentation['size']}, the image [{height}, {width}] (height, width)"
        )
    counts = segmentation["counts"]
    runs = decode_counts(where, counts) if isinstance(counts, str) else counts
    bits = bits_from_runs(where, runs, height, width)
    return Bitmap(0, 0, bits.reshape(width, height).T)  # COCO counts down the columns


def _part(where: str, part: Any) -> list[Point]:
    numbers = np.frombuffer(part, np.float32) if isinstance(part, bytes) else np.zeros(1)
    if len(numbers) % 2:
        shown = str(numbers.tolist() if isinstance(part, bytes) else part)[:60]
        raise DataError(f"{where}: a polygon must be a list of numbers [x1, y1, x2, y2, ...]; it is {shown}")
    return points_from(where, numbers.reshape(-1, 2))


def _compact(part: Any) -> Any:
    """A polygon's numbers in four bytes each; what is none stays as it is, to be named when the frame is read."""
    try:
        return array("f", part).tobytes()
    except (TypeError, OverflowError):
        return part


def _area(shape: Shape) -> float:
    """In pixels; of overlapping parts of one polygon their sum."""
    if isinstance(shape, Bitmap):
        return float(shape.bits.sum())
    area = 0.0
    for part in shape:
        x, y = np.array(part).T
        area += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return area


def _check_sections(path: Path, document: Any) -> None:
    parts = ("images", "categories", "annotations")
    if not isinstance(document, dict) or not all(isinstance(document.get(part), list) for part in parts):
        raise DataError(f"{path} is not a COCO annotation file: it needs the lists {', '.join(parts)}; {HOW_TO_GET}")
    for part in parts:
        for entry in document[part]:
            if not isinstance(entry, dict):
                raise DataError(f"{path}: {part} holds {str(entry)[:40]}, which is no mapping; export it again")


def _labels(path: Path, categories: list[dict[str, Any]]) -> dict[int, str]:
    labels: dict[int, str] = {}
    for category in categories:
        key, label = category.get("id"), category.get("name")
        if type(key) is not int or not isinstance(label, str) or not label or key in labels:
            raise DataError(f"{path}: category {category} needs an id of its own, a whole number, and a name")
        labels[key] = label
    return labels


def _images(path: Path, images: list[dict[str, Any]]) -> tuple[dict[int, tuple[int, int]], dict[int, tuple[str, None]]]:
    sizes: dict[int, tuple[int, int]] = {}
    files: dict[int, tuple[str, None]] = {}
    for image in images:
        key, file, height, width = (image.get(part) for part in ("id", "file_name", "height", "width"))
        if type(key) is not int or abs(key) >= 1 << 63 or key in sizes:
            raise DataError(f"{path}: image '{file}' has id {key!r}; every image needs a whole number of its own")
        if not isinstance(file, str) or not file or type(height) is not int or type(width) is not int:
            raise DataError(f"{path}: image {key} needs file_name, height and width; it is {str(image)[:80]}")
        sizes[key], files[key] = (height, width), (file, None)
    return sizes, files


def _by_image(
    path: Path, annotations: list[dict[str, Any]], label_of: Mapping[int, int], images: Mapping[int, Any]
) -> dict[int, list[Any]]:
    """Image id -> [label id, annotation id, segmentation] of each annotation."""
    found: dict[int, list[Any]] = {}
    for position, annotation in enumerate(annotations):
        key, category = annotation.get("id", position), annotation.get("category_id")
        image = annotation.get("image_id")
        if "segments_info" in annotation:
            raise DataError(f"{path} is a panoptic file, whose masks lie in PNGs; export instances or stuff instead")
        if type(image) is not int or image not in images:
            raise DataError(f"{path}: annotation {key} belongs to image {image!r}, which is not in the file; remove it")
        if type(category) is not int or category not in label_of:
            raise DataError(f"{path}: annotation {key} has category {category!r}, which is not in the file; add it")
        outline = annotation.get("segmentation")
        compact = [_compact(part) for part in outline] if isinstance(outline, list) else outline
        found.setdefault(image, []).append([label_of[category], str(key), compact])
    return found
