"""A benchmark's findings as a picture: how long each combination takes, and how far its masks agree."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from roadseg.benching.report import machine_line, milliseconds, percent
from roadseg.benching.results import Report, Row
from roadseg.errors import ConfigError
from roadseg.image_size import size_name

_COLOURS = {"f32": "#4575b4", "f16": "#91bfdb", "bf16": "#fdae61", "int8": "#d73027"}
_OTHER_COLOUR = "#888888"
_WIDTH_IN, _DPI = 10, 120
_LONGEST_NAME, _SMALL = 40, 9


def report_png(report: Report) -> bytes:
    """Bars of milliseconds an image, with whiskers between the quartiles, a panel for each size; as PNG.

    Raises:
        ConfigError: when nothing was measured.
    """
    figure = draw_report(report)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def draw_report(report: Report) -> Figure:
    """The figure of `report_png`.

    Raises:
        ConfigError: when nothing was measured.
    """
    panels: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.spread is not None:
            panels.setdefault(size_name(row.combination.size), []).append(row)
    if not panels:
        raise ConfigError("nothing was measured, so that there is nothing to draw; see the table for the reasons")
    heights = [1 + len(rows) for rows in panels.values()]
    figure = Figure(figsize=(_WIDTH_IN, 1.5 + 0.34 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (size, rows) in zip(axes, panels.items(), strict=True):
        _draw_panel(axis, size, sorted(rows, key=_ms_per_image))
    axes[-1].set_xlabel(
        "milliseconds an image, less is better: bars are medians, whiskers quartiles;\n"
        "in brackets the share of pixels with the class that torch gives in f32",
        fontsize=_SMALL,
    )
    precisions = dict.fromkeys(row.precision for rows in panels.values() for row in rows)
    handles = [Patch(color=_colour(name), label=name) for name in precisions]
    axes[0].legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles), frameon=False)
    figure.suptitle(f"roadseg bench: time for an image\n{machine_line(report)}", x=0.01, ha="left", fontsize=11)
    return figure


def _draw_panel(axis: Axes, size: str, rows: Sequence[Row]) -> None:
    places = np.arange(len(rows))
    medians = [_ms_per_image(row) for row in rows]
    ends = [_quartiles(row) for row in rows]
    axis.barh(
        places,
        medians,
        0.75,
        color=[_colour(row.precision) for row in rows],
        xerr=np.transpose([(median - low, high - median) for median, (low, high) in zip(medians, ends, strict=True)]),
        error_kw={"elinewidth": 0.8, "capsize": 2},
    )
    for place, row, (_, high) in zip(places, rows, ends, strict=True):
        agreement = "" if row.agreement is None else f"  ({percent(row.agreement, 3)})"
        axis.annotate(
            f"{milliseconds(_ms_per_image(row) / 1e3)} ms{agreement}",
            (high, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=_SMALL,
        )
    axis.set_yticks(places, [_label(row) for row in rows], fontsize=_SMALL)
    axis.set_title(f"images of {size} px", fontsize=10, loc="left")
    axis.tick_params(axis="x", labelsize=_SMALL)
    axis.set_xlim(0, 1.4 * max(high for _, high in ends))  # room for the figures beside the bars
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)


def _label(row: Row) -> str:
    batch = f", batch {row.combination.batch}" if row.combination.batch > 1 else ""
    name = row.combination.runner.model
    if len(name) > _LONGEST_NAME:  # a path, whose end tells the most
        name = f"…{name[1 - _LONGEST_NAME :]}"
    return f"{name}: {row.engine} {row.precision}{batch}"


def _ms_per_image(row: Row) -> float:
    return row.spread.median_s * 1e3 / row.combination.batch if row.spread else float("nan")


def _quartiles(row: Row) -> tuple[float, float]:
    if row.spread is None:
        return float("nan"), float("nan")
    return row.spread.low_s * 1e3 / row.combination.batch, row.spread.high_s * 1e3 / row.combination.batch


def _colour(precision: str) -> str:
    return _COLOURS.get(precision, _OTHER_COLOUR)
