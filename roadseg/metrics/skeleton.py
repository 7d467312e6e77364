"""Skeletons: masks thinned to lines one pixel wide that keep their parts, their holes and their line ends."""

import numpy as np
import numpy.typing as npt

# Neighbours of a pixel as (row, column) steps, clockwise from the one to the right; bit k of a code stands for step k.
_STEPS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
_UP, _DOWN, _RIGHT, _LEFT = 6, 2, 0, 4


def skeletonise(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Thin a mask to its skeleton.

    The pixels of the contour are taken off layer by layer, in each layer first those that are open to the top, then
    to the bottom, right and left, at once on each side (A. Rosenfeld, "A characterization of parallel thinning
    algorithms", 1975). A pixel goes only if that changes neither the parts (8-connected) nor the holes (4-connected)
    and it is not the end of a line. Unlike Zhang and Suen's, this rule never makes a part vanish: a blob of 2 x 2,
    which a far pole often is, keeps a pixel or two. The work grows with the area of the mask, not with the area times
    the width.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool, within the mask; thinning it again changes nothing.
    """
    height, width = mask.shape
    padded = np.zeros((height + 2, width + 2), np.uint8)
    padded[1:-1, 1:-1] = mask
    inside = padded.ravel()
    steps = np.array([row * (width + 2) + column for row, column in _STEPS], np.intp)
    order = np.empty(inside.size, np.intp)
    layer = np.flatnonzero(inside)
    while layer.size:
        layer = layer[inside[layer] != 0]
        layer = layer[(inside[layer[:, None] + steps[::2]] == 0).any(1)]
        gone = _peel(inside, layer, steps)
        # Only a pixel that lost a neighbour can have become one that may go.
        touched = (gone[:, None] + steps).ravel()
        layer = _distinct(touched[inside[touched] != 0], order)
    return padded[1:-1, 1:-1].astype(np.bool_)


def _peel(
    inside: npt.NDArray[np.uint8], layer: npt.NDArray[np.intp], steps: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Take off what may go of a contour, side by side, in place; returns the places that went."""
    gone = []
    for side in (_UP, _DOWN, _RIGHT, _LEFT):
        candidates = layer[(inside[layer] != 0) & (inside[layer + steps[side]] == 0)]
        codes = np.zeros(candidates.size, np.uint8)
        for bit, step in enumerate(steps):
            codes |= inside[candidates + step] << np.uint8(bit)
        taken = candidates[_MAY_GO[codes]]
        inside[taken] = 0
        gone.append(taken)
    return np.concatenate(gone)


def _distinct(places: npt.NDArray[np.intp], order: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The places without repetition, in linear time; `order` is scratch space of the image's size."""
    positions = np.arange(places.size)
    order[places] = positions
    return places[order[places] == positions]


def _may_go(code: int) -> bool:
    """Whether a pixel with these neighbours is simple and no end of a line.

    It is simple if its Yokoi number is 1: of the parts that its neighbours form, exactly one touches it.
    """
    outside = [1 - (code >> k & 1) for k in range(8)]
    yokoi = sum(outside[k] - outside[k] * outside[k + 1] * outside[(k + 2) % 8] for k in (0, 2, 4, 6))
    return yokoi == 1 and sum(outside) <= 6


_MAY_GO = np.array([_may_go(code) for code in range(256)])
