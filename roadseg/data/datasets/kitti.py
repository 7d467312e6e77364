"""KITTI semantics: 200 labelled frames of the KITTI benchmark."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from roadseg.data.class_table import load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder, stem

HOW_TO_GET = (
    "register at https://www.cvlibs.net/datasets/kitti/eval_semantics.php (CC BY-NC-SA 3.0), and unpack "
    "data_semantics.zip into `kitti` in your data root: training/image_2/000000_10.png and "
    "training/semantic/000000_10.png"
)


def open_kitti(folder: Path) -> LabelledFrames:
    """KITTI semantics (Abu Alhaija et al., 2018, arXiv:1708.01566): 200 frames in the labels of Cityscapes, 1242x375.

    Layout: `training/image_2/NAME.png` with masks `training/semantic/NAME.png` of Cityscapes' ids. Every frame is
    "train": the labels of the test frames are not public. Nothing published says which drive a frame is from, so that
    each is its own.

    Args:
        folder: the dataset's folder.

    Raises:
        DataError: when folders are missing or files are unpaired.
    """
    images, masks = folder / "training" / "image_2", folder / "training" / "semantic"
    require_folder(images, "KITTI semantics", HOW_TO_GET)
    require_folder(masks, "KITTI semantics", HOW_TO_GET)
    table = replace(load_class_table("cityscapes"), name="kitti", licence="CC BY-NC-SA 3.0")
    return LabelledFrames("kitti", FrameTable(folder, _frames(images, masks)), table)


def _frames(images: Path, masks: Path) -> Iterator[Frame]:
    image_of = by_key(find_files(images, below=False), stem, images)
    mask_of = by_key(find_files(masks, [".png"], below=False), stem, masks)
    for name, image, mask in pair_by_key(image_of, mask_of, images, masks):
        yield Frame(name, f"training/image_2/{image}", f"training/semantic/{mask}", name, "train")
