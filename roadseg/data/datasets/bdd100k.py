"""BDD100K: drives of all weathers and hours in the United States; semantic masks and drivable areas."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from roadseg.data.class_table import load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.label_files import LabelReader
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder, stem
from roadseg.errors import ConfigError, DataError

HOW_TO_GET = (
    "register at https://bdd-data.berkeley.edu (free for research and not-for-profit use; read its licence), and "
    "unpack the 10K Images with Semantic Segmentation, or the 100K Images with Drivable Area or Lane Marking, into "
    "`bdd100k` in your data root: images/{10k,100k}/train/*.jpg and labels/{sem_seg,drivable,lane}/masks/train/*.png"
)

_SPLITS = ("train", "val")


class Part(NamedTuple):
    """One set of masks of BDD100K.

    Attributes:
        images: folder of the images, "10k" or "100k".
        labels: folder of the labels.
        table: the class table.
        complete: whether every image has a mask.
    """

    images: str
    labels: str
    table: str
    complete: bool


_PARTS = {
    "sem_seg": Part("10k", "sem_seg", "bdd100k", complete=True),
    "drivable": Part("100k", "drivable", "bdd100k_drivable", complete=False),
}


def open_bdd100k(folder: Path, labels: str = "sem_seg") -> LabelledFrames:
    """BDD100K (Yu et al., 2020, arXiv:1805.04687): 8,000 frames with 19 classes, 80,000 with drivable areas, 1280x720.

    Layout: `images/10k/SPLIT/NAME.jpg` with `labels/sem_seg/masks/SPLIT/NAME.png`, and `images/100k/SPLIT/NAME.jpg`
    with `labels/drivable/masks/SPLIT/NAME.png`. A frame's drive is its name up to the first "-". The labels of the
    test split are not public: it is left out, as are splits that are not there. 10k and 100k share pictures, and their
    splits were made apart: check a mixture of both for drives in train and val.

    Args:
        folder: the dataset's folder.
        labels: "sem_seg" for masks of 19 train ids and 255; "drivable" for 0 direct, 1 alternative, 2 background.
            Images without a drivable mask are left out.

    Raises:
        ConfigError: when `labels` is neither.
        DataError: when folders are missing or files are unpaired.
    """
    if labels not in _PARTS:
        raise ConfigError(f"bdd100k has no labels '{labels}'; use {', '.join(_PARTS)}, or the dataset bdd100k_lanes")
    return open_part("bdd100k", folder, _PARTS[labels])


def open_part(name: str, folder: Path, part: Part, read: LabelReader | None = None) -> LabelledFrames:
    """Frames of one set of masks.

    Args:
        name: of the dataset.
        folder: the folder of BDD100K.
        part: which masks.
        read: reads a mask; as an index mask if not given.

    Raises:
        DataError: when folders are missing or files are unpaired.
    """
    require_folder(folder / "images" / part.images, "BDD100K", HOW_TO_GET)
    require_folder(folder / "labels" / part.labels / "masks", "BDD100K", HOW_TO_GET)
    frames = FrameTable(folder, _frames(folder, part))
    if not len(frames):
        raise DataError(f"BDD100K: {folder / 'images' / part.images} has neither train nor val; {HOW_TO_GET}")
    return LabelledFrames(name, frames, load_class_table(part.table), read, "bdd100k")


def _frames(folder: Path, part: Part) -> Iterator[Frame]:
    for split in _SPLITS:
        above, beside = f"images/{part.images}/{split}", f"labels/{part.labels}/masks/{split}"
        images, masks = folder / above, folder / beside
        if not images.is_dir():
            continue
        require_folder(masks, "BDD100K", HOW_TO_GET)
        image_of = by_key(find_files(images, below=False), stem, images)
        mask_of = by_key(find_files(masks, [".png"], below=False), stem, masks)
        if not part.complete:
            image_of = {name: image for name, image in image_of.items() if name in mask_of} or image_of
        for name, image, mask in pair_by_key(image_of, mask_of, images, masks):
            yield Frame(name, f"{above}/{image}", f"{beside}/{mask}", name.partition("-")[0], split)
