"""CVAT annotations: the XML file of "CVAT for images 1.1"."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from roadseg.data.annotation_files import PackedRecords, Splits, check_size, image_key, listed_frames
from roadseg.data.frames import FrameTable
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import require_folder
from roadseg.data.own_classes import Drives, named_table, own_collection, with_background
from roadseg.data.polygons import MIN_POINTS, Point
from roadseg.data.shapes import LINE_WIDTH_PX, Bitmap, Shape, bits_from_runs, paint, points_from, rectangle, stroke
from roadseg.errors import ConfigError, DataError

HOW_TO_GET = (
    "export the task from CVAT in the format 'CVAT for images 1.1' with images, and unpack it: `annotations.xml` and "
    "`images`; https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/ describes it"
)


def open_cvat(
    folder: Path,
    annotations: str = "annotations.xml",
    images: str = "images",
    line_width_px: float = LINE_WIDTH_PX,
    background: str | None = None,
    split: str | None = None,
    drive: str | None = None,
    name: str | None = None,
) -> LabelledFrames:
    """An export of a CVAT task or project in the format "CVAT for images 1.1".

    The label id of a label is its position among the file's labels plus one. Shapes cover each other by `z_order`, of
    equal ones the later one is on top; whether they are marked as occluded does not matter, and tags of whole images
    are passed over. Pixels that an outline runs through belong to the shape. An image without shapes is background
    everywhere. Images that lie in the folder but not in the file are left out.

    Args:
        folder: the dataset's folder.
        annotations: the annotation file, relative to `folder`.
        images: where the images lie, relative to `folder`.
        line_width_px: width at which polylines are drawn.
        background: label of the pixels that no shape covers: one of the file's, or another name; if not given they are
            label "unannotated", which is ignored.
        split: of all frames; if not given, what the file's name, the subset that the file gives for an image, or else
            the image's first folder says, and "train" if they say nothing.
        drive: see `open_folder`.
        name: of the dataset; the folder's name if not given.

    Raises:
        DataError: when files are missing, or the annotation file is broken or contradicts itself.
        ConfigError: when an option cannot work.
    """
    if not line_width_px >= 1:
        raise ConfigError(f"line_width_px is {line_width_px}; use 1 or more")
    collection, name = own_collection(folder, name)
    require_folder(folder / images, f"CVAT dataset '{name}'", HOW_TO_GET)
    path = folder / annotations
    _refuse_doctype(path)
    document = _Document(path)
    records = PackedRecords(document.images())
    colours = {label: colour for label, colour in document.colours.items() if colour}
    table = named_table(name, {label: i for i, label in enumerate(document.colours, 1)}, colours)
    table, background_id = with_background(table, background)
    splits = Splits(split, annotations)
    frames = listed_frames(path, folder / images, document.files, splits, Drives(drive), annotations, images)
    ids = {label.name: label.id for label in table.labels}
    read = CvatLabels(records, ids, background_id, line_width_px)
    return LabelledFrames(name, FrameTable(folder, frames), table, read, collection)


class CvatLabels:
    """Draws the shapes of one image of a CVAT file.

    Args:
        records: image's position in the file -> [height, width, name, [[label, tag, attributes], ...]], shapes from
            back to front.
        ids: label name -> label id.
        background: label id of what no shape covers.
        line_width_px: width of polylines.
    """

    def __init__(
        self, records: PackedRecords, ids: dict[str, int], background: int, line_width_px: float = LINE_WIDTH_PX
    ) -> None:
        self._records = records
        self._ids = ids
        self._background = background
        self._width = line_width_px

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W) uint16.

        Args:
            path: annotation file, "#", position of the image in it.
            size: (H, W) of the image.

        Raises:
            DataError: when the image has another size than the file says, or a shape is broken.
        """
        height, width, image, shapes = self._records[image_key(path)]
        check_size(path, (height, width), size)
        drawn = []
        for position, (label, tag, attributes) in enumerate(shapes):
            where = f"{path} ({image}), {tag} {position} ('{label}')"
            drawn.append((self._ids[label], _DRAW[tag](where, _Attributes(where, attributes), self._width, size)))
        return paint(path, size, drawn, self._background)


class _Attributes:
    """Attributes of an XML element, as numbers."""

    def __init__(self, where: str, values: dict[str, str]) -> None:
        self.where = where
        self._values = values

    def text(self, name: str) -> str:
        if name not in self._values:
            raise DataError(f"{self.where} has no attribute {name}; export the task again")
        return self._values[name]

    def number(self, name: str, default: str | None = None) -> float:
        text = self.text(name) if default is None else self._values.get(name, default)
        try:
            return float(text)
        except ValueError:
            raise DataError(f"{self.where}: {name} is {text!r}, which is no number; export the task again") from None

    def whole(self, name: str) -> int:
        value = self.number(name)
        if not value.is_integer():
            raise DataError(f"{self.where}: {name} is {value}, which is no whole number; export the task again")
        return int(value)


def _polygon(where: str, attributes: _Attributes, width_px: float, size: tuple[int, int]) -> Shape:
    return [_points(where, attributes, MIN_POINTS)]


def _polyline(where: str, attributes: _Attributes, width_px: float, size: tuple[int, int]) -> Shape:
    return list(stroke(_points(where, attributes, 2), width_px))


def _box(where: str, attributes: _Attributes, width_px: float, size: tuple[int, int]) -> Shape:
    x0, y0, x1, y1 = (attributes.number(name) for name in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(attributes.number("rotation", "0"))  # clockwise, about the middle
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    turned = []
    for x, y in rectangle(x0, y0, x1, y1):
        dx, dy = x - middle_x, y - middle_y
        turned.append(
            (
                middle_x + dx * math.cos(angle) - dy * math.sin(angle),
                middle_y + dx * math.sin(angle) + dy * math.cos(angle),
            )
        )
    return [points_from(where, turned)]


def _mask(where: str, attributes: _Attributes, width_px: float, size: tuple[int, int]) -> Shape:
    left, top, width, height = (attributes.whole(name) for name in ("left", "top", "width", "height"))
    if min(left, top, width, height) < 0 or left + width > size[1] or top + height > size[0]:
        raise DataError(
            f"{where}: the mask covers {width}x{height} from ({left}, {top}), which is not within the image of "
            f"{size[1]}x{size[0]} (width x height); export the task again"
        )
    try:
        runs = [int(run) for run in attributes.text("rle").split(",")]
    except ValueError:
        raise DataError(f"{where}: rle must be whole numbers with commas between; export the task again") from None
    return Bitmap(left, top, bits_from_runs(where, runs, height, width).reshape(height, width))  # along the rows


_DRAW = {"polygon": _polygon, "polyline": _polyline, "box": _box, "mask": _mask}


def _points(where: str, attributes: _Attributes, at_least: int) -> list[Point]:
    try:
        pairs = [[float(v) for v in pair.split(",")] for pair in attributes.text("points").split(";")]
    except ValueError:
        raise DataError(f"{where}: points must be x,y;x,y;...; export the task again") from None
    return points_from(where, pairs, at_least)


class _Document:
    """One pass over a CVAT file; labels, files and colours are complete when `images` is exhausted.

    Attributes:
        colours: label name -> [red, green, blue] or None, in the file's order.
        files: image's position -> its path and subset.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.colours: dict[str, list[int] | None] = {}
        self.files: dict[int, tuple[str, str | None]] = {}

    def images(self) -> Iterator[tuple[int, Any]]:
        """(Position, [height, width, name, shapes]) of each image."""
        try:
            events = ElementTree.iterparse(self._path, ("start", "end"))
            _, root = next(events)
            if root.tag != "annotations":
                raise DataError(f"{self._path} is not a CVAT file: its root is <{root.tag}>; {HOW_TO_GET}")
            for event, element in events:
                if event == "start":
                    continue
                if element.tag == "meta":
                    self._read_labels(element)
                elif element.tag == "track":
                    raise DataError(f"{self._path} is an export of a video; export it as 'CVAT for images 1.1'")
                elif element.tag == "image":
                    position = len(self.files)
                    yield position, self._image(position, element)
                    root.clear()  # else the whole file would stay in memory
        except ElementTree.ParseError as error:
            raise DataError(f"{self._path} is not XML, or was cut off ({error}); export it again") from error

    def _read_labels(self, meta: ElementTree.Element) -> None:
        for label in meta.iterfind(".//labels/label"):
            name, parent = label.findtext("name"), label.findtext("parent")
            if name and not parent:  # those with a parent are joints of skeletons
                self.colours.setdefault(name, _colour(label.findtext("color")))

    def _image(self, position: int, element: ElementTree.Element) -> list[Any]:
        where = f"{self._path}, image {position}"
        attributes = _Attributes(where, element.attrib)
        name = attributes.text("name")
        self.files[position] = (name, element.get("subset"))
        shapes: list[tuple[float, list[Any]]] = []
        for child in element:
            if child.tag == "tag":
                continue
            label, where = child.get("label"), f"{self._path}, image '{name}', {child.tag} {len(shapes)}"
            if child.tag not in _DRAW:
                raise DataError(f"{where} ('{label}') has no area here; use {', '.join(_DRAW)}, or remove it")
            if label not in self.colours:
                raise DataError(
                    f"{where} has label '{label}', which is none of {', '.join(self.colours)}; export again"
                )
            shapes.append((_Attributes(where, child.attrib).number("z_order", "0"), [label, child.tag, child.attrib]))
        shapes.sort(key=lambda shape: shape[0])
        return [attributes.whole("height"), attributes.whole("width"), name, [shape for _, shape in shapes]]


def _colour(text: str | None) -> list[int] | None:
    try:
        return list(bytes.fromhex((text or "").removeprefix("#"))[:3]) if text and len(text) == 7 else None
    except ValueError:
        return None


class _RootReached(Exception):
    """Nothing that follows can be a document type declaration."""


def _refuse_doctype(path: Path) -> None:
    """Entities, which can make a small file a huge one, are declared before the root element or not at all."""

    def refuse(*_: Any) -> None:
        raise DataError(f"{path} has a DOCTYPE declaration, which CVAT never writes; export it again")

    def stop(*_: Any) -> None:
        raise _RootReached

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler, parser.StartElementHandler = refuse, stop
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except _RootReached:
        return
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error}); {HOW_TO_GET}") from error
    except expat.ExpatError as error:
        raise DataError(f"{path} is not XML, or was cut off ({error}); export it again") from error
