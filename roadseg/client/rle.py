"""COCO's compressed run-length encoding of binary masks, read without pycocotools.

Format: https://github.com/cocodataset/cocoapi, common/maskApi.c. Runs of 0 and 1 in turn go down the columns. From the
fourth on each is written as its difference to the last but one; a number is in groups of five bits, the lowest first,
each a character from "0" on, whose sixth bit says that another one follows, and the last one's highest bit is the sign.
"""

import numpy as np
import numpy.typing as npt

_FIRST, _BITS, _MORE, _SIGN = ord("0"), 5, 0x20, 0x10
_MOST_GROUPS = 7


def decode_rle(counts: str, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Decode a mask.

    Args:
        counts: its compressed runs.
        size: (H, W).

    Returns:
        (H, W) bool.

    Raises:
        ValueError: when these are no runs, or their sum is not H x W.
    """
    height, width = size
    runs = _runs(np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - _FIRST)
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise ValueError(f"the runs of a mask do not add up to its {height} x {width} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _runs(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if not len(groups) or (groups < 0).any() or (groups >= 2 * _MORE).any() or groups[-1] & _MORE:
        raise ValueError("the runs of a mask are damaged")
    ends = np.flatnonzero((groups & _MORE) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MOST_GROUPS:
        raise ValueError("a run of a mask is longer than any image")
    shifts = _BITS * (np.arange(len(groups)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((groups & (_MORE - 1)) << shifts, starts)
    negative = (groups[ends] & _SIGN) != 0
    numbers -= np.where(negative, np.int64(1) << (_BITS * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
