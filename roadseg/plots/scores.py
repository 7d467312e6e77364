"""Scores as bars and curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from roadseg.evaluation.drawing import MODEL_COLOURS
from roadseg.plots.pictures import WIDTH_IN, share_of
from roadseg.taxonomy import Taxonomy

BAR_COLOURS = (*map(share_of, MODEL_COLOURS), "#1b7837", "#762a83")
"""Of models, in order: the two of every comparison, and more."""


def draw_class_scores(
    scores: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    taxonomy: Taxonomy,
    intervals: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]] | None = None,
) -> Figure:
    """Bars for each class: a panel for each score, a bar for each model.

    Args:
        scores: title of the panel -> model -> class name -> value in 0..1; None, NaN or no entry where there is none.
        taxonomy: whose classes are shown, those that no model has a value of left out; its colours mark them.
        intervals: the same, with the two ends of an interval; None for none.

    Returns:
        A figure of 14 inches width.
    """
    shown = [
        c for c in taxonomy.classes if any(_has(m.get(c.name)) for panel in scores.values() for m in panel.values())
    ]
    models = list(next(iter(scores.values())))
    figure = Figure(figsize=(WIDTH_IN, 1.2 + 0.15 * len(shown) * (1 + len(models))), layout="constrained")
    axes = figure.subplots(1, len(scores), squeeze=False, sharey=True)[0]
    places = np.arange(len(shown))
    for axis, (title, panel) in zip(axes, scores.items(), strict=True):
        for index, (model, values) in enumerate(panel.items()):
            height = 0.8 / len(models)
            heights = [_number(values.get(c.name)) for c in shown]
            ends = (intervals or {}).get(title, {}).get(model, {})
            axis.barh(
                places + (index - (len(models) - 1) / 2) * height,
                np.nan_to_num(heights),
                height,
                color=BAR_COLOURS[index % len(BAR_COLOURS)],
                xerr=_reach(heights, [ends.get(c.name) for c in shown]) if ends else None,
                error_kw={"elinewidth": 0.8, "capsize": 1.5},
                label=model,
            )
            _write_values(axis, places + (index - (len(models) - 1) / 2) * height, heights, index)
        _mark_classes(axis, shown, title)
    axes[0].set_yticks(places, [c.name for c in shown])
    axes[0].tick_params(axis="y", length=0, pad=14)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(models))
    return figure


@dataclass(frozen=True)
class ScoreIntervals:
    """Differences of a score between two models, one for each pair of trainings.

    Attributes:
        differences: the first model's value minus the second's.
        intervals: (low, high) of each.
        shown: which of the two has the higher score, "ahead" (the first) or "behind"; None where that is not shown.
    """

    differences: Sequence[float]
    intervals: Sequence[tuple[float, float]]
    shown: str | None


def draw_intervals(panels: Mapping[str, Mapping[str, ScoreIntervals]], x_label: str) -> Figure:
    """Intervals as lines around points: a panel for each pair of models, a row for each score.

    A row is in the first or the second model's colour where it is shown which one leads, else in grey.

    Args:
        panels: title -> score -> its differences.
        x_label: what they are.

    Returns:
        A figure of 14 inches width.
    """
    names = list(dict.fromkeys(name for scores in panels.values() for name in scores))
    figure = Figure(figsize=(WIDTH_IN, 1.0 + 0.32 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for axis, (title, scores) in zip(axes, panels.items(), strict=True):
        for name, score in scores.items():
            colour = {"ahead": BAR_COLOURS[1], "behind": BAR_COLOURS[0], None: "grey"}[score.shown]
            places = names.index(name) + 0.22 * (np.arange(len(score.intervals)) - (len(score.intervals) - 1) / 2)
            for place, difference, ends in zip(places, score.differences, score.intervals, strict=True):
                axis.plot(ends, (place, place), color=colour, linewidth=1.4)
                axis.plot(difference, place, marker="o", markersize=3.5, color=colour)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_yticks(range(len(names)), names)
        axis.set(title=title, ylim=(len(names) - 0.5, -0.5))
        axis.grid(axis="x", alpha=0.3)
    figure.supxlabel(x_label, fontsize="medium")
    return figure


def draw_history(curves: Mapping[str, Sequence[tuple[float, float]]], x_label: str = "step") -> Figure:
    """Curves of a training, each in a panel of its own.

    Args:
        curves: title -> points (x, y).
        x_label: what x is.
    """
    figure = Figure(figsize=(WIDTH_IN, 3.2), layout="constrained")
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for axis, (title, points) in zip(axes, curves.items(), strict=True):
        axis.plot(*zip(*points, strict=True), marker="o", markersize=3.5, color=BAR_COLOURS[0])
        axis.set(title=title, xlabel=x_label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len({x for x, _ in points}) == 1:  # of one place matplotlib shows a tenth of a step around it
            axis.set_xlim(points[0][0] - 1, points[0][0] + 1)
        axis.grid(alpha=0.3)
    return figure


def _mark_classes(axis: Axes, shown: Sequence, title: str) -> None:
    for place, c in enumerate(shown):  # a square in the class's colour, left of the axis
        axis.plot(
            -0.02,
            place,
            marker="s",
            markersize=9,
            color=share_of(c.colour),
            markeredgecolor="grey",
            markeredgewidth=0.5,
            clip_on=False,
            zorder=5,
        )
    axis.set(title=title, xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5))
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)


def _write_values(axis: Axes, places: Sequence[float] | np.ndarray, values: Sequence[float], model: int) -> None:
    """Values in a column right of the panel, where no bar or interval runs into them."""
    for place, value in zip(places, values, strict=True):
        axis.text(
            1.01,
            place,
            "-" if math.isnan(value) else f"{value:.2f}",
            fontsize=8,
            va="center",
            color=BAR_COLOURS[model % len(BAR_COLOURS)],
        )


def _reach(heights: Sequence[float], ends: Sequence[tuple[float, float] | None]) -> np.ndarray:
    """(2, classes): how far an interval reaches below and above the value; an end on the wrong side reaches nowhere."""
    pairs = [(math.nan, math.nan) if end is None else end for end in ends]
    below_above = np.array([[v - low, high - v] for v, (low, high) in zip(heights, pairs, strict=True)]).T
    return np.clip(np.nan_to_num(below_above), 0, None)


def _has(value: float | None) -> bool:
    return not math.isnan(_number(value))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
