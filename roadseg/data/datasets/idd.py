"""IDD: unstructured traffic on Indian roads."""

from collections.abc import Iterator
from pathlib import Path

from roadseg.data.class_table import load_class_table
from roadseg.data.datasets.cityscapes_layout import IMAGES, find_pairs
from roadseg.data.datasets.cityscapes_polygons import PolygonLabels
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.label_files import IndexLabels
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import require_folder
from roadseg.errors import ConfigError, DataError

HOW_TO_GET = (
    "register at https://idd.insaan.iiit.ac.in (free for non-commercial research; read its licence), and unpack IDD "
    "Segmentation (IDD 20k, part I or II, each into a folder of its own) into `idd` in your data root: "
    "leftImg8bit/train/SEQUENCE/... and gtFine/train/SEQUENCE/..."
)

_FORMS = {"polygons": "polygons.json", "ids": "labelids.png", "level3Ids": "labellevel3Ids.png"}
_TOOL = "createLabels.py of https://github.com/AutoNUE/public-code"
_MAKE_WITH = {
    "polygons": "they come with the labels: unpack them again",
    "ids": f"make them with {_TOOL} --id-type id, or choose labels: polygons",
    "level3Ids": f"make them with {_TOOL} --id-type level3Id, or choose labels: polygons",
}
_SPLITS = ("train", "val")


def open_idd(folder: Path, labels: str = "polygons") -> LabelledFrames:
    """IDD, the India Driving Dataset (Varma et al., 2019, arXiv:1811.10200): 10,000 frames in part I, most 1920x1080.

    Layout: `leftImg8bit/SPLIT/SEQUENCE/FRAME_leftImg8bit.png` (part II: .jpg) with labels
    `gtFine/SPLIT/SEQUENCE/FRAME_gtFine_{polygons.json,labelids.png,labellevel3Ids.png}`. A frame's drive is its
    sequence, and its name SEQUENCE/FRAME. The labels of the test split are not public: it is left out, as are splits
    that are not there.

    Args:
        folder: the dataset's folder.
        labels: "polygons" as published; "ids" or "level3Ids" for masks that the public tool makes from them. Level 3
            unites labels (person and animal), and teaches less.

    Raises:
        ConfigError: when `labels` is none of the three.
        DataError: when folders are missing or files are unpaired.
    """
    if labels not in _FORMS:
        raise ConfigError(f"idd has no labels '{labels}'; use {', '.join(_FORMS)}")
    require_folder(folder / IMAGES, "IDD", HOW_TO_GET)
    require_folder(folder / "gtFine", "IDD", HOW_TO_GET)
    frames = FrameTable(folder, _frames(folder, labels))
    if not len(frames):
        raise DataError(f"IDD: {folder / IMAGES} has neither train nor val; {HOW_TO_GET}")
    table = load_class_table("idd_level3" if labels == "level3Ids" else "idd")
    reader = PolygonLabels(table, "unlabeled") if labels == "polygons" else IndexLabels()
    return LabelledFrames("idd", frames, table, reader)


def _frames(folder: Path, labels: str) -> Iterator[Frame]:
    for split in _SPLITS:
        pairs = find_pairs(folder, split, "gtFine", _FORMS[labels], _MAKE_WITH[labels], HOW_TO_GET)
        for key, image, label in pairs:
            yield Frame(key, image, label, key.rpartition("/")[0], split)
