"""What the labels of a dataset may look like in a mask."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from roadseg.data.class_table import ClassTable
from roadseg.taxonomy import IGNORE_INDEX


class LabelSpace:
    """Ids and colours of a class table, ready to compare masks with.

    Args:
        classes: the table.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.name = classes.name
        self.known = np.zeros(65536, bool)
        self.known[classes.ids] = True
        self.ids = sorted(i for i in classes.ids if i != IGNORE_INDEX)
        self.id_of_colour = {x.colour: x.id for x in reversed(classes.labels) if x.colour is not None}
        self.sky = _ids_of(classes, "sky")
        self.road = _ids_of(classes, "road")

    @cached_property
    def colours(self) -> npt.NDArray[np.int64]:
        """Sorted colours, packed as red << 16 | green << 8 | blue."""
        return np.array(sorted(r << 16 | g << 8 | b for r, g, b in self.id_of_colour), np.int64)

    @cached_property
    def is_brightness(self) -> npt.NDArray[np.bool_]:
        """(256,): whether a value is the brightness (ITU-R 601) of a label's colour, to one level."""
        levels = np.zeros(256, bool)
        for r, g, b in self.id_of_colour:
            grey = round(0.299 * r + 0.587 * g + 0.114 * b)
            levels[max(0, grey - 1) : grey + 2] = True
        return levels


def _ids_of(classes: ClassTable, target: str) -> list[int]:
    """Labels that mean a thing whose place in the picture is known."""
    return [x.id for x in classes.labels if x.name.lower() == target or target in x.to.get("hdmap", ())]
