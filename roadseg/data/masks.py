"""Reading label masks, and refusing what only looks like one."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.errors import DataError

_INDEX_MODES = frozenset({"L", "P", "I;16"})


def read_index_mask(path: Path) -> npt.NDArray[np.integer]:
    """Read a mask whose pixel values are label ids; of a palette image the indices, not the colours.

    Args:
        path: a PNG.

    Returns:
        (H, W) integers.

    Raises:
        DataError: when the file is unreadable, or holds colours instead of ids.
    """
    try:
        # JPEG is opened only to be refused by name. Others, such as GIF, may store other indices than were drawn.
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            _refuse_unfit(image, path)
            return np.array(image)
    except Image.UnidentifiedImageError as error:
        raise DataError(f"mask {path} cannot be read: it is not a PNG; export it again as an index PNG") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"mask {path} cannot be read ({error}); export it again as an index PNG") from error


def _refuse_unfit(image: Image.Image, path: Path) -> None:
    if image.format == "JPEG":
        raise DataError(f"mask {path} is a JPEG, whose compression changes ids; export it as a PNG")
    if getattr(image, "is_animated", False):
        raise DataError(f"mask {path} is an animation; export it as one still index PNG")
    if image.mode == "1":
        raise DataError(
            f"mask {path} is black and white (1 bit), but an index mask is expected, whose pixel values are class ids; "
            "export it with 8 bits"
        )
    if image.mode not in _INDEX_MODES:
        raise DataError(
            f"mask {path} is an image of colours ({image.mode}), but an index mask is expected: one channel whose "
            "pixel values are class ids; export it as an index or palette PNG"
        )


class LabelTable:
    """Maps the label ids of a dataset to the class ids of a taxonomy.

    Args:
        targets: source id -> class id, or 255 for pixels to ignore. Every other source id is refused.
    """

    def __init__(self, targets: dict[int, int]) -> None:
        self.known = sorted(targets)
        self._target = np.zeros(256, np.uint8)
        self._is_known = np.zeros(256, bool)
        for source, target in targets.items():
            self._target[source] = target
            self._is_known[source] = True

    def apply(self, labels: npt.NDArray[np.integer], path: Path) -> npt.NDArray[np.uint8]:
        """Class ids (H, W) uint8 of label ids (H, W).

        Raises:
            DataError: when an id is outside the label set; the message names ids, counts and file.
        """
        small = np.clip(labels, 0, 255).astype(np.uint8)
        strange = ~self._is_known[small] | (small != labels)
        if strange.any():
            values, counts = np.unique(labels[strange], return_counts=True)
            listed = ", ".join(f"{v} ({n} pixels)" for v, n in list(zip(values, counts, strict=True))[:5])
            raise DataError(
                f"mask {path} holds {_plural(len(values), 'value')} outside the label set: {listed}; allowed are "
                f"{self.known[0]} to {self.known[-1]}: correct the mask, or check that its dataset is the right one"
            )
        return self._target[small]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
