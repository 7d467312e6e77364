"""Image files on disk: finding and reading them."""

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from roadseg.errors import DataError
from roadseg.images.container import FORMATS, MAX_PIXELS
from roadseg.images.decoding import DecodedImage, Orientation, decode_image, encoded_image_size
from roadseg.walking import walk_files

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
"""File endings that a folder is searched for, in lower case."""


def read_image(
    path: str | Path, *, orientation: Orientation = "displayed", max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    """Read an image file; see `decode_image`.

    Raises:
        DataError: when the file cannot be read at all.
        ImageError: as `decode_image` raises it, with the path in the message.
    """
    return decode_image(read_bytes(Path(path)), orientation=orientation, max_pixels=max_pixels, name=str(path))


def read_image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image file as stored, from its header alone.

    Raises:
        DataError: when the file cannot be read at all.
        ImageError: when it is not an image, or its header is damaged.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.height, image.width
    except Exception:  # the careful way finds the words for what is wrong
        return encoded_image_size(read_bytes(Path(path)), name=str(path))


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Image files among the given files and folders; folders are searched through, in sorted order.

    Raises:
        DataError: when a path does not exist, or a folder holds no image or cannot be listed.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [path / name for name in walk_files(path, IMAGE_SUFFIXES)]
            if not inside:
                raise DataError(
                    f"{path} holds no image; looked for {', '.join(sorted(IMAGE_SUFFIXES))} in all folders below"
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path} does not exist; give image files, or folders of them")
    return found


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        DataError: when it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        link = f" (a link to {os.readlink(path)})" if os.path.islink(path) else ""
        raise DataError(f"cannot read {path}{link}: {error.strerror or error}") from error
