"""Cityscapes: street scenes of 50 cities, finely and coarsely labelled."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from roadseg.data.class_table import ClassTable, SourceLabel, load_class_table
from roadseg.data.datasets.cityscapes_layout import IMAGES, find_pairs
from roadseg.data.datasets.cityscapes_polygons import PolygonLabels
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.label_files import IndexLabels, LabelReader
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import require_folder
from roadseg.errors import ConfigError, DataError
from roadseg.taxonomy import IGNORE_INDEX

HOW_TO_GET = (
    "register at https://www.cityscapes-dataset.com (free for non-commercial research; read its licence), and unpack "
    "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip (for coarse labels leftImg8bit_trainextra.zip and "
    "gtCoarse.zip) into `cityscapes` in your data root: leftImg8bit/train/CITY/... and gtFine/train/CITY/..."
)

NOT_DRAWN = frozenset({"license plate"})
"""Labels whose id is negative: the published tools leave the vehicle below as it is."""

_FORMS = {"labelIds": "labelIds.png", "trainIds": "labelTrainIds.png", "polygons": "polygons.json"}
_MAKE_WITH = {
    "labelIds": "they come with the labels: unpack them again",
    "trainIds": "make them with csCreateTrainIdLabelImgs of cityscapesScripts, or choose labels: labelIds",
    "polygons": "they come with the labels: unpack them again",
}
_FINE_SPLITS = {"train": "train", "val": "val"}
_COARSE_SPLITS = {"train": "train", "train_extra": "train", "val": "val"}
_CORRUPT = frozenset({"troisdorf/troisdorf_000000_000073"})  # all black, as the download page says


def open_cityscapes(folder: Path, labels: str = "labelIds", coarse: bool = False) -> LabelledFrames:
    """Cityscapes (Cordts et al., 2016, arXiv:1604.01685): 2975 fine frames to train on and 500 to validate, 2048x1024.

    Layout: `leftImg8bit/SPLIT/CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png` with labels
    `gtFine/SPLIT/CITY/CITY_SSSSSS_FFFFFF_gtFine_{labelIds.png,labelTrainIds.png,polygons.json}`. A frame's drive is its
    city, by which the splits are made. The test split is left out: its labels are not public, and what is published in
    their place holds nothing but the ego vehicle and the border. Splits that are not there are left out, too.

    Args:
        folder: the dataset's folder.
        labels: "labelIds" for masks of all labels; "trainIds" for masks of the 19 labels for training and 255;
            "polygons" for the JSON files, which gives the same as "labelIds".
        coarse: read the coarse labels (gtCoarse), also those of train_extra if its images are there, as more frames of
            "train". The frame troisdorf_000000_000073, which is published corrupt, is passed over.

    Raises:
        ConfigError: when `labels` is none of the three.
        DataError: when folders are missing or files are unpaired.
    """
    if labels not in _FORMS:
        raise ConfigError(f"cityscapes has no labels '{labels}'; use {', '.join(_FORMS)}")
    truth = "gtCoarse" if coarse else "gtFine"
    require_folder(folder / IMAGES, "Cityscapes", HOW_TO_GET)
    require_folder(folder / truth, "Cityscapes", HOW_TO_GET)
    frames = FrameTable(folder, _frames(folder, truth, labels, _COARSE_SPLITS if coarse else _FINE_SPLITS))
    if not len(frames):
        raise DataError(f"Cityscapes: {folder / IMAGES} has neither train nor val; {HOW_TO_GET}")
    table = load_class_table("cityscapes")
    return LabelledFrames("cityscapes", frames, _train_table(table) if labels == "trainIds" else table, _reader(labels))


def _frames(folder: Path, truth: str, labels: str, splits: dict[str, str]) -> Iterator[Frame]:
    for stored, split in splits.items():
        pairs = find_pairs(folder, stored, truth, _FORMS[labels], _MAKE_WITH[labels], HOW_TO_GET, _CORRUPT)
        for key, image, label in pairs:
            city, _, name = key.rpartition("/")
            yield Frame(name, image, label, city, split)


def _reader(labels: str) -> LabelReader:
    if labels != "polygons":
        return IndexLabels()
    return PolygonLabels(load_class_table("cityscapes"), "unlabeled", NOT_DRAWN)


def _train_table(table: ClassTable) -> ClassTable:
    """The labels that have a train id of their own, under it; 255 stands for all others together."""
    own = [
        replace(label, id=label.train_id)
        for label in table.labels
        if label.train_id is not None and label.train_id != IGNORE_INDEX
    ]
    return replace(table, labels=(*own, SourceLabel(IGNORE_INDEX, "not trained on")))
