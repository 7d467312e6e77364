"""Telling from the values of a mask what went wrong when it was made."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.audit.label_space import LabelSpace

# Along a true border the value jumps; compression and interpolation make it climb in steps. Measured as the number of
# steps that follow another of their direction, to that of all steps: at most 0.03 in CamVid's masks and 0.13 in clean
# masks of 34x56 px; at least 0.23 after JPEG of quality 95 and below, 0.16 after interpolated resizing.
_LOSSY_RATIO = 0.16
_MIN_BORDER = 64
_MIN_SIDE_PX = 32
_LISTED = 5


class Defect(NamedTuple):
    """A check that a file fails, and what was seen."""

    check: str
    detail: str


def histogram(labels: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sorted values that occur in (H, W) non-negative integers, and their pixels."""
    if labels.dtype == np.uint8 and labels.size < 1 << 24:  # where the float32 bins of OpenCV still count exactly
        counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    else:
        counts = np.bincount(labels.ravel())
    values = np.flatnonzero(counts)
    return values, counts[values]


def is_lossy(values: npt.NDArray[np.integer]) -> bool:
    """Whether the values (H, W) of a mask climb along its borders instead of jumping."""
    height, width = values.shape
    if min(height, width) < _MIN_SIDE_PX:
        return False
    rows, columns = values[:: max(1, height // 256)], values[:, :: max(1, width // 256)]
    border = climbing = 0
    for before, after in ((rows[:, :-1], rows[:, 1:]), (columns[:-1].T, columns[1:].T)):
        for steps in (after > before, after < before):
            border += int(np.count_nonzero(steps))
            climbing += int(np.count_nonzero(steps[:, :-1] & steps[:, 1:]))
    return border >= _MIN_BORDER and climbing > _LOSSY_RATIO * border


def is_binary(values: npt.NDArray[np.int64]) -> bool:
    """Whether values that occur are those of a black and white picture."""
    return bool(len(values)) and values[-1] == 255 and set(values.tolist()) <= {0, 255}


def explain_unknown(
    labels: npt.NDArray[np.integer],
    values: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    space: LabelSpace,
) -> Defect:
    """Why a mask holds values that are no labels.

    Args:
        labels: (H, W) of the mask.
        values: that occur, sorted; at least one of them is unknown.
        counts: their pixels.
        space: the labels that there are.
    """
    unknown = ~space.known[np.minimum(values, 65535)]
    listed = list_values(values[unknown], counts[unknown])
    if is_lossy(labels):
        return Defect("lossy-mask", f"values between labels along the borders, among them {listed}")
    if len(values) > 1 and values[-1] < 256 and space.is_brightness[values].all():
        return Defect("grey-colours", f"the values are the brightness of colours of {space.name}: {listed}")
    if is_shifted_up(values, space):
        values = values[values != 255]
        return Defect(
            "off-by-one", f"ids {values[0]} to {values[-1]}; {space.name} has {space.ids[0]} to {space.ids[-1]}"
        )
    return Defect("unknown-label", f"{listed} not in {space.name}{_hint(values, unknown)}")


def is_shifted_up(values: npt.NDArray[np.int64], space: LabelSpace) -> bool:
    """Whether every value but 255 is a label's id plus one, the last one's too, and the first id is missing."""
    inside = values[values != 255]
    if not len(inside) or not space.ids or inside[0] <= space.ids[0] or inside[-1] != space.ids[-1] + 1:
        return False
    return bool(space.known[inside - 1].all())


def list_values(values: npt.NDArray[np.integer], counts: npt.NDArray[np.integer]) -> str:
    """The most frequent values in words."""
    order = np.argsort(-counts, kind="stable")[:_LISTED]
    listed = ", ".join(f"{values[i]} ({counts[i]} px)" for i in order)
    return listed + (f" and {len(values) - _LISTED} more" if len(values) > _LISTED else "")


def _hint(values: npt.NDArray[np.int64], unknown: npt.NDArray[np.bool_]) -> str:
    if values[unknown].tolist() == [255]:
        return "; if 255 marks unlabelled pixels, add it to the table as an ignored label"
    for factor in (257, 256):
        if values[-1] > 255 and not (values % factor).any():
            return f"; every value is a multiple of {factor}: 8-bit ids were stretched to 16 bits"
    return ""
