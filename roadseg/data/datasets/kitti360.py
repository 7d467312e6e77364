"""KITTI-360: long suburban drives, labelled in 3D and projected into the images."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from roadseg.data.class_table import load_class_table
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.labelled import LabelledFrames
from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder, stem
from roadseg.errors import DataError

HOW_TO_GET = (
    "register at https://www.cvlibs.net/datasets/kitti-360 (CC BY-NC-SA 3.0), and unpack the perspective images and "
    "the 2D semantics into `kitti360` in your data root: "
    "data_2d_raw/2013_05_28_drive_0000_sync/image_00/data_rect/*.png and "
    "data_2d_semantics/train/2013_05_28_drive_0000_sync/image_00/semantic/*.png"
)

_RAW = "data_2d_raw"
_SEMANTICS = "data_2d_semantics/train"
_CAMERA = "image_00"
_LISTS = {"train": "2013_05_28_drive_train_frames.txt", "val": "2013_05_28_drive_val_frames.txt"}


def open_kitti360(folder: Path) -> LabelledFrames:
    """KITTI-360 (Liao, Xie, Geiger, 2021, arXiv:2109.13410): 61,280 labelled frames of the left camera, 1408x376.

    Layout: `data_2d_raw/DRIVE/image_00/data_rect/NUMBER.png` with masks
    `data_2d_semantics/train/DRIVE/image_00/semantic/NUMBER.png`, DRIVE being 2013_05_28_drive_XXXX_sync. A frame's name
    is DRIVE/NUMBER. Its split is that of the published lists (`2013_05_28_drive_train_frames.txt` and
    `..._val_frames.txt` beside the masks), and frames in neither are left out; without lists every frame is "train".
    The published val is windows of the *same* drives as train: choose on a held-out drive. Drives whose images are not
    there are left out, as are images without a mask, of which there are many.

    Args:
        folder: the dataset's folder.

    Raises:
        DataError: when folders are missing, a mask has no image, or a list is wrong.
    """
    require_folder(folder / _RAW, "KITTI-360", HOW_TO_GET)
    require_folder(folder / _SEMANTICS, "KITTI-360", HOW_TO_GET)
    frames = FrameTable(folder, _frames(folder))
    if not len(frames):
        raise DataError(f"KITTI-360: {folder / _RAW} holds the images of no drive in {_SEMANTICS}; {HOW_TO_GET}")
    return LabelledFrames("kitti360", frames, load_class_table("kitti360"))


def _frames(folder: Path) -> Iterator[Frame]:
    split_of = _published_splits(folder / _SEMANTICS)
    for drive in sorted(path.name for path in (folder / _SEMANTICS).iterdir() if path.is_dir()):
        above, beside = f"{_RAW}/{drive}/{_CAMERA}/data_rect", f"{_SEMANTICS}/{drive}/{_CAMERA}/semantic"
        images, masks = folder / above, folder / beside
        if not images.is_dir():
            continue
        require_folder(masks, "KITTI-360", HOW_TO_GET)
        mask_of = by_key(find_files(masks, [".png"], below=False), stem, masks)
        if split_of is not None:
            _refuse_missing(drive, split_of, mask_of, masks)
            mask_of = {number: mask for number, mask in mask_of.items() if f"{drive}/{number}" in split_of}
        if not mask_of:
            continue
        image_of = by_key(find_files(images, below=False), stem, images)
        labelled = {number: image for number, image in image_of.items() if number in mask_of} or image_of
        for number, image, mask in pair_by_key(labelled, mask_of, images, masks):
            name = f"{drive}/{number}"
            split = "train" if split_of is None else split_of[name]
            yield Frame(name, f"{above}/{image}", f"{beside}/{mask}", drive, split)


def _published_splits(folder: Path) -> Mapping[str, str] | None:
    """DRIVE/NUMBER -> split by the published lists; None when there are none."""
    present = {split: folder / name for split, name in _LISTS.items() if (folder / name).is_file()}
    if not present:
        return None
    split_of: dict[str, str] = {}
    for split, path in present.items():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            name = _listed_name(path, number, line)
            if split_of.setdefault(name, split) != split:
                raise DataError(f"{path}, line {number}: {name} is listed for {split_of[name]}, too; remove one")
    return split_of


def _listed_name(path: Path, number: int, line: str) -> str:
    """DRIVE/NUMBER of a line: the image's path and the mask's, relative to the dataset's folder."""
    columns = [Path(column).parts for column in line.split()]
    if len(columns) == 2 and all(len(parts) >= 4 and parts[-3] == _CAMERA for parts in columns):
        image, mask = (f"{parts[-4]}/{Path(parts[-1]).stem}" for parts in columns)
        if image == mask:
            return image
    raise DataError(
        f"{path}, line {number}: expected the path of an image of {_CAMERA} and that of its mask, got "
        f"'{line.strip()}'; get the published list again"
    )


def _refuse_missing(drive: str, split_of: Mapping[str, str], mask_of: Mapping[str, str], masks: Path) -> None:
    listed = (name.partition("/")[2] for name in split_of if name.startswith(f"{drive}/"))
    missing = sorted(number for number in listed if number not in mask_of)
    if missing:
        raise DataError(
            f"{len(missing)} mask(s) of the published lists are not in {masks}: {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}; unpack the 2D semantics again, or shorten the lists"
        )
