"""Two models' masks of one frame, and where they differ, laid out by matplotlib.

`roadseg.evaluation.differences` lays the same pictures out for files, at a pixel for a pixel; here the text is as
large as in the other figures of a notebook, however wide the frame is.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from roadseg.evaluation.differences import ZOOM_COLOURS, difference_marks, difference_tiles, zoom_boxes
from roadseg.evaluation.drawing import Picture
from roadseg.label_sets import LabelSets
from roadseg.plots.pictures import grid, legend_of, picture_in, share_of, show


def draw_comparison(
    image: Picture,
    truth: npt.NDArray[np.uint8],
    masks: Sequence[npt.NDArray[np.uint8]],
    sets: LabelSets,
    names: tuple[str, str] = ("A", "B"),
    title: str = "",
) -> Figure:
    """Image | truth | first mask | second mask | where they differ; below, zooms on the edges where they differ most.

    Args:
        image: (H, W, 3) uint8 RGB.
        truth: (H, W) uint8 set ids, 255 ignored.
        masks: two of (H, W) uint8 class ids.
        sets: meaning of the ids.
        names: of the two.
        title: of the figure.
    """
    tiles = difference_tiles(image, truth, masks, sets, names)
    boxes = zoom_boxes(truth, masks, sets)
    height_in = 0.3 + (1 + len(boxes)) * (picture_in(image, len(tiles)) + 0.05)
    legend = legend_of(sets, truth, *masks) | difference_marks(names)
    figure, axes = grid(1 + len(boxes), len(tiles), height_in, legend, title)
    for axis, (name, picture) in zip(axes[0], tiles.items(), strict=True):
        show(axis, picture, name)
    for row, (top, left, bottom, right), colour in zip(axes[1:], boxes, map(share_of, ZOOM_COLOURS), strict=False):
        axes[0][0].add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, lw=2))
        for axis, picture in zip(row, tiles.values(), strict=True):
            show(axis, picture[top:bottom, left:right])
            _frame(axis, colour)
    return figure


def _frame(axis: Axes, colour: tuple[float, float, float]) -> None:
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2.5)
