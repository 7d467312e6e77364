"""The images of a call about many, one at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from roadseg.errors import ConfigError, RoadsegError, ServiceAccessError
from roadseg.images import IMAGE_SUFFIXES, DecodedImage
from roadseg.inference.predictor import ImageSource
from roadseg.walking import walk_files

Item = ImageSource
"""An image as it was given, or the path of one in a folder."""


def items(images: ImageSource | Iterable[ImageSource]) -> Iterator[Item]:
    """Images, and those in folders among them; nothing is looked at before it is asked for.

    Args:
        images: several, or one, or one folder.

    Raises:
        DataError: when a folder cannot be listed.
    """
    for image in _listed(images):
        if isinstance(image, str | Path) and Path(image).is_dir():
            yield from (Path(image) / name for name in walk_files(image, IMAGE_SUFFIXES))
        else:
            yield image


def fatal(error: BaseException) -> bool:
    """Whether an error of one image means that the others would fare alike, or that the program is wrong."""
    return isinstance(error, ServiceAccessError | ConfigError) or not isinstance(error, RoadsegError)


def _listed(images: ImageSource | Iterable[ImageSource]) -> Iterable[ImageSource]:
    # A string's letters would be paths, "/" among them; bytes give numbers, and an image's array its rows.
    if isinstance(images, str | Path | bytes | Image.Image | DecodedImage):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim <= 3:
        return [images]
    return images
