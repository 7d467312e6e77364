"""Labelled frames to look at, wherever one is: real ones where CamVid lies in the data root, else synthetic scenes."""

from pathlib import Path

from roadseg.data.dataset_config import DatasetConfig
from roadseg.data.mapped import MappedFrames
from roadseg.data.mixture import label_sets_of, open_data, open_frames, tables_of
from roadseg.data.root import data_root
from roadseg.data.splitting import DriveSplit
from roadseg.taxonomy import load_taxonomy

CAMVID_DRIVE = "0006R0"
"""The drive on which recipes are chosen: of CamVid's published validation drive, 0016E5, most frames are in train."""


def frames_at_hand(
    taxonomy: str,
    *,
    scenes: int = 32,
    size: tuple[int, int] = (384, 640),
    root: str | Path | None = None,
    every_drive: bool = False,
) -> MappedFrames:
    """Frames of CamVid, else synthetic scenes.

    Of CamVid these are drive 0006R0 with the 32 labels if they are there, else the published validation split with the
    11.

    Args:
        taxonomy: name or file of the classes, of the family `hdmap`.
        scenes: how many synthetic scenes; their seeds are those of the validation split of `synthetic`.
        size: (H, W) of synthetic scenes in px.
        root: the data root; None is $ROADSEG_DATA if set, else ./data.
        every_drive: whether to take every frame with the 32 labels, if they are there; recipes train on most.

    Returns:
        Frames; `frames.source.name` says which they are.

    Raises:
        DataError: when CamVid is there and broken, or its labels are not mapped to the taxonomy.
    """
    folder = data_root(root)
    if (folder / "camvid32" / "labels").is_dir():
        return open_frames("camvid32", root=root, taxonomy=taxonomy) if every_drive else _fine_frames(taxonomy, root)
    if (folder / "camvid" / "val").is_dir():
        return open_frames("camvid", "val", root=root, taxonomy=taxonomy)
    return open_frames("synthetic", "val", taxonomy=taxonomy, val_frames=scenes, size=size)


def _fine_frames(taxonomy: str, root: str | Path | None) -> MappedFrames:
    """Of one drive: the dataset has no published split."""
    configs, classes = [DatasetConfig("camvid32")], load_taxonomy(taxonomy)
    label_sets = label_sets_of(tables_of(configs, root, classes), classes)
    (frames,) = open_data(configs, root, label_sets, DriveSplit((CAMVID_DRIVE,))).splits["val"]
    return frames
