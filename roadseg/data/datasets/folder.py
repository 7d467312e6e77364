"""Any folder of images and masks, with labels of one's own."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import yaml

from roadseg.data.class_table import ClassTable
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.label_files import ColourLabels, IndexLabels, LabelReader
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder
from roadseg.data.masks import open_mask
from roadseg.data.own_classes import SPLIT_OF, Classes, Drives, cut_split, open_classes, own_collection
from roadseg.errors import ConfigError, DataError
from roadseg.images import IMAGE_SUFFIXES

Form = Literal["index", "palette", "colour", "16bit"]
"""What the masks hold: 8- or 16-bit label ids, indices into a palette, colours of labels, or 16-bit label ids."""

HOW_TO_GET = (
    "put your own images and masks into `images` and `masks` below one folder, under the same names, and say in "
    "`classes` what the mask values mean; of frames that nobody labelled `roadseg data pseudo-label IMAGES -o DIR` "
    "makes such a folder"
)
_FORM_OF_MODE = {"P": "palette", "I;16": "16bit", "L": "index"}
_NOT_SPLITS = {"version", "seed", "source"}


def open_folder(
    folder: Path,
    images: str = "images",
    masks: str = "masks",
    classes: Classes = "classes.yaml",
    form: Form = "index",
    mask_suffix: str = "",
    split_file: str | None = None,
    drive: str | None = None,
    name: str | None = None,
) -> LabelledFrames:
    """Images and masks of equal relative paths, at any depth.

    A frame's name is the path of its image below `images`, without the ending. If both trees have folders train, val or
    test (or training, valid, validation, testing) at their top, these are the splits; without them, and without a split
    file, every frame is "train".

    Args:
        folder: the dataset's folder.
        images: where the images lie, relative to `folder`.
        masks: where the masks lie, PNGs; may be the same folder if `mask_suffix` tells masks from images.
        classes: a class table (a file in `folder`, another path, or the name of a packaged one), or labels given as
            {name: id} or {name: [red, green, blue]}; see `named_table` for what such labels mean. A value that is to
            be ignored is a label, too: {void: 255}.
        form: what the masks hold. "index" takes 8-bit, 16-bit and palette PNGs; "palette" and "16bit" nothing else than
            these; "colour" RGB and palette PNGs.
        mask_suffix: what the name of a mask has behind the name of its image, for example "_mask".
        split_file: YAML or JSON file, relative to `folder`: {val: [...], test: [...]}, of frame names or drives. Frames
            that it does not name are "train", unless it has a list "train" of its own: then every frame must be named.
        drive: regular expression with one group, searched in the frame's name; the group is its drive. If not given,
            the drive is the folder that the image lies in, below that of the split; without one each frame is its own.
        name: of the dataset; the folder's name if not given. Datasets that are given one name label the same pictures.

    Raises:
        DataError: when folders are missing, files are unpaired or in no split, or the class table is wrong.
        ConfigError: when an option cannot work.
    """
    if form not in get_args(Form):
        raise ConfigError(f"folder: form is {form!r}; use {', '.join(get_args(Form))}")
    collection, name = own_collection(folder, name)
    for part in (images, masks):
        require_folder(folder / part, f"folder '{name}'", HOW_TO_GET)
    table = open_classes(folder, classes, name)
    frames = FrameTable(folder, _frames(folder, images, masks, mask_suffix, split_file, Drives(drive)))
    if not len(frames):
        raise DataError(f"{folder / images} holds no image; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return LabelledFrames(name, frames, table, _reader(form, table), collection)


class ModeLabels:
    """Masks of one pixel type, whose values are label ids.

    Args:
        mode: Pillow's name of the pixel type.
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Label ids (H, W) uint8 or uint16.

        Raises:
            DataError: when the mask is of another pixel type.
        """
        with open_mask(path) as image:
            if image.mode != self._mode:
                other = _FORM_OF_MODE.get(image.mode, "colour")
                raise DataError(
                    f"mask {path} has pixels of type {image.mode}, but form {_FORM_OF_MODE[self._mode]} means "
                    f"{self._mode}; export it so, or set form to {other}"
                )
            return np.array(image)


def _reader(form: Form, table: ClassTable) -> LabelReader:
    if form != "colour":
        readers: dict[str, LabelReader] = {
            "index": IndexLabels(),
            "palette": ModeLabels("P"),
            "16bit": ModeLabels("I;16"),
        }
        return readers[form]
    without = [label.name for label in table.labels if label.colour is None]
    if len(without) == len(table.labels):
        raise ConfigError(
            f"form is colour, but no label of '{table.name}' has a colour; give classes as {{name: [r, g, b]}}"
        )
    return ColourLabels(table)


def _frames(
    folder: Path, images: str, masks: str, mask_suffix: str, split_file: str | None, drives: Drives
) -> Iterator[Frame]:
    splits = _SplitFile(folder / split_file) if split_file else None
    has_splits = all(any(n.lower() in SPLIT_OF for n in _subfolders(folder / part)) for part in (images, masks))
    for name, image, mask in _pairs(folder / images, folder / masks, mask_suffix):
        split, _ = cut_split(name)
        if has_splits and split is None and splits is None:
            raise DataError(
                f"{folder / images / image} lies beside the folders of the splits; move it into one of them"
            )
        drive = drives(name)
        chosen = splits.split_of(name, drive) if splits else (split if has_splits else None)
        yield Frame(name, f"{images}/{image}", f"{masks}/{mask}", drive, chosen or "train")
    if splits:
        splits.refuse_unused()


def _pairs(images: Path, masks: Path, mask_suffix: str, below: str = "") -> Iterator[tuple[str, str, str]]:
    """Folder by folder, so that no more than one folder's names are held."""
    image_paths, mask_paths = _files(images, "", below), _files(masks, mask_suffix, below)
    if images.resolve() == masks.resolve():
        if not mask_suffix:
            raise ConfigError(
                f"images and masks both lie in {images}: set mask_suffix to what the masks' names end with"
            )
        image_paths = sorted({*image_paths} - {*mask_paths})
    image_of = by_key(image_paths, lambda path: os.path.splitext(path)[0], images)
    mask_of = by_key(mask_paths, lambda path: _cut(os.path.splitext(path)[0], mask_suffix), masks)
    if mask_of and not image_of:
        raise DataError(
            f"{len(mask_of)} mask(s) in {masks / below} have no image, since {images / below} holds none: "
            f"{', '.join(list(mask_of.values())[:5])}; add the images or remove the masks"
        )
    if image_of:
        yield from pair_by_key(image_of, mask_of, images / below, masks / below)
    for name in sorted({*_subfolders(images / below), *_subfolders(masks / below)}):
        yield from _pairs(images, masks, mask_suffix, f"{below}{name}/")


def _files(folder: Path, suffix: str, below: str) -> list[str]:
    """Images in a folder, JPEGs also where masks lie: there they are to be refused as such, not as missing."""
    endings = [f"{suffix}{ending}" for ending in IMAGE_SUFFIXES]
    inside = folder / below
    return [below + path for path in find_files(inside, endings, below=False)] if inside.is_dir() else []


def _cut(text: str, suffix: str) -> str:
    return text[: len(text) - len(suffix)]


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


class _SplitFile:
    """Splits by the names of frames or drives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataError(f"split file {path} cannot be read: {error}") from error
        lists = {k: v for k, v in document.items() if k not in _NOT_SPLITS} if isinstance(document, Mapping) else {}
        if not lists or set(lists) - set(SPLIT_OF.values()) or not all(isinstance(v, list) for v in lists.values()):
            raise DataError(f"split file {path}: expected lists train, val and test of frame names or drives")
        self._split_of: dict[str, str] = {}
        for split, entries in lists.items():
            for entry in map(str, entries):
                if self._split_of.setdefault(entry, split) != split:
                    raise DataError(
                        f"split file {path}: '{entry}' is in {self._split_of[entry]} and in {split}; keep one"
                    )
        self._rest = None if "train" in lists else "train"
        self._unused = set(self._split_of)

    def split_of(self, name: str, drive: str) -> str:
        """By the frame's own name first."""
        key = name if name in self._split_of else drive
        self._unused.discard(key)
        split = self._split_of.get(key, self._rest)
        if split is None:
            raise DataError(
                f"split file {self._path} names neither frame '{name}' nor its drive '{drive}'; add one of them"
            )
        return split

    def refuse_unused(self) -> None:
        if self._unused:
            listed = ", ".join(sorted(self._unused)[:5])
            raise DataError(
                f"split file {self._path} names {len(self._unused)} that are neither a frame nor a drive here: {listed}"
                "; correct or remove them"
            )
