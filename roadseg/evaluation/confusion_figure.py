"""The confusion matrix as a table and as a picture."""

import io

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from roadseg.label_sets import LabelSets

_LEAST_PERCENT = 0.5  # below it a number would only clutter its cell
_CELL_INCH = 0.55
_LONGEST_NAME = 34


def confusion_rows(confusion: npt.NDArray[np.int64], label_sets: LabelSets) -> list[list[str | int]]:
    """Header and one row a label that occurs: its pixels by predicted class.

    Args:
        confusion: (N, C) [set id, predicted class].
        label_sets: meaning of the ids.
    """
    named = zip(label_sets.names, confusion.tolist(), strict=True)
    return [["truth \\ predicted", *label_sets.taxonomy.names], *([name, *row] for name, row in named if sum(row))]


def confusion_png(confusion: npt.NDArray[np.int64], label_sets: LabelSets, title: str) -> bytes:
    """The matrix with each row in percent of its label's pixels; labels that do not occur are left out.

    Args:
        confusion: (N, C) [set id, predicted class].
        label_sets: meaning of the ids.
        title: above the figure.

    Returns:
        PNG bytes.
    """
    occurring = np.flatnonzero(confusion.sum(1))
    percent = 100 * confusion[occurring] / confusion[occurring].sum(1, keepdims=True)
    rows = [_shortened(label_sets.names[i]) for i in occurring]
    columns = label_sets.taxonomy.names
    figure = Figure(figsize=(5 + _CELL_INCH * len(columns), 3 + _CELL_INCH * len(rows)), layout="constrained")
    axes = figure.subplots()
    if len(rows):
        picture = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
        figure.colorbar(picture, ax=axes, label="% of the label's pixels", fraction=0.03)
        _write_cells(axes, percent)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _write_cells(axes: Axes, percent: npt.NDArray[np.float64]) -> None:
    for (i, j), value in np.ndenumerate(percent):
        if value >= _LEAST_PERCENT:
            axes.text(j, i, f"{value:.0f}", ha="center", va="center", color="white" if value > 55 else "black")


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
