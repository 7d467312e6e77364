"""Scores as plain figures: by name, as text, and as CSV."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_LABELS = frozenset({"rows"})
"""Keys whose values say what other values belong to, and are no scores."""


def flatten(scores: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested scores as one level, "iou/road" for `scores["iou"]["road"]`; what could not be computed is NaN."""
    return dict(_leaves(scores, prefix))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _LABELS:
                yield from _leaves(inner, f"{path}/{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}/{i}")
    else:
        yield path, math.nan if value is None else float(value)


def plain(value: float) -> float | None:
    """A figure for JSON: NaN is None."""
    return None if math.isnan(value) else float(value)


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
