"""Images sorted into one folder a class, the layout in which ImageNet is usually kept."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torchvision.datasets.folder import make_dataset

from roadseg.data.verification import refuse_broken
from roadseg.errors import DataError
from roadseg.images import IMAGE_SUFFIXES, read_image

_LISTED = 5
"""Classes or files that an error names; the rest are counted."""


class ClassFolders:
    """The images below FOLDER/CLASS, read on demand.

    Args:
        folder: holds one folder a class; images may lie in folders below it.
        class_names: the classes, in the order of their ids.

    Raises:
        DataError: when the folder has other classes, or one without images.
    """

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        _check_same_classes(folder, class_folders(folder), class_names)
        id_of = {name: index for index, name in enumerate(class_names)}
        suffixes = tuple(sorted(IMAGE_SUFFIXES))
        self._samples = make_dataset(str(folder), id_of, extensions=suffixes, allow_empty=True)
        empty = sorted(set(id_of.values()) - {label for _, label in self._samples})
        if empty:
            raise DataError(
                f"{folder}: no image of {listed([class_names[i] for i in empty])}; looked for {', '.join(suffixes)} in "
                "all folders below; add some, or remove the empty class folders"
            )

    def __len__(self) -> int:
        """Number of images."""
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], int, str]:
        """Image (H, W, 3) uint8 RGB as it is displayed, class id, and path.

        Raises:
            DataError: when the file cannot be read.
            ImageError: when it is no image or damaged.
        """
        path, label = self._samples[index]
        return read_image(path).pixels, label, path

    def verify(self) -> None:
        """Read every image once, in parallel, and name those that are broken.

        Raises:
            DataError: with the first few findings and their number.
        """
        refuse_broken(self, "image")


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted; hidden ones are left out.

    Raises:
        DataError: when there is no such folder, or it holds fewer than two classes.
    """
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}; images are wanted as train/CLASS/NAME.jpg and val/CLASS/NAME.jpg in a folder that "
            "data.dataset names (docs/pretraining.md)"
        )
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(
            f"{folder} holds no class folders; images are wanted as {folder.name}/CLASS/NAME.jpg (ImageNet's archives "
            "are flat or nested: docs/pretraining.md says how to unpack them)"
        )
    if len(names) == 1:
        raise DataError(f"{folder} holds one class only, '{names[0]}'; a classifier needs at least two")
    return names


def listed(names: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(f"'{name}'" for name in names[:_LISTED]) + more


def _check_same_classes(folder: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unknown:
        differences = [f"lacks {listed(missing)}"] * bool(missing) + [f"has also {listed(unknown)}"] * bool(unknown)
        raise DataError(
            f"{folder} does not have the classes of the training images: it {' and '.join(differences)}; both splits "
            "need the same class folders"
        )
