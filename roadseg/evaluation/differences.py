"""Pictures of where two models differ: whole frames, and zooms on class edges."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.audit.pictures import set_colours
from roadseg.evaluation.compare import Comparison, Pair, masks_of
from roadseg.evaluation.drawing import (
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
from roadseg.taxonomy import IGNORE_INDEX

PATTERN = "pictures/*.jpg"
A_RIGHT, B_RIGHT, BOTH_WRONG = (40, 120, 255), (255, 150, 0), (200, 40, 200)
ZOOMS = 2
_TILE_PX = 480
_MAGNIFICATION = 5
_EDGE_PX = 5  # side of the square that a class edge is widened by
_FRAME_COLOURS = ((255, 255, 0), (0, 255, 255))

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
    tiles = {
        "image": image,
        "truth": label_map(truth, sets),
        f"A: {names[0]}": label_map(masks[0], sets),
        f"B: {names[1]}": label_map(masks[1], sets),
        "where they differ": difference_map(image, truth, masks, sets),
    }
    boxes = zoom_boxes(truth, masks)
    whole = {caption: fit(picture, _TILE_PX) for caption, picture in tiles.items()}
    for box, colour in zip(boxes, _FRAME_COLOURS, strict=False):
        _outline(whole["image"], box, _TILE_PX / image.shape[1], colour)
    rows = [side_by_side([titled(picture, caption) for caption, picture in whole.items()])]
    for box, colour in zip(boxes, _FRAME_COLOURS, strict=False):
        top, left, bottom, right = box
        crops = [fit(picture[top:bottom, left:right], _TILE_PX) for picture in tiles.values()]
        _outline(crops[0], (0, 0, *crops[0].shape[:2]), 1, colour)
        place = f"zoom: rows {top} to {bottom}, columns {left} to {right}"
        rows.append(stacked([text_line(place, rows[0].shape[1]), side_by_side(crops)]))
    return stacked([*rows, _legend(truth, masks, sets, rows[0].shape[1])])


def difference_map(
    image: Picture, truth: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.uint8]], sets: LabelSets
) -> Picture:
    """The image in dark grey; where the labelled pixels' masks differ, in colours by who is right."""
    differ = (masks[0] != masks[1]) & (truth != IGNORE_INDEX)
    a_right, b_right = (right_pixels(mask, truth, sets) for mask in masks)
    picture = backdrop(image)
    picture[differ & a_right & ~b_right] = A_RIGHT
    picture[differ & b_right & ~a_right] = B_RIGHT
    picture[differ & ~a_right & ~b_right] = BOTH_WRONG
    return picture  # both are right where a merged label allows both classes: that is left dark


def zoom_boxes(truth: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.uint8]], zooms: int = ZOOMS) -> list[Box]:
    """Where the masks differ most along edges between labels, boxes that do not overlap; fewer where nothing does."""
    size = _box_size((truth.shape[0], truth.shape[1]))
    weight = ((masks[0] != masks[1]) & edges(truth)).astype(np.float64)
    boxes: list[Box] = []
    while len(boxes) < zooms:
        # sums[t, l] is the weight in the box whose top left pixel is (t, l).
        integral = cv2.integral(weight)
        height, width = size
        sums = integral[height:, width:] - integral[:-height, width:] - integral[height:, :-width]
        sums = sums + integral[:-height, :-width]
        top, left = (int(v) for v in np.unravel_index(sums.argmax(), sums.shape))
        if sums[top, left] < 0.5:
            break
        boxes.append((top, left, top + height, left + width))
        weight[top : top + height, left : left + width] = 0
    return boxes


def edges(truth: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """(H, W): labelled pixels within 2 px of one with another label; edges to unlabelled ones are none."""
    square = np.ones((_EDGE_PX, _EDGE_PX), np.uint8)
    highest = cv2.dilate(np.where(truth == IGNORE_INDEX, np.uint8(0), truth), square)
    lowest = cv2.erode(truth, square)  # unlabelled is 255, which is never the lowest beside a label
    return (highest > lowest) & (truth != IGNORE_INDEX)


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
    marks = [("A alone is right", A_RIGHT), ("B alone is right", B_RIGHT), ("both are wrong", BOTH_WRONG)]
    return stacked([legend([*entries, ("not labelled", UNLABELLED)], width), legend(marks, width)])
