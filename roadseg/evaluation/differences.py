"""Pictures of where two models differ: whole frames, and zooms on class edges."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.audit.pictures import set_colours
from roadseg.evaluation.compare import Comparison, Pair, masks_of, told_differences
from roadseg.evaluation.drawing import (
    MODEL_COLOURS,
    UNLABELLED,
    Picture,
    backdrop,
    fit,
    jpeg_bytes,
    label_map,
    legend,
    right_pixels,
    side_by_side,
    stacked,
    text_line,
    titled,
)
from roadseg.evaluation.frames import ScoredFrames
from roadseg.label_sets import LabelSets
from roadseg.metrics.suite import THIN_CLASSES
from roadseg.taxonomy import IGNORE_INDEX

PATTERN = "pictures/*.jpg"
A_RIGHT, B_RIGHT = MODEL_COLOURS
BOTH_WRONG, ALIKE_WRONG = (235, 70, 235), (105, 35, 105)
ZOOMS = 2
ZOOM_COLOURS = ((255, 213, 0), (0, 229, 255))
"""Of the frames of zooms, in order."""
ZOOMED_CLASSES = {*THIN_CLASSES, "barrier", "traffic_light", "traffic light", "TrafficLight", "fence"}
"""Names of classes whose edges a zoom is kept for: those that maps need and that are small in a frame."""
_TILE_PX = 480
_MAGNIFICATION = 5
_EDGE_PX = 5  # side of the square that a class edge is widened by
_ZOOMED_WEIGHT = 5.0  # of an edge of ZOOMED_CLASSES, against one of others: twigs before the sky are most of all edges

Box = tuple[int, int, int, int]
"""top, left, bottom, right in px."""


def difference_pictures(
    pair: Pair, names: Sequence[str], frames: ScoredFrames, comparison: Comparison
) -> dict[str, bytes]:
    """A picture of each frame that the comparison names: image | truth | A | B | where they differ, and edge zooms.

    Args:
        pair: the models; the frames are segmented once more.
        names: of the models.
        frames: that were compared.
        comparison: which frames differ most.

    Returns:
        File name -> JPEG.
    """
    pictures = {}
    for place, (index, share) in enumerate(comparison.differing, 1):
        frame = frames.read(index)
        masks = masks_of(pair, frame.image, frame.name)
        title = f"{place}. {frame.name}: the masks differ in {share:.1%} of the labelled pixels"
        picture = draw_differences(frame.image, frame.truth, masks, frames.label_sets, names)
        pictures[f"pictures/{place:02d}.jpg"] = jpeg_bytes(stacked([text_line(title, picture.shape[1]), picture]))
    return pictures


def draw_differences(
    image: Picture,
    truth: npt.NDArray[np.uint8],
    masks: Sequence[npt.NDArray[np.uint8]],
    sets: LabelSets,
    names: Sequence[str],
) -> Picture:
    """One frame: a row of whole pictures, a row for each zoom, and a legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        truth: (H, W) uint8 set ids, 255 ignored.
        masks: two of (H, W) uint8 class ids.
        sets: meaning of the ids.
        names: of the models.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    tiles = difference_tiles(image, truth, masks, sets, (f"A: {names[0]}", f"B: {names[1]}"))
    boxes = zoom_boxes(truth, masks, sets)
    whole = {caption: fit(picture, _TILE_PX) for caption, picture in tiles.items()}
    for box, colour in zip(boxes, ZOOM_COLOURS, strict=False):
        _outline(whole["image"], box, _TILE_PX / image.shape[1], colour)
    rows = [side_by_side([titled(picture, caption) for caption, picture in whole.items()])]
    for box, colour in zip(boxes, ZOOM_COLOURS, strict=False):
        top, left, bottom, right = box
        crops = [fit(picture[top:bottom, left:right], _TILE_PX) for picture in tiles.values()]
        _outline(crops[0], (0, 0, *crops[0].shape[:2]), 1, colour)
        place = f"zoom: rows {top} to {bottom}, columns {left} to {right}"
        rows.append(stacked([text_line(place, rows[0].shape[1]), side_by_side(crops)]))
    return stacked([*rows, _legend(truth, masks, sets, rows[0].shape[1])])


def difference_tiles(
    image: Picture,
    truth: npt.NDArray[np.uint8],
    masks: Sequence[npt.NDArray[np.uint8]],
    sets: LabelSets,
    names: Sequence[str],
) -> dict[str, Picture]:
    """Caption -> picture of the frame's size: image | truth | first mask | second mask | where they differ.

    Args:
        image: (H, W, 3) uint8 RGB.
        truth: (H, W) uint8 set ids, 255 ignored.
        masks: two of (H, W) uint8 class ids.
        sets: meaning of the ids.
        names: captions of the masks.
    """
    return {
        "image": image,
        "truth": label_map(truth, sets),
        names[0]: label_map(masks[0], sets),
        names[1]: label_map(masks[1], sets),
        "where they differ": difference_map(image, truth, masks, sets),
    }


def difference_marks(names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """What the colours of a difference map say -> the colour."""
    return {
        f"{names[0]} alone is right": A_RIGHT,
        f"{names[1]} alone is right": B_RIGHT,
        "both wrong, each in its way": BOTH_WRONG,
        "both wrong, alike": ALIKE_WRONG,
    }


def difference_map(
    image: Picture, truth: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.uint8]], sets: LabelSets
) -> Picture:
    """The image in dark grey, with colours by who is right; grey stays what is not labelled or right in both."""
    a_right, b_right = (right_pixels(mask, truth, sets) for mask in masks)
    wrong = ~a_right & ~b_right & (truth != IGNORE_INDEX)
    picture = backdrop(image)
    picture[a_right & ~b_right] = A_RIGHT
    picture[b_right & ~a_right] = B_RIGHT
    picture[wrong & (masks[0] != masks[1])] = BOTH_WRONG
    picture[wrong & (masks[0] == masks[1])] = ALIKE_WRONG
    return picture


def zoom_boxes(
    truth: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.uint8]], sets: LabelSets, zooms: int = ZOOMS
) -> list[Box]:
    """Where the masks differ most along edges between labels, boxes that do not overlap; fewer where nothing does.

    The first box goes by the edges of ZOOMED_CLASSES alone where the masks differ there; in the others those edges
    weigh more than others do.
    """
    height, width = size = _box_size((truth.shape[0], truth.shape[1]))
    differ = told_differences(truth, masks, sets) & edges(truth)
    zoomed = differ & _beside_zoomed(truth, sets)
    weight = np.where(zoomed, _ZOOMED_WEIGHT, differ)
    boxes: list[Box] = []
    while len(boxes) < zooms:
        place = _heaviest(zoomed if not boxes and zoomed.any() else weight, size)
        if place is None:
            break
        top, left = place
        boxes.append((top, left, top + height, left + width))
        weight[top : top + height, left : left + width] = 0
    return boxes


def edges(truth: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """(H, W): labelled pixels within 2 px of one with another label; edges to unlabelled ones are none."""
    square = np.ones((_EDGE_PX, _EDGE_PX), np.uint8)
    highest = cv2.dilate(np.where(truth == IGNORE_INDEX, np.uint8(0), truth), square)
    lowest = cv2.erode(truth, square)  # unlabelled is 255, which is never the lowest beside a label
    return (highest > lowest) & (truth != IGNORE_INDEX)


def _beside_zoomed(truth: npt.NDArray[np.uint8], sets: LabelSets) -> npt.NDArray[np.bool_]:
    """(H, W): within 2 px of a label that allows nothing but ZOOMED_CLASSES and their refinements."""
    wanted = [c.name in ZOOMED_CLASSES or c.refines in ZOOMED_CLASSES for c in sets.taxonomy.classes]
    ids = np.flatnonzero(~sets.membership[:, ~np.array(wanted)].any(1))
    return cv2.dilate(np.isin(truth, ids).astype(np.uint8), np.ones((_EDGE_PX, _EDGE_PX), np.uint8)) > 0


def _heaviest(weight: npt.NDArray, size: tuple[int, int]) -> tuple[int, int] | None:
    """Top left pixel of the box with the largest sum of weights; None where there is no weight."""
    height, width = size
    integral = cv2.integral(weight.astype(np.float64))
    sums = integral[height:, width:] - integral[:-height, width:] - integral[height:, :-width]
    sums = sums + integral[:-height, :-width]
    top, left = (int(v) for v in np.unravel_index(sums.argmax(), sums.shape))
    return (top, left) if sums[top, left] >= 0.5 else None


def _box_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of a zoom: what fills a tile when it is enlarged, and at most half of the frame."""
    height, width = size
    box_width = max(1, min(_TILE_PX // _MAGNIFICATION, width // 2))
    return max(1, min(round(box_width * height / width), height)), box_width


def _outline(picture: Picture, box: Box, scale: float, colour: tuple[int, int, int]) -> None:
    top, left, bottom, right = (round(v * scale) for v in box)
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colour, 2)


def _legend(
    truth: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.uint8]], sets: LabelSets, width: int
) -> Picture:
    colours = set_colours(sets)
    seen = set(np.unique(truth)) | set(np.unique(masks[0])) | set(np.unique(masks[1]))
    entries = [(name, colours[i]) for i, name in enumerate(sets.names) if i in seen]
    marks = list(difference_marks("AB").items())
    return stacked([legend([*entries, ("not labelled", UNLABELLED)], width), legend(marks, width)])
