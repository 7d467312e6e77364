"""ADE20K as the scene parsing benchmark has it."""

from collections.abc import Iterator
from pathlib import Path

from roadseg.data.class_table import load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder, stem

SPLITS = {"training": "train", "validation": "val"}
"""Published folder -> split."""

HOW_TO_GET = (
    "download http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip (images for non-commercial "
    "research and education), unpack it and move its folder ADEChallengeData2016 to `ade20k` in your data root"
)

_NAME = "ADE20K"


def open_ade20k(folder: Path) -> LabelledFrames:
    """ADE20K scene parsing (Zhou et al., 2017): scenes of every kind, 150 labels.

    Layout: `images/{training,validation}/NAME.jpg` with masks `annotations/{training,validation}/NAME.png`, pixel
    values 1..150, and 0 where the picture shows none of the 150, which is ignored. Pictures have no common origin: each
    is its own drive. Splits that are not there are left out.

    Args:
        folder: the dataset's folder.

    Raises:
        DataError: when folders are missing or files are unpaired.
    """
    return LabelledFrames("ade20k", FrameTable(folder, _frames(folder)), load_class_table("ade20k"))


def _frames(folder: Path) -> Iterator[Frame]:
    published = [name for name in SPLITS if (folder / "images" / name).is_dir()]
    for name in published or list(SPLITS):
        images, masks = folder / "images" / name, folder / "annotations" / name
        require_folder(images, _NAME, HOW_TO_GET)
        require_folder(masks, _NAME, HOW_TO_GET)
        image_of = by_key(find_files(images, below=False), stem, images)
        mask_of = by_key(find_files(masks, [".png"], below=False), stem, masks)
        for key, image, mask in pair_by_key(image_of, mask_of, images, masks):
            yield Frame(key, f"images/{name}/{image}", f"annotations/{name}/{mask}", key, SPLITS[name])
