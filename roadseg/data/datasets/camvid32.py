"""CamVid in its original 32 classes, colour-coded."""

from collections.abc import Iterator
from pathlib import Path

from roadseg.data.class_table import ClassTable, load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.label_files import ColourLabels
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder, stem
from roadseg.errors import DataError

HOW_TO_GET = (
    "get the frames and the labels from http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ and put them into "
    "`camvid32/images` and `camvid32/labels` in your data root, with label_colors.txt beside them"
)


def open_camvid32(folder: Path) -> LabelledFrames:
    """CamVid (Brostow, Fauqueur, Cipolla, 2008) with all its labels, lane markings among them, at 960x720.

    Layout: `images/NAME.png` (or .jpg), `labels/NAME_L.png` (RGB), and if there `label_colors.txt`, which must agree
    with the published colours. There is no split of its own: every frame is "train". Names are those of `camvid`.

    Args:
        folder: the dataset's folder.

    Raises:
        DataError: when folders are missing, files are unpaired, or label_colors.txt says otherwise.
    """
    require_folder(folder / "images", "CamVid-32", HOW_TO_GET)
    require_folder(folder / "labels", "CamVid-32", HOW_TO_GET)
    table = load_class_table("camvid32")
    _check_colours(folder / "label_colors.txt", table)
    return LabelledFrames("camvid32", FrameTable(folder, _frames(folder)), table, ColourLabels(table), "camvid")


def _frames(folder: Path) -> Iterator[Frame]:
    images, labels = folder / "images", folder / "labels"
    image_of = by_key(find_files(images, below=False), stem, images)
    label_of = by_key(find_files(labels, [".png"], below=False), lambda path: stem(path).removesuffix("_L"), labels)
    for name, image, label in pair_by_key(image_of, label_of, images, labels):
        yield Frame(name, f"images/{image}", f"labels/{label}", name.partition("_")[0], "train")


def _check_colours(path: Path, table: ClassTable) -> None:
    """A file of other colours belongs to other masks."""
    if not path.is_file():
        return
    published = {label.name: label.colour for label in table.labels}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        name, colour = words[-1], tuple(int(w) if w.isdigit() else -1 for w in words[:-1])
        if published.get(name) != colour:
            raise DataError(
                f"{path}, line {number}: '{line.strip()}' is not a published colour of CamVid ({name} has "
                f"{published.get(name)}); use the original masks, or dataset `folder` with your own colours"
            )
