"""The folders and files of Cityscapes, which IDD has taken over: images and ground truth in twin trees."""

from collections.abc import Iterator
from pathlib import Path

from roadseg.data.listing import by_key, find_files, pair_by_key, require_folder
from roadseg.errors import DataError
from roadseg.images import IMAGE_SUFFIXES

IMAGES = "leftImg8bit"
_IMAGE_ENDINGS = tuple(f"_{IMAGES}{suffix}" for suffix in sorted(IMAGE_SUFFIXES))


def find_pairs(
    folder: Path,
    split: str,
    truth: str,
    form: str,
    make_with: str,
    how_to_get: str,
    left_out: frozenset[str] = frozenset(),
) -> Iterator[tuple[str, str, str]]:
    """Images of a split with their label files; nothing when the split's images are not there.

    Args:
        folder: the dataset's folder.
        split: folder in both trees, for example "train".
        truth: tree of the labels, "gtFine" or "gtCoarse".
        form: end of the label files, for example "labelIds.png".
        make_with: says how to get label files of this form, for when there are none.
        how_to_get: says how to get the dataset.
        left_out: frames to pass over, as GROUP/NAME.

    Yields:
        (GROUP/NAME, image, label): the paths relative to `folder`, sorted.

    Raises:
        DataError: when the labels are missing, or an image or a label has no partner.
    """
    images, labels = folder / IMAGES / split, folder / truth / split
    if not images.is_dir():
        return
    require_folder(labels, f"{truth} labels", how_to_get)
    ending = f"_{truth}_{form}"
    image_of = by_key(find_files(images, _IMAGE_ENDINGS), lambda path: path.rpartition("_")[0], images)
    label_of = by_key(find_files(labels, [ending]), lambda path: path[: -len(ending)], labels)
    if not label_of:
        raise DataError(f"{labels} holds no file that ends in {ending}; {make_with}")
    for key in left_out:
        image_of.pop(key, None)
        label_of.pop(key, None)
    for key, image, label in pair_by_key(image_of, label_of, images, labels):
        yield key, f"{IMAGES}/{split}/{image}", f"{truth}/{split}/{label}"
