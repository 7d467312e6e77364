"""Two models' masks of one frame, and where they differ."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from roadseg.evaluation.differences import A_RIGHT, B_RIGHT, BOTH_WRONG, difference_map, zoom_boxes
from roadseg.label_sets import LabelSets
from roadseg.plots.pictures import Picture, grid, legend_of, paint, picture_in, show

_ZOOM_FRAMES = ("#ffd500", "#00e5ff")


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
    tiles = {
        "image": image,
        "truth": paint(truth, sets),
        names[0]: paint(masks[0], sets),
        names[1]: paint(masks[1], sets),
        "where they differ": difference_map(image, truth, masks, sets),
    }
    boxes = zoom_boxes(truth, masks)
    height_in = 0.3 + (1 + len(boxes)) * (picture_in(image, len(tiles)) + 0.05)
    marks = {f"{names[0]} alone is right": A_RIGHT, f"{names[1]} alone is right": B_RIGHT, "both are wrong": BOTH_WRONG}
    legend = legend_of(sets, truth, *masks) | marks
    figure, axes = grid(1 + len(boxes), len(tiles), height_in, legend, title)
    for axis, (name, picture) in zip(axes[0], tiles.items(), strict=True):
        show(axis, picture, name)
    for row, (top, left, bottom, right), colour in zip(axes[1:], boxes, _ZOOM_FRAMES, strict=False):
        axes[0][0].add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, lw=2))
        for axis, picture in zip(row, tiles.values(), strict=True):
            show(axis, picture[top:bottom, left:right])
            _frame(axis, colour)
    return figure


def _frame(axis: Axes, colour: str) -> None:
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2.5)
