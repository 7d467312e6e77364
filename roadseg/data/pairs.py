"""Datasets of image files with one mask file each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from roadseg.data.masks import LabelTable, read_index_mask
from roadseg.data.verification import refuse_broken
from roadseg.errors import DataError
from roadseg.images import IMAGE_SUFFIXES, read_image
from roadseg.taxonomy import Taxonomy

_LISTED = 5
"""Offending files that an error names; the rest are counted."""


@dataclass(frozen=True)
class FramePair:
    """One frame: its image and its mask."""

    name: str
    image: Path
    mask: Path


class PairedDataset:
    """Frames with label masks, read on demand.

    Args:
        pairs: the frames.
        labels: label ids of the mask files to class ids.
        taxonomy: the classes.
    """

    def __init__(self, pairs: Sequence[FramePair], labels: LabelTable, taxonomy: Taxonomy) -> None:
        self.pairs = list(pairs)
        self.labels = labels
        self.taxonomy = taxonomy

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.pairs)

    @property
    def names(self) -> list[str]:
        """Names of the frames, in order."""
        return [pair.name for pair in self.pairs]

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], str]:
        """Image (H, W, 3) uint8 RGB, mask (H, W) uint8 of class ids with 255 ignored, and name.

        Raises:
            DataError: when the frame is broken.
            ImageError: when its image is.
        """
        pair = self.pairs[index]
        image = _unturned(pair)
        mask = self.labels.apply(read_index_mask(pair.mask), pair.mask)
        _check_sizes(pair, image.shape[:2], mask.shape)
        return image, mask, pair.name

    def verify(self) -> None:
        """Read every frame once, in parallel, and name those that are broken.

        Raises:
            DataError: with the first few findings and their number.
        """
        refuse_broken(self, "frame")


def pair_by_stem(images: Path, masks: Path, mask_stem: Callable[[str], str] = str) -> list[FramePair]:
    """Pair the images of one folder with the masks of another by file name without ending.

    Args:
        images: folder of JPEG, PNG or WebP files.
        masks: folder of PNG files.
        mask_stem: image stem -> mask stem.

    Raises:
        DataError: when an image has no mask, a mask no image, or two images one stem; the message names them.
    """
    image_of = _by_stem(images, IMAGE_SUFFIXES)
    mask_of = _by_stem(masks, frozenset({".png"}))
    if not image_of:
        raise DataError(f"{images} holds no image; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    wanted = {mask_stem(stem): stem for stem in image_of}
    _refuse_unpaired("image", images, [stem for m, stem in wanted.items() if m not in mask_of], "mask", masks)
    _refuse_unpaired("mask", masks, [m for m in mask_of if m not in wanted], "image", images)
    return [FramePair(stem, image_of[stem], mask_of[mask]) for mask, stem in sorted(wanted.items())]


def _by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            raise DataError(
                f"{folder} holds {found[path.stem].name} and {path.name}: remove one, or give them other names"
            )
        found[path.stem] = path
    return found


def _refuse_unpaired(kind: str, folder: Path, lonely: list[str], other_kind: str, other_folder: Path) -> None:
    if lonely:
        listed = ", ".join(sorted(lonely)[:_LISTED]) + (", ..." if len(lonely) > _LISTED else "")
        raise DataError(
            f"{len(lonely)} {kind}(s) in {folder} have no {other_kind} of the same name in {other_folder}: {listed}; "
            f"add the {other_kind}(s) or remove the {kind}(s)"
        )


def _unturned(pair: FramePair) -> npt.NDArray[np.uint8]:
    decoded = read_image(pair.image, orientation="stored")
    if decoded.exif_orientation != 1:
        raise DataError(
            f"{pair.image} carries the EXIF orientation {decoded.exif_orientation}, and nothing tells whether its mask "
            "was drawn on the turned image or on the stored one; turn its pixels, or remove the tag"
        )
    return decoded.pixels


def _check_sizes(pair: FramePair, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if image == mask:
        return
    hint = "; they fit when one is turned by 90 degrees" if image == mask[::-1] else ""
    raise DataError(
        f"{pair.image} is {image[1]}x{image[0]} but its mask {pair.mask} is {mask[1]}x{mask[0]} (width x height){hint}"
        "; export the mask at the image's size"
    )
