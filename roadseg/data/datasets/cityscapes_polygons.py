"""Label files of Cityscapes and IDD as they are published first: polygons in JSON."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadseg.data.class_table import ClassTable
from roadseg.data.polygons import MIN_POINTS, Point, draw_polygons
from roadseg.errors import DataError

_GROUP = "group"


class PolygonLabels:
    """Reads `*_polygons.json` and draws what the published tools draw: the same pixels as in their label masks.

    Objects are drawn in the file's order, deleted ones left out. A label that is unknown but ends in "group" (cargroup)
    is the label before it. Polygons of fewer than three points hold no pixel, and are passed over.

    Args:
        table: the labels; the mask holds their ids.
        background: name of the label where there is no polygon.
        undrawn: names of labels whose polygons leave what is below as it is.
    """

    def __init__(self, table: ClassTable, background: str, undrawn: Collection[str] = ()) -> None:
        self._table = table.name
        self._id_of = {label.name: label.id for label in table.labels}
        self._background = table.label(background).id
        self._undrawn = frozenset(undrawn)

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W) uint16 at the image's size.

        Raises:
            DataError: when the file is broken, was drawn on an image of another size, or names an unknown label.
        """
        document = _read(path)
        drawn_on = (document["imgHeight"], document["imgWidth"])
        if drawn_on != size:
            raise DataError(
                f"{path} was drawn on an image of {drawn_on[1]}x{drawn_on[0]}, but its image is {size[1]}x{size[0]} "
                "(width x height); use the image that the labels belong to"
            )
        shapes = list(self._shapes(path, document["objects"]))
        try:
            return draw_polygons(size, shapes, self._background)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def _shapes(self, path: Path, objects: list[Any]) -> Iterator[tuple[int, list[Point]]]:
        for number, thing in enumerate(objects):
            name, points = _parse(path, number, thing)
            if thing.get("deleted") or name in self._undrawn or len(points) < MIN_POINTS:
                continue
            yield self._id(path, number, name), points

    def _id(self, path: Path, number: int, name: str) -> int:
        known = name if name in self._id_of else name.removesuffix(_GROUP)
        if known not in self._id_of:
            raise DataError(
                f"{path}, object {number}: label '{name}' is none of '{self._table}', which has "
                f"{', '.join(self._id_of)}; correct the label"
            )
        return self._id_of[known]


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a JSON file, or is cut short ({error}); get it again") from error
    wanted = {"imgHeight": int, "imgWidth": int, "objects": list}
    if not isinstance(document, dict) or any(type(document.get(key)) is not kind for key, kind in wanted.items()):
        raise DataError(f"{path} holds no polygons of Cityscapes' form: imgHeight, imgWidth and a list of objects")
    return document


def _parse(path: Path, number: int, thing: Any) -> tuple[str, list[Point]]:
    if isinstance(thing, dict) and isinstance(thing.get("label"), str) and isinstance(thing.get("polygon"), list):
        points = thing["polygon"]
        if all(isinstance(p, list) and len(p) == 2 and all(type(v) in (int, float) for v in p) for p in points):
            return thing["label"], [(x, y) for x, y in points]
    raise DataError(f"{path}, object {number}: expected a label and a polygon of [x, y] points; correct or remove it")
