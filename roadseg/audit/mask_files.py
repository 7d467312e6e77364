"""Finding out why a mask was refused, and what a mask that can be read gives away."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.audit.label_space import LabelSpace
from roadseg.audit.mask_values import Defect, explain_unknown, histogram, is_binary, is_lossy, list_values
from roadseg.images import IMAGE_SUFFIXES

_PALETTE_AGREEMENT = 0.8  # of the indices that occur; the common default palettes share a few colours with any table


def explain_refused(path: Path, size: tuple[int, int], turned: bool, space: LabelSpace, message: str) -> list[Defect]:
    """Why a label file was refused by its reader.

    Args:
        path: the label file.
        size: (H, W) of its image as stored.
        turned: whether the image is turned by 90 degrees when it is shown.
        space: labels of the dataset.
        message: what the reader said.

    Returns:
        The defects; none when the image's orientation, which is reported with the image, explains all.
    """
    short = message.replace(str(path), path.name)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return [Defect("unreadable-mask", short)]
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            image.load()
            return _explain_raster(image, size, turned, space, short)
    except Exception:  # a decoder fed with a damaged file may raise anything
        return [Defect("unreadable-mask", short)]


def _explain_raster(
    image: Image.Image, size: tuple[int, int], turned: bool, space: LabelSpace, message: str
) -> list[Defect]:
    if image.format != "PNG":
        return [Defect("lossy-mask", f"the mask is a {image.format} file")]
    found = (image.height, image.width)
    if found != size:
        if turned and found == size[::-1]:
            return []
        return [Defect("size-mismatch", f"image {size[1]}x{size[0]}, mask {found[1]}x{found[0]} (width x height)")]
    if image.mode == "1":
        return [Defect("binary-mask", "the mask has 1 bit a pixel")]
    if image.mode in {"RGBA", "LA", "PA"} and image.getchannel("A").getextrema() != (255, 255):
        return [Defect("mask-alpha", f"opacity {image.getchannel('A').getextrema()[0]} of 255 in places")]
    if image.mode in {"RGB", "RGBA", "P"}:
        return [_explain_colours(np.asarray(image.convert("RGB")), space)]
    if image.mode in {"L", "LA", "I;16", "I"}:
        return [_explain_numbers(np.asarray(image if image.mode != "LA" else image.getchannel("L")), space)]
    return [Defect("unreadable-mask", message)]


def _explain_colours(rgb: npt.NDArray[np.uint8], space: LabelSpace) -> Defect:
    packed = rgb[..., 0].astype(np.int64) << 16 | rgb[..., 1].astype(np.int64) << 8 | rgb[..., 2]
    values, counts = np.unique(packed, return_counts=True)
    known = np.isin(values, space.colours)
    if known.all():
        return Defect("colour-mask", f"colours of {space.name} where ids are expected")
    if is_binary(np.unique(rgb)) and len(values) <= 2:
        return Defect("binary-mask", "black and white, in RGB")
    if counts[known].sum() >= counts.sum() / 2:
        if any(is_lossy(rgb[..., channel]) for channel in range(3)):
            return Defect("lossy-mask", f"{np.count_nonzero(~known)} colours that are no label's, along the borders")
        return Defect("unknown-label", f"colours that are no label's: {_list_colours(values[~known], counts[~known])}")
    if (np.ptp(rgb, axis=2) == 0).all():
        grey_values, grey_counts = histogram(np.ascontiguousarray(rgb[..., 0]))
        return Defect("colour-mask", f"RGB with equal channels; the values are {list_values(grey_values, grey_counts)}")
    if any(is_lossy(rgb[..., channel]) for channel in range(3)):
        return Defect("lossy-mask", f"{len(values)} colours, climbing along the borders")
    return Defect("colour-mask", f"{len(values)} colours: {_list_colours(values, counts)}")


def _explain_numbers(labels: npt.NDArray[np.integer], space: LabelSpace) -> Defect:
    values, counts = histogram(labels)
    if is_binary(values):
        return Defect("binary-mask", f"values {list_values(values, counts)}")
    if not space.known[np.minimum(values, 65535)].all():
        defect = explain_unknown(labels, values, counts, space)
        if defect.check == "grey-colours":
            return defect
    return Defect("index-mask", f"values {list_values(values, counts)}")


def _list_colours(packed: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> str:
    order = np.argsort(-counts, kind="stable")[:5]
    listed = ", ".join(f"({v >> 16}, {v >> 8 & 255}, {v & 255})" for v in packed[order].tolist())
    return listed + (f" and {len(packed) - 5} more" if len(packed) > 5 else "")


def explain_palette(
    path: Path, labels: npt.NDArray[np.integer], values: npt.NDArray[np.int64], space: LabelSpace
) -> Defect | None:
    """Whether the palette of a mask shows that its indices were numbered in another order than the labels.

    Args:
        path: the mask.
        labels: (H, W) as its reader gives them.
        values: that occur in them.
        space: labels of the dataset.
    """
    if not space.id_of_colour or values[-1] > 255 or path.suffix.lower() != ".png" or not path.is_file():
        return None
    palette = _read_palette(path)
    if palette is None:
        return None
    pairs = [(i, space.id_of_colour.get(palette[i])) for i in values.tolist() if i < len(palette)]
    named = [(index, label) for index, label in pairs if label is not None]
    moved = [(index, label) for index, label in named if index != label]
    if len(moved) < 2 or len(named) < _PALETTE_AGREEMENT * len(values):
        return None
    with Image.open(path) as image:
        if not np.array_equal(np.asarray(image), labels):  # the reader went by the colours, as it should
            return None
    listed = ", ".join(f"index {index} has the colour of label {label}" for index, label in moved[:3])
    return Defect("palette-colours", listed)


def _read_palette(path: Path) -> list[tuple[int, int, int]] | None:
    """Colours of a palette PNG, from its header."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 33 or head[25] != 3:  # colour type 3: palette
        return None
    start = head.find(b"PLTE", 33)
    if start < 0:
        return None
    length = int.from_bytes(head[start - 4 : start], "big")
    entries = head[start + 4 : start + 4 + length]
    return [(entries[i], entries[i + 1], entries[i + 2]) for i in range(0, len(entries) - 2, 3)]
