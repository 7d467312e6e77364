"""Images and masks side by side, with titles and a legend."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from roadseg.audit.pictures import set_colours
from roadseg.evaluation.drawing import UNLABELLED, Picture
from roadseg.inference.result import SegmentationResult
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import IGNORE_INDEX

Rgb = Sequence[int]
"""Red, green, blue in 0..255."""

WIDTH_IN = 14.0
_LEGEND_LINE_IN, _LEGEND_COLUMNS = 0.24, 8
_TITLE_IN = 0.33
_BAR_SHARE = 0.075  # of the width, which a colour bar and its numbers take
_TALLEST = 1.5  # height of a picture against its width, above which it is shown narrower


def draw_pictures(
    pictures: Mapping[str, Picture],
    legend: Mapping[str, Rgb | None] | None = None,
    *,
    columns: int = 0,
    title: str = "",
    colour_bar: bool = False,
) -> Figure:
    """Pictures with their names above them.

    Args:
        pictures: title -> picture, in reading order.
        legend: name -> colour of what is shown below all, None in place of a colour for the stripes of what is not
            labelled; None for no legend.
        columns: pictures side by side; 0 puts all in one row.
        title: of the figure.
        colour_bar: whether the caller puts one at the right, which makes the pictures smaller.

    Returns:
        A figure of 14 inches width, which no window shows by itself.
    """
    columns = columns or len(pictures)
    rows = -(-len(pictures) // columns)
    first = next(iter(pictures.values()))
    height_in = rows * (picture_in(first, columns) * (1 - _BAR_SHARE * colour_bar) + _TITLE_IN)
    figure, axes = grid(rows, columns, height_in, legend or {}, title)
    for axis, (name, picture) in zip(axes.ravel(), pictures.items(), strict=False):
        show(axis, picture, name)
    return figure


def draw_result(result: SegmentationResult) -> Figure:
    """Image, mask, overlay, and confidence if there is one, with the classes that occur and their shares."""
    pictures = {
        "image": result.image,
        "mask": result.overlay(opacity=1.0),
        "overlay": result.overlay(),
    }
    figure = draw_pictures(
        pictures if result.confidence is None else {**pictures, "confidence": _grey(result.image)},
        {f"{name} {area / result.mask.size:.1%}": colour_of(result, name) for name, area in result.areas().items()},
        columns=3 if result.confidence is None else 2,
        colour_bar=result.confidence is not None,
    )
    if result.confidence is not None:
        shown = figure.axes[3].imshow(result.confidence, cmap="magma", vmin=0, vmax=1)
        right = [figure.axes[1], figure.axes[3]]  # of both rows, so that the pictures stay of one size
        figure.colorbar(shown, ax=right, shrink=0.6, pad=0.01, label="probability of the chosen class")
    return figure


def legend_of(sets: LabelSets, *labels: npt.NDArray[np.uint8]) -> dict[str, Rgb | None]:
    """Name -> colour of what occurs in arrays of set ids (or class ids), in the order of the ids; None for stripes."""
    seen = {int(i) for ids in labels for i in np.unique(ids)}
    colours = set_colours(sets)
    named: dict[str, Rgb | None] = {
        name: [int(v) for v in colours[i]] for i, name in enumerate(sets.names) if i in seen
    }
    return named | ({"not labelled": UNLABELLED} if IGNORE_INDEX in seen else {})


def colour_of(result: SegmentationResult, name: str) -> Rgb:
    """A class's colour."""
    return result.taxonomy.classes[result.taxonomy.id_of(name)].colour


def patches(legend: Mapping[str, Rgb | None]) -> list[Patch]:
    """Legend entries: squares of the colours, striped for what is not labelled."""
    return [
        Patch(facecolor="lightgrey", edgecolor="grey", linewidth=0.5, hatch="/////", label=name)
        if colour is UNLABELLED
        else Patch(facecolor=share_of(colour), edgecolor="grey", linewidth=0.5, label=name)
        for name, colour in legend.items()
    ]


def share_of(colour: Rgb) -> tuple[float, float, float]:
    """A colour as matplotlib takes it: each part in 0..1."""
    red, green, blue = (part / 255 for part in colour)
    return red, green, blue


def picture_in(picture: Picture, columns: int) -> float:
    """Height in inches of a picture that is one of several side by side; a tall sliver is shown narrower."""
    return 0.98 * WIDTH_IN / columns * min(_TALLEST, picture.shape[0] / picture.shape[1])


def grid(
    rows: int, columns: int, height_in: float, legend: Mapping[str, Rgb | None], title: str
) -> tuple[Figure, npt.NDArray[np.object_]]:
    """A figure with empty axes, which leaves room for the legend below them."""
    lines = -(-len(legend) // _LEGEND_COLUMNS)
    height = height_in + lines * _LEGEND_LINE_IN + (0.2 if lines else 0) + (0.4 if title else 0)
    figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    if title:
        figure.suptitle(title)
    if legend:
        figure.legend(handles=patches(legend), loc="outside lower center", ncols=_LEGEND_COLUMNS, fontsize=9)
    return figure, axes


def show(axis: Axes, picture: Picture, title: str = "") -> None:
    """Draw a picture, pixel by pixel."""
    axis.imshow(picture, interpolation="nearest")
    axis.set_title(title, fontsize=11)


def _grey(image: Picture) -> Picture:
    return np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
