"""Where positions attend, drawn on the image, and receptive fields."""

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from roadseg.evaluation.drawing import Picture
from roadseg.models.inspection import QueryAttention, side_of_share
from roadseg.plots.pictures import WIDTH_IN, picture_in

QUERY_COLOUR = "#ff2020"
_FIELD_SHARES = {0.5: "#00e5ff", 0.9: "#7cfc00"}


def draw_windows(
    image: Picture, found: QueryAttention, query: tuple[int, int], stride_px: int, title: str = ""
) -> Figure:
    """The grid of local windows over an image, and one query's attention inside its own.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: of local attention.
        query: (row, column) of the position in tokens.
        stride_px: side of a token in px.
        title: of the figure.

    Returns:
        A figure: the image with all windows, the window, and the window with its weights, mean over the heads.
    """
    side = found.weights.shape[1]
    step = side * stride_px
    figure = Figure(figsize=(WIDTH_IN, picture_in(image, 2) + 0.5), layout="constrained")
    whole, window, weights = figure.subplots(1, 3, width_ratios=[2, 1, 1])
    _lay(whole, image, f"local attention: windows of {side}x{side} tokens, each token {stride_px} px")
    whole.set(xticks=[], yticks=[])
    for x in range(step, image.shape[1], step):
        whole.axvline(x - 0.5, color="white", lw=0.5, alpha=0.7)
    for y in range(step, image.shape[0], step):
        whole.axhline(y - 0.5, color="white", lw=0.5, alpha=0.7)
    left, top = found.left * stride_px, found.top * stride_px
    whole.add_patch(Rectangle((left - 0.5, top - 0.5), step, step, fill=False, ec=QUERY_COLOUR, lw=2.5))
    for axis, name in ((window, "the query's window"), (weights, "attention in it, mean over heads")):
        _lay(axis, image, name)
        axis.set(xlim=(left - 0.5, left + step - 0.5), ylim=(top + step - 0.5, top - 0.5), xticks=[], yticks=[])
        _mark_query(axis, query, stride_px)
    shown = weights.imshow(
        found.weights.mean(0),
        extent=(left - 0.5, left + step - 0.5, top + step - 0.5, top - 0.5),
        cmap="magma",
        vmin=0,
        alpha=0.85,
    )
    figure.colorbar(shown, ax=weights, shrink=0.7, label=f"weight (uniform would be {1 / side**2:.3f})")
    figure.suptitle(title)
    return figure


def draw_attention(
    image: Picture,
    found: Mapping[str, tuple[QueryAttention, int]],
    query_px: tuple[float, float],
    title: str = "",
) -> Figure:
    """Attention of a query over the whole image, a panel for each of several blocks.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: title -> global attention, and the side of its block's tokens in px.
        query_px: (row, column) of the query in px.
        title: of the figure.

    Returns:
        A figure; brighter is more weight, mean over the heads, each panel from 0 to its largest.
    """
    figure = Figure(figsize=(WIDTH_IN, picture_in(image, len(found)) + 1.4), layout="constrained")
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axis, (name, (attention, stride_px)) in zip(axes, found.items(), strict=True):
        weights = attention.weights.mean(0)
        side = attention.key_side * stride_px
        _lay(axis, grey, name)
        shown = axis.imshow(
            weights * weights.size,
            extent=(-0.5, weights.shape[1] * side - 0.5, weights.shape[0] * side - 0.5, -0.5),
            cmap="magma",
            vmin=0,
            alpha=0.6,
            interpolation="nearest",
        )
        axis.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5), xticks=[], yticks=[])
        axis.plot(query_px[1], query_px[0], marker="+", markersize=14, markeredgewidth=3, color=QUERY_COLOUR)
        figure.colorbar(shown, ax=axis, orientation="horizontal", shrink=0.8, label="weight, 1 = uniform")
    figure.suptitle(title)
    return figure


def draw_fields(fields: Mapping[str, npt.NDArray], title: str = "") -> Figure:
    """Effective receptive fields with the squares that hold half and nine tenths of them.

    Args:
        fields: title -> (H, W), not negative.
        title: of the figure.

    Returns:
        A figure; brightness is logarithmic over four decades below the largest value.
    """
    figure = Figure(figsize=(WIDTH_IN, 0.88 * WIDTH_IN / len(fields) + 0.9), layout="constrained")
    for axis, (name, field) in zip(figure.subplots(1, len(fields), squeeze=False)[0], fields.items(), strict=True):
        shown = axis.imshow(np.log10(np.maximum(field / field.max(), 1e-4)), cmap="magma", vmin=-4, vmax=0)
        middle = [(n - 1) / 2 for n in field.shape]
        for share, colour in _FIELD_SHARES.items():
            side = side_of_share(field, share)
            box = Rectangle(
                (middle[1] - side / 2, middle[0] - side / 2),
                side,
                side,
                fill=False,
                ec=colour,
                lw=1.8,
                label=f"{share:.0%} in {side} px",
            )
            axis.add_patch(box)
        axis.set(title=name, xticks=[], yticks=[])
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, fontsize=9, frameon=False)
    figure.colorbar(shown, ax=figure.axes, shrink=0.8, pad=0.01, label="log10 of influence, largest = 0")
    figure.suptitle(title)
    return figure


def _lay(axis: Axes, image: Picture, title: str) -> None:
    axis.imshow(image, interpolation="nearest")
    axis.set_title(title, fontsize=11)


def _mark_query(axis: Axes, query: tuple[int, int], stride_px: int) -> None:
    row, column = query
    place = (column * stride_px - 0.5, row * stride_px - 0.5)
    axis.add_patch(Rectangle(place, stride_px, stride_px, fill=False, ec=QUERY_COLOUR, lw=2.5))
