"""ApolloScape lane segmentation: lane marks by shape, colour and use."""

from pathlib import Path

from roadseg.data.class_table import ClassTable, load_class_table
from roadseg.data.datasets.apolloscape import recorded_frames
from roadseg.data.frames import FrameTable
from roadseg.data.label_files import ColourLabels, IndexLabels, LabelReader
from roadseg.data.labelled import LabelledFrames
from roadseg.errors import ConfigError
from roadseg.taxonomy import load_taxonomy

ENCODINGS = ("colours", "ids")
VOIDS = ("ignored", "unmarked")

HOW_TO_GET = (
    "download ColorImage_road02 and Labels_road02, and those of road03 and road04, from "
    "http://apolloscape.auto/lane_segmentation.html (registration; non-commercial use) and unpack them to "
    "`apolloscape_lanes` in your data root, so that apolloscape_lanes/ColorImage_road02/ColorImage is there"
)

_PAINTED = ("lane_marking", "crosswalk")


def open_apolloscape_lanes(folder: Path, encoding: str = "colours", void: str = "ignored") -> LabelledFrames:
    """ApolloScape lane segmentation (Huang et al., 2018, arXiv:1803.06184): 35 kinds of lane marks, Chinese cities.

    Layout: `ColorImage_ROAD/ColorImage/RECORD/CAMERA/NAME.jpg` with masks
    `Labels_ROAD/Label/RECORD/CAMERA/NAME_bin.png`. A frame's drive is road and record, of both cameras. No split is
    published: every frame is "train", unless lists name it as in `apolloscape`.

    Args:
        folder: the dataset's folder.
        encoding: "colours": masks are colour-coded, as published; "ids": they hold the label ids in 8 bit, as the
            evaluation wants them.
        void: what a pixel without a label is. "ignored": it is not used, so the dataset teaches what a mark looks like
            but not what none looks like. "unmarked": it is any class but lane_marking and crosswalk, which holds as far
            as every mark in sight is annotated.

    Raises:
        ConfigError: when an option has another value.
        DataError: when folders are missing or files are unpaired.
    """
    for option, value, known in (("encoding", encoding, ENCODINGS), ("void", void, VOIDS)):
        if value not in known:
            raise ConfigError(f"apolloscape_lanes: {option} is '{value}'; it is one of {', '.join(known)}")
    table = load_class_table("apolloscape_lanes")
    reader: LabelReader = ColourLabels(table) if encoding == "colours" else IndexLabels()
    frames = FrameTable(folder, recorded_frames(folder, "ApolloScape lanes", HOW_TO_GET))
    return LabelledFrames(
        "apolloscape_lanes", frames, _unmarked(table) if void == "unmarked" else table, reader, "apolloscape"
    )


def _unmarked(table: ClassTable) -> ClassTable:
    others = [name for name in load_taxonomy("hdmap").names if name not in _PAINTED]
    return table.with_targets("hdmap", {"void": others})
