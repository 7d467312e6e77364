"""Scores as plain figures: by name, as text, and as CSV."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ROWS = "rows"
"""The key whose values say to which rows those of the lists beside it belong."""


def flatten(scores: Mapping[str, Any]) -> dict[str, float]:
    """Nested scores as one level, "iou/road" for `scores["iou"]["road"]`; what could not be computed is NaN.

    Scores of bands of image rows are called by the band, "row_iou/miou/0-10 %".
    """
    return dict(_leaves(scores, "", []))


def band_names(bands: Sequence[Sequence[float]]) -> list[str]:
    """Names of bands of image rows, given as shares [top, bottom] of the height: "0-10 %"."""
    return [f"{100 * top:.3g}-{100 * bottom:.3g} %" for top, bottom in bands]


def _leaves(value: Any, path: str, bands: list[str]) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        bands = band_names(value[_ROWS]) if _ROWS in value else bands
        for key, inner in value.items():
            if key != _ROWS:
                yield from _leaves(inner, f"{path}/{key}" if path else str(key), bands)
    elif isinstance(value, list):
        for name, inner in zip(bands, value, strict=True):
            yield from _leaves(inner, f"{path}/{name}", bands)
    else:
        yield path, math.nan if value is None else float(value)


def shown(value: float | None, digits: int = 4) -> str:
    """A figure for people; "-" where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first to the left and the others to the right; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def csv_bytes(rows: Sequence[Sequence[Any]]) -> bytes:
    """A CSV file; None is an empty field."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()
