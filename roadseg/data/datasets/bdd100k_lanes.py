"""BDD100K's lane markings, whose masks pack category, style and direction into a byte."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from roadseg.data.datasets.bdd100k import HOW_TO_GET as HOW_TO_GET
from roadseg.data.datasets.bdd100k import Part, open_part
from roadseg.data.labelled import LabelledFrames
from roadseg.data.masks import read_index_mask

_BACKGROUND_BIT = 8
_BACKGROUND = 255


class LaneBytes:
    """Reads lane masks: the byte is the label id, and every byte with the background bit is 255.

    Bits from the lowest: 0 to 2 category, 3 background, 4 style (0 solid, 1 dashed), 5 direction (0 parallel to the
    lane, 1 vertical to it); 6 and 7 are 0 but in the background, which the published masks store as 255.
    """

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W), uint8 unless the mask has more bits, whose large values the class table then refuses.

        Raises:
            DataError: when the mask is unreadable or holds colours, as the colormaps do.
        """
        values = read_index_mask(path)
        return (
            np.where(values & _BACKGROUND_BIT, values.dtype.type(_BACKGROUND), values) if _is_byte(values) else values
        )


def open_bdd100k_lanes(folder: Path) -> LabelledFrames:
    """Lane markings, crosswalks and curbs of BDD100K (Yu et al., 2020, arXiv:1805.04687): 80,000 frames, 1280x720.

    Layout: `images/100k/SPLIT/NAME.jpg` with `labels/lane/masks/SPLIT/NAME.png`. Frames, drives and splits are as in
    `open_bdd100k`; images without a mask are left out.

    What the masks can teach is limited, and the label map says so: they are lines of a few pixels, drawn along the
    edges or the middle of a marking and through the gaps of dashed ones, so that the background, which holds paint
    too, is ignored. Masks that were downloaded before September 2021 say "solid" everywhere, by a mistake that the
    authors have since corrected (https://github.com/bdd100k/bdd100k/issues/173): download them again.

    Args:
        folder: the folder of BDD100K.

    Raises:
        DataError: when folders are missing, or a mask has no image.
    """
    part = Part("100k", "lane", "bdd100k_lanes", complete=False)
    return open_part("bdd100k_lanes", folder, part, LaneBytes())


def _is_byte(values: npt.NDArray[np.integer]) -> bool:
    return values.dtype == np.uint8
