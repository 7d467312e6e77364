"""Near-identical pictures, found without comparing every pair."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

ALIKE = 0.985
"""Least correlation of the 16x16 grey pictures of two frames that show nearly the same.

Measured on CamVid: frames a fifteenth of a second apart reach 0.997 in the median, those of different drives 0.91.
"""

_FEW_PAIRS = 4_000_000  # so many are simply compared
_BITS = 64
_ROTATION = 8
_WINDOW = 8
_ROWS = 2048

Matches = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Positions in the second set, the position in the first set that each resembles most, and their correlation."""


def find_alike(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Matches:
    """Pictures of the second set that are nearly identical with one of the first.

    Small sets are compared in full. Large ones are sorted eight times by a 64-bit hash of random projections (Charikar,
    "Similarity estimation techniques from rounding algorithms", 2002), starting at another bit each time, and only
    neighbours in the sorted order are compared: the work grows with n log n, however many are equal.

    Args:
        first: (n, 256) uint8 pictures.
        second: (m, 256) uint8 pictures.
    """
    best = np.full(len(second), -1, np.int64)
    score = np.zeros(len(second), np.float32)
    if len(first) and len(second):
        candidates = _all if len(first) * len(second) <= _FEW_PAIRS else _neighbours
        for rows, columns in candidates(first, second):
            _keep_better(first, second, rows, columns, best, score)
    found = np.flatnonzero(score >= ALIKE)
    return found, best[found], score[found]


def find_equal(thumbs: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pictures that equal an earlier one: their positions, and the first one's."""
    if not len(thumbs):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = np.ascontiguousarray(thumbs).view(np.dtype((np.void, thumbs.shape[1])))[:, 0]
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    leader = first[inverse]
    copies = np.flatnonzero(leader != np.arange(len(thumbs)))
    return copies, leader[copies]


def _all(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]]:
    for start in range(0, len(second), _ROWS):
        yield np.arange(start, min(start + _ROWS, len(second))), None


def _neighbours(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]]:
    """Rows of the second set, and (rows, 2 * _WINDOW) positions in the first set to compare each with."""
    centre = _mean(first)  # what all streets have in common says nothing
    hashes, others = _hashes(first, centre), _hashes(second, centre)
    around = np.arange(-_WINDOW, _WINDOW)
    for turn in range(0, _BITS, _ROTATION):
        turned = _rotated(hashes, turn)
        order = np.argsort(turned, kind="stable")
        place = np.searchsorted(turned[order], _rotated(others, turn))
        for start in range(0, len(second), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(second)))
            near = np.clip(place[rows][:, None] + around, 0, len(first) - 1)
            yield rows, order[near]


def _keep_better(
    first: npt.NDArray[np.uint8],
    second: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64] | None,
    best: npt.NDArray[np.int64],
    score: npt.NDArray[np.float32],
) -> None:
    wanted = _normalised(second[rows])
    if columns is None:
        for start in range(0, len(first), _ROWS):
            block = wanted @ _normalised(first[start : start + _ROWS]).T
            _update(rows, block.argmax(axis=1) + start, block.max(axis=1), best, score)
        return
    for column in columns.T:
        _update(rows, column, np.einsum("ij,ij->i", wanted, _normalised(first[column])), best, score)


def _update(
    rows: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int64],
    alike: npt.NDArray[np.float32],
    best: npt.NDArray[np.int64],
    score: npt.NDArray[np.float32],
) -> None:
    better = alike > score[rows]
    score[rows[better]], best[rows[better]] = alike[better], candidates[better]


def _normalised(thumbs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Rows of mean 0 and length 1, which forgives another brightness or contrast."""
    values = thumbs.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)


def _mean(thumbs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    sums = sum(_normalised(thumbs[i : i + _ROWS]).sum(axis=0) for i in range(0, len(thumbs), _ROWS))
    return np.asarray(sums / len(thumbs), np.float32)


def _hashes(thumbs: npt.NDArray[np.uint8], centre: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    planes = np.random.default_rng(0).standard_normal((thumbs.shape[1], _BITS)).astype(np.float32)
    hashes = np.zeros(len(thumbs), np.uint64)
    for start in range(0, len(thumbs), _ROWS):
        bits = (_normalised(thumbs[start : start + _ROWS]) - centre) @ planes > 0
        hashes[start : start + _ROWS] = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    return hashes


def _rotated(hashes: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.uint64]:
    if bits == 0:
        return hashes
    return hashes << np.uint64(bits) | hashes >> np.uint64(_BITS - bits)
