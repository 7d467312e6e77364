"""Tiny CamVid trees: the same pictures with coarse and with fine labels."""

from pathlib import Path

import numpy as np
from PIL import Image

from roadseg.data.class_table import load_class_table

FINE = load_class_table("camvid32")
COARSE = {"road": 3, "sky": 0, "unlabelled": 11}


def write_coarse(root: Path, split: str, name: str, size: tuple[int, int] = (48, 64)) -> None:
    """Sky above, road below, in the eleven classes."""
    mask = np.full(size, COARSE["road"], np.uint8)
    mask[: size[0] // 2] = COARSE["sky"]
    _save(root / "camvid" / split / f"{name}.png", _picture(name, size))
    _save(root / "camvid" / f"{split}annot" / f"{name}.png", mask)


def write_fine(root: Path, name: str, size: tuple[int, int] = (96, 128)) -> None:
    """The same with a lane marking on the road, colour-coded."""
    labels = np.full((*size, 3), FINE.label("Road").colour, np.uint8)
    labels[: size[0] // 2] = FINE.label("Sky").colour
    labels[size[0] * 3 // 4 :, size[1] // 2 :] = FINE.label("LaneMkgsDriv").colour
    _save(root / "camvid32" / "images" / f"{name}.png", _picture(name, size))
    _save(root / "camvid32" / "labels" / f"{name}_L.png", labels)


def write_both(root: Path) -> None:
    """Drives A (train), B (train and val) and C (train); B_1, B_3 and A_1 have fine labels too."""
    for split, names in {"train": ("A_0", "A_1", "B_0", "B_1", "C_0"), "val": ("B_2", "B_3")}.items():
        for name in names:
            write_coarse(root, split, name)
    for name in ("B_1", "B_3", "A_1"):
        write_fine(root, name)


def _picture(name: str, size: tuple[int, int]) -> np.ndarray:
    seed = sum(name.encode())
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
