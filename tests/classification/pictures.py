"""Folders of little pictures that a classifier can tell apart, and what a run on them has left."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"brick": (190, 60, 50), "grass": (60, 170, 70), "water": (50, 80, 190)}
TRAIN_PICTURES, VAL_PICTURES = 12, 5

REACHABLE = 0.8
"""Top-1 accuracy of whoever knows the colours: one picture in five of the validation split shows another class."""


def write_pictures(root: Path) -> Path:
    """`root`/colours with train and val, noisy pictures of one colour a class, half JPEG and half PNG."""
    rng = np.random.default_rng(0)
    names = list(COLOURS)
    for split, count in (("train", TRAIN_PICTURES), ("val", VAL_PICTURES)):
        for label, name in enumerate(names):
            folder = root / "colours" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                impostor = split == "val" and i == 0
                colour = COLOURS[names[(label + impostor) % len(names)]]
                height, width = rng.integers(40, 90, 2)
                pixels = np.clip(rng.normal(colour, 20, (height, width, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:02d}.{'png' if i % 2 else 'jpg'}")
    return root


def checkpoint(name: str = "last", run: str = "tiny", version: int = 0) -> Path:
    return Path(f"runs/{run}/version_{version}/checkpoints/{name}.ckpt")


def column(name: str, run: str = "tiny", version: int = 0) -> list[float]:
    """The values of a column of a run's metrics, in order."""
    with Path(f"runs/{run}/version_{version}/metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]
