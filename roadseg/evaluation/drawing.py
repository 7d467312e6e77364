"""Parts of comparison pictures: tiles with captions, error maps, legends."""

import io
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from roadseg.audit.pictures import set_colours
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import IGNORE_INDEX

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""

WRONG = (230, 30, 30)
MODEL_COLOURS = ((40, 120, 255), (240, 130, 0))
"""Of the two models that are compared, in order, in every figure; they stay apart for colour-blind readers."""
GAP_PX = 4
UNLABELLED = None
"""In place of a colour in a legend: the stripes of what is not labelled."""
_GREYS = ((150, 150, 150), (205, 205, 205))
_STRIPE_PX = 6
_TEXT_PX = 19
_STRIP_PX = 30
_SWATCH_PX = 22
_WHITE = 255


def fit(picture: Picture, width: int) -> Picture:
    """A picture at a width in px: shrunk by the mean over areas, enlarged in whole pixels, so that edges stay edges."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    shrunk = picture.shape[1] > width
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrunk else cv2.INTER_NEAREST)


def backdrop(image: Picture) -> Picture:
    """An image in dark grey, on which marks are seen."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) // 2
    return np.repeat(grey[:, :, None], 3, axis=2)


def right_pixels(mask: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], sets: LabelSets) -> npt.NDArray[np.bool_]:
    """(H, W): where a predicted class is one that the label allows; False where there is no label.

    Args:
        mask: (H, W) uint8 class ids; 255 is right nowhere.
        truth: (H, W) uint8 set ids, 255 ignored.
        sets: meaning of the set ids.
    """
    allowed = np.zeros((256, 256), bool)
    allowed[: len(sets), : len(sets.taxonomy)] = sets.membership
    return allowed[truth, mask]


def label_map(mask: npt.NDArray[np.uint8], sets: LabelSets) -> Picture:
    """A mask of set ids (H, W) in its classes' colours; what is not labelled is striped, as no class is."""
    picture = set_colours(sets)[mask]
    unlabelled = mask == IGNORE_INDEX
    picture[unlabelled] = _stripes(mask.shape[0], mask.shape[1])[unlabelled]
    return picture


def error_map(
    image: Picture, mask: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], sets: LabelSets
) -> tuple[Picture, float]:
    """The image in dark grey with wrong pixels in red, and their share of the labelled ones."""
    labelled = truth != IGNORE_INDEX
    wrong = labelled & ~right_pixels(mask, truth, sets)
    picture = backdrop(image)
    picture[wrong] = WRONG
    return picture, float(wrong.sum() / max(1, labelled.sum()))


def titled(picture: Picture, caption: str) -> Picture:
    """A picture under a line of text."""
    return np.concatenate([text_line(caption, picture.shape[1]), picture])


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Pictures in a row, with gaps; shorter ones are filled up below."""
    height = max(picture.shape[0] for picture in pictures)
    parts: list[Picture] = []
    for picture in pictures:
        below = _blank(height - picture.shape[0], picture.shape[1])
        parts += [np.concatenate([picture, below]), _blank(height, GAP_PX)]
    return np.concatenate(parts[:-1], axis=1)


def stacked(pictures: Sequence[Picture]) -> Picture:
    """Pictures one below the other; narrower ones are filled up to the right."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([_widened(picture, width) for picture in pictures])


def text_line(text: str, width: int) -> Picture:
    """A line of black text on white, (30, width, 3); what does not fit is cut off at the end."""
    strip = Image.new("RGB", (width, _STRIP_PX), "white")
    while text and _font().getlength(text) > width - 8:
        text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
    ImageDraw.Draw(strip).text((4, 3), text, fill="black", font=_font())
    return np.asarray(strip)


def legend(entries: Sequence[tuple[str, Sequence[int] | None]], width: int) -> Picture:
    """Names beside their colours, UNLABELLED for stripes, in as many lines as they need."""
    lines: list[list[Picture]] = [[]]
    used = 0
    for name, colour in entries:
        item_px = _SWATCH_PX + 8 + min(width - _SWATCH_PX - 8, int(_font().getlength(name)) + 16)
        item = _blank(_STRIP_PX, item_px)
        item[4 : 4 + _SWATCH_PX, 4 : 4 + _SWATCH_PX] = 0  # a thin edge: white classes would not be seen
        inside = _SWATCH_PX - 2
        item[5 : 5 + inside, 5 : 5 + inside] = _stripes(inside, inside) if colour is UNLABELLED else colour
        item[:, _SWATCH_PX + 8 :] = text_line(name, item_px - _SWATCH_PX - 8)
        if used + item_px > width and lines[-1]:
            lines.append([])
            used = 0
        lines[-1].append(item)
        used += item_px
    return stacked([_widened(np.concatenate(line, axis=1), width) for line in lines if line] or [_blank(0, width)])


def jpeg_bytes(picture: Picture) -> bytes:
    """JPEG bytes; colours at full resolution, because class edges are what is looked at."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def _stripes(height: int, width: int) -> Picture:
    """What is not labelled, as no class looks."""
    rows, columns = np.indices((height, width))
    return np.array(_GREYS, np.uint8)[((rows + columns) % (2 * _STRIPE_PX) < _STRIPE_PX).astype(np.intp)]


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), _WHITE, np.uint8)


def _widened(picture: Picture, width: int) -> Picture:
    return np.concatenate([picture, _blank(picture.shape[0], width - picture.shape[1])], axis=1)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT_PX)
