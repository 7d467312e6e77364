"""ApolloScape scene parsing, and the layout that all of ApolloScape shares."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from roadseg.data.class_table import load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder, stem
from roadseg.errors import DataError

HOW_TO_GET = (
    "download road01_ins.tar.gz and the like, and the image lists, from http://apolloscape.auto/scene.html "
    "(registration; non-commercial use) and unpack them to `apolloscape` in your data root, so that "
    "apolloscape/road01_ins/ColorImage is there"
)

_LISTS = {f"_{split}.lst": split for split in ("train", "val", "test")}
_LABEL_ENDING = "_bin.png"


def open_apolloscape(folder: Path) -> LabelledFrames:
    """ApolloScape scene parsing (Huang et al., 2018, arXiv:1803.06184): Chinese cities, 36 labels.

    Layout: `ROAD/ColorImage/RECORD/CAMERA/NAME.jpg` with masks `ROAD/Label/RECORD/CAMERA/NAME_bin.png`, whose 8-bit
    values are label ids; ROAD is road01_ins, road02_seg and so on. A frame's drive is road and record, of both cameras.
    Its split is that of the published lists `ROAD_{train,val,test}.lst`, wherever below the folder, and "train" where
    they do not name it. Names are those of `apolloscape_lanes`, which labels pictures of the same drives.

    Args:
        folder: the dataset's folder.

    Raises:
        DataError: when folders are missing, files are unpaired, or a list contradicts another.
    """
    frames = FrameTable(folder, recorded_frames(folder, "ApolloScape", HOW_TO_GET))
    return LabelledFrames("apolloscape", frames, load_class_table("apolloscape"), collection="apolloscape")


def recorded_frames(folder: Path, dataset: str, how_to_get: str) -> Iterator[Frame]:
    """Frames of ApolloScape's layouts: those below a folder ColorImage, with those below Label.

    Args:
        folder: the dataset's folder.
        dataset: its name in errors.
        how_to_get: a sentence for the error when it is missing.

    Raises:
        DataError: when there are no images, files are unpaired, or a list contradicts another.
    """
    require_folder(folder, dataset, how_to_get)
    files = find_files(folder, [".jpg", _LABEL_ENDING, *_LISTS])
    images = [path for path in files if path.lower().endswith(".jpg") and "ColorImage" in path.split("/")[:-1]]
    labels = [path for path in files if path.endswith(_LABEL_ENDING) and "Label" in path.split("/")[:-1]]
    if not images:
        raise DataError(f"{dataset}: {folder} holds no image below a folder ColorImage; {how_to_get}")
    split_of = _splits(folder, [path for path in files if path.lower().endswith(".lst")])
    by_key(images, stem, folder)  # a picture that is there twice, in two folders, would be seen twice
    for key, image, label in pair_by_key(by_key(images, _key, folder), by_key(labels, _key, folder), folder, folder):
        name = stem(image)
        yield Frame(name, image, label, _drive(key), split_of.get(name, "train"))


def _key(path: str) -> str:
    """What an image's path and its label's have in common: road, record, camera and name."""
    *folders, name = path.split("/")
    kept = [re.sub("^(ColorImage|Labels?)_", "", part) for part in folders if part not in {"ColorImage", "Label"}]
    return "/".join([*kept, stem(name).removesuffix("_bin")])


def _drive(key: str) -> str:
    """Road and record; a road's archives for instances (_ins) and for pixels only (_seg) share its records' numbers."""
    parts = key.split("/")
    road_and_record = parts[-4:-2] or parts[:1]
    return "/".join(re.sub("_(ins|seg)$", "", part) for part in road_and_record)


def _splits(folder: Path, lists: Iterable[str]) -> dict[str, str]:
    """Split of each frame that the published lists name: a line holds image and label, with a tab between."""
    split_of: dict[str, str] = {}
    for path in lists:
        split = next(split for ending, split in _LISTS.items() if path.lower().endswith(ending))
        for line in (folder / path).read_text(encoding="utf-8").splitlines():
            name = PurePosixPath(line.partition("\t")[0]).stem
            if name and split_of.setdefault(name, split) != split:
                raise DataError(
                    f"{folder / path} gives {name} to '{split}', but another list gives it to '{split_of[name]}'; keep "
                    "the published lists"
                )
    return split_of
