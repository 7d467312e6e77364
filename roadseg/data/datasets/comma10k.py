"""comma10k: what a driving assistant must see."""

import re
from collections.abc import Iterator
from pathlib import Path

from roadseg.data.class_table import load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.label_files import ColourLabels
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder, stem

HOW_TO_GET = (
    "get it with `git clone --depth 1 https://github.com/commaai/comma10k` (MIT, no registration) and move it to "
    "`comma10k` in your data root"
)

_NAME = "comma10k"
_ROUTE = re.compile(r"[0-9a-f]{16}_\d{4}-\d{2}-\d{2}--\d{2}-\d{2}-\d{2}")


def open_comma10k(folder: Path) -> LabelledFrames:
    """comma10k (comma.ai): dash-camera pictures from the road, 5 labels.

    Layout: `imgs/NAME.png` with colour-coded masks `masks/NAME.png`. NAME is NUMBER_DEVICE_ROUTE_SEGMENT_FRAME, and the
    frame's drive is device and route. Frames whose name ends in 9 are "val", as its authors have it, the others
    "train"; one drive may so be in both.

    Args:
        folder: the dataset's folder.

    Raises:
        DataError: when folders are missing or files are unpaired.
    """
    table = load_class_table("comma10k")
    return LabelledFrames("comma10k", FrameTable(folder, _frames(folder)), table, ColourLabels(table))


def _frames(folder: Path) -> Iterator[Frame]:
    images, masks = folder / "imgs", folder / "masks"
    require_folder(images, _NAME, HOW_TO_GET)
    require_folder(masks, _NAME, HOW_TO_GET)
    image_of = by_key(find_files(images, below=False), stem, images)
    mask_of = by_key(find_files(masks, [".png"], below=False), stem, masks)
    for name, image, mask in pair_by_key(image_of, mask_of, images, masks):
        route = _ROUTE.search(name)
        split = "val" if name.endswith("9") else "train"
        yield Frame(name, f"imgs/{image}", f"masks/{mask}", route.group() if route else name, split)
