"""The images to label, folder by folder: no more than one folder's names are held at a time."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from roadseg.data.listing import by_key, find_files
from roadseg.data.own_classes import SPLIT_OF
from roadseg.errors import ConfigError, DataError
from roadseg.images import IMAGE_SUFFIXES


class UnlabelledImage(NamedTuple):
    """An image to label.

    Attributes:
        name: path below `images` and `masks` of what is written, without ending; its folder is the drive.
        path: the file.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class _Place:
    """Images below base / below; only the files named, if there are any. Names begin behind `base`."""

    base: Path
    below: str
    files: tuple[str, ...] = ()

    def walk(self) -> Iterator[UnlabelledImage]:
        yield from self._named([self.below + name for name in self.files]) if self.files else self._folder(self.below)

    def tops(self) -> set[str]:
        """First folders of the names."""
        return {self.below.rstrip("/")} if self.below else set(_subfolders(self.base))

    def _folder(self, below: str) -> Iterator[UnlabelledImage]:
        yield from self._named([below + path for path in find_files(self.base / below, below=False)])
        for name in _subfolders(self.base / below):
            yield from self._folder(f"{below}{name}/")

    def _named(self, paths: Sequence[str]) -> Iterator[UnlabelledImage]:
        for name, path in by_key(paths, lambda path: os.path.splitext(path)[0], self.base).items():
            yield UnlabelledImage(name, self.base / path)


class UnlabelledImages:
    """Images of files and folders, in a fixed order; each iteration looks at the folders again.

    A name is the image's path below the folder that was given. Of a folder that holds images itself, and of a file, the
    folder's own name stands before it: it is the drive. So `drives/` and `drives/a` give a frame of drive a one name.

    Args:
        sources: image files, and folders to search through.

    Raises:
        DataError: when a source does not exist.
        ConfigError: when two sources would give two images one name, or only some of the images lie in folders that are
            called like splits.
    """

    def __init__(self, sources: Sequence[str | Path]) -> None:
        self._places = _places(list(dict.fromkeys(Path(os.path.abspath(source)) for source in sources)))
        _refuse_clashes(self._places)

    def __iter__(self) -> Iterator[UnlabelledImage]:
        """The images.

        Raises:
            DataError: when two images of a folder differ in nothing but their ending.
        """
        for place in self._places:
            yield from place.walk()

    def refuse_inside(self, folder: Path) -> None:
        """Refuse to write where images are looked for, since the masks would be taken for images.

        Raises:
            ConfigError: when the folder lies below a source.
        """
        for place in self._places:
            if not place.files and folder.resolve().is_relative_to((place.base / place.below).resolve()):
                raise ConfigError(
                    f"{folder} lies in {place.base / place.below}, which is searched for images; write elsewhere"
                )


def draw_sample(images: UnlabelledImages, size: int, seed: int) -> tuple[list[UnlabelledImage], int]:
    """Draw images at random, each with the same chance, in one pass that holds no more than those drawn.

    Args:
        images: of which.
        size: how many at most.
        seed: the same seed and images give the same sample.

    Returns:
        The sample, and the number of images there are.

    Raises:
        DataError: when there is no image.
    """
    rng, drawn, count = np.random.default_rng(seed), list[UnlabelledImage](), 0
    for image in images:
        count += 1
        if len(drawn) < size:
            drawn.append(image)
        elif (place := int(rng.integers(count))) < size:
            drawn[place] = image
    if not count:
        raise DataError(f"there is no image to label; looked for {', '.join(sorted(IMAGE_SUFFIXES))} in all folders")
    return drawn, count


def _places(sources: Sequence[Path]) -> list[_Place]:
    places, files = list[_Place](), dict[Path, list[str]]()
    for source in sources:
        if not source.exists():
            raise DataError(f"{source} does not exist; give image files, or folders of them")
        if not source.is_dir():
            _refuse_other_files(source)
            files.setdefault(source.parent, []).append(source.name)
        elif find_files(source, below=False):
            places.append(_Place(source.parent, f"{source.name}/"))
        else:
            places.append(_Place(source, ""))
    return places + [_Place(folder.parent, f"{folder.name}/", tuple(sorted(files[folder]))) for folder in files]


def _refuse_other_files(path: Path) -> None:
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
        raise DataError(
            f"{path} is not called like an image, so that no dataset would find it; use names that end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))} and begin with no dot"
        )


def _refuse_clashes(places: Sequence[_Place]) -> None:
    owner: dict[str, Path] = {}
    for place in places:
        for top in sorted(place.tops()):
            here = place.base / top
            if top in owner:
                raise ConfigError(
                    f"{owner[top]} and {here} would both be written to the folder '{top}': name a folder once, and "
                    "label different folders of one name into different outputs"
                )
            owner[top] = here
    splits = {top for top in owner if top.lower() in SPLIT_OF}
    if splits and len(splits) < len(owner):
        other = next(top for top in owner if top not in splits)
        raise ConfigError(
            f"{owner[min(splits)]} is called like a split and {owner[other]} is not: a dataset has splits or has none; "
            "label them into different outputs, or rename one"
        )


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
