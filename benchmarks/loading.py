"""Training samples a second: `TrainView` against a plain dataset of OpenCV and albumentations, interleaved, in one run.

    python -m benchmarks.loading -o benchmarks/results/loading.json

Both read the same JPEG frames and index PNG masks with the same augmentation (random scale 0.5 to 2, crop 320x416,
flip, colour jitter, gamma, blur or noise) through a DataLoader with 2 workers and batches of 8. The frames are
procedural scenes, enlarged, with sensor noise; the system's file cache holds them. Only `TrainView` checks every label
and maps it to set ids; the plain dataset takes the file's ids as they are.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.measuring import interleaved_medians
from roadseg.benching.machine import describe_machine
from roadseg.data.class_table import ClassTable, SourceLabel
from roadseg.data.frames import Frame, FrameTable
from roadseg.data.labelled import LabelledFrames
from roadseg.data.mapped import MappedFrames
from roadseg.data.sampling import EpochSampler
from roadseg.data.synthetic import SYNTHETIC_TAXONOMY, render_scene
from roadseg.data.transforms import Augmentation
from roadseg.data.views import TrainView, collate
from roadseg.data.workers import prepare_worker
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

CROP = (320, 416)
BATCH, WORKERS = 8, 2
CASES = {
    # name: size of the frames, number of files, samples timed at once, range of scales
    "960x720, scale 0.5 to 2": ((720, 960), 64, 256, (0.5, 2.0)),
    "3840x2160, scale 0.2 to 0.5": ((2160, 3840), 16, 64, (0.2, 0.5)),
    "3840x2160, scale 0.5 to 2": ((2160, 3840), 16, 64, (0.5, 2.0)),
}
MERGED = {"road": ("road", "lane_marking"), "traffic_sign": ("traffic_sign", "traffic_light")}
"""What some labels of the frames stand for, so that the map to set ids has something to do."""


class PlainDataset(Dataset[dict[str, Any]]):
    """The usual way: decode whole frames, then albumentations."""

    def __init__(self, folder: Path, names: list[str], scale_range: tuple[float, float]) -> None:
        self.folder, self.names = folder, names
        self.transform = A.Compose(
            [
                A.RandomScale(
                    (scale_range[0] - 1, scale_range[1] - 1),
                    interpolation=cv2.INTER_LINEAR,
                    mask_interpolation=cv2.INTER_NEAREST,
                    area_for_downscale="image",
                    p=1.0,
                ),
                A.RandomCrop(
                    *CROP, pad_if_needed=True, pad_position="random", fill=(124, 116, 104), fill_mask=255, p=1.0
                ),
                A.HorizontalFlip(p=0.5),
                A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.05, 0.05), p=0.8),
                A.RandomGamma((70, 140), p=0.3),
                A.OneOf([A.GaussianBlur((3, 5), p=1.0), A.GaussNoise((0.01, 0.05), p=1.0)], p=0.2),
            ]
        )

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One augmented sample, as `TrainView` gives it."""
        name = self.names[index]
        image = cv2.cvtColor(cv2.imread(str(self.folder / "images" / f"{name}.jpg")), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(self.folder / "labels" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        out = self.transform(image=image, mask=mask)
        pixels = np.ascontiguousarray(out["image"].transpose(2, 0, 1))
        return {
            "image": torch.from_numpy(pixels),
            "mask": torch.from_numpy(out["mask"].astype(np.int64)),
            "name": name,
        }


def write_frames(folder: Path, size: tuple[int, int], count: int) -> list[str]:
    """Procedural scenes as JPEG of quality 90 and index PNG, as a camera and a labelling tool would leave them."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"frame_{i:03d}" for i in range(count)]
    for i, name in enumerate(names):
        scene = render_scene(i, (360, 360 * size[1] // size[0]))
        image = cv2.resize(scene.image, size[::-1], interpolation=cv2.INTER_CUBIC)
        noise = cv2.GaussianBlur(rng.normal(0, 8, image.shape).astype(np.float32), (3, 3), 0.7)
        noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "images" / f"{name}.jpg", quality=90)
        mask = cv2.resize(scene.mask, size[::-1], interpolation=cv2.INTER_NEAREST)
        Image.fromarray(mask).save(folder / "labels" / f"{name}.png")
    return names


def open_frames(folder: Path, names: list[str]) -> MappedFrames:
    """The same files as the package's frames, with merged label sets."""
    taxonomy = load_taxonomy(SYNTHETIC_TAXONOMY)
    family = taxonomy.family or taxonomy.name
    labels = tuple(SourceLabel(i, n, None, {family: MERGED.get(n, (n,))}) for i, n in enumerate(taxonomy.names))
    table = ClassTable("scenes", labels)
    frames = FrameTable(folder, (Frame(n, f"images/{n}.jpg", f"labels/{n}.png", n, "train") for n in names))
    return MappedFrames(
        LabelledFrames("scenes", frames, table), LabelSets.collect(taxonomy, table.sets_in(taxonomy).values())
    )


class Repeated:
    """A sampler that goes through the frames again and again, until so many samples are read."""

    def __init__(self, sampler: EpochSampler, samples: int) -> None:
        self.sampler, self.samples, self.epoch = sampler, samples, 0

    def __len__(self) -> int:
        """Samples of a run."""
        return self.samples

    def __iter__(self) -> Iterator[Any]:
        """The keys of a run."""
        left = self.samples
        while left:
            self.sampler.set_epoch(self.epoch)
            self.epoch += 1
            for key in list(self.sampler)[:left]:
                left -= 1
                yield key


def prepare_plain_worker(worker: int) -> None:
    """As usual: one thread a worker, and another stream of random numbers for each."""
    cv2.setNumThreads(0)
    info = torch.utils.data.get_worker_info()
    if info:
        info.dataset.transform.set_random_seed(torch.initial_seed() % 2**32)


def loaders(folder: Path, names: list[str], samples: int, scale_range: tuple[float, float]) -> dict[str, DataLoader]:
    """Both loaders; their workers stay alive between runs."""
    view = TrainView(open_frames(folder, names), Augmentation(crop_size=CROP, scale_range=scale_range), seed=0)
    plain = PlainDataset(folder, names, scale_range)
    shared: dict[str, Any] = {
        "batch_size": BATCH,
        "num_workers": WORKERS,
        "persistent_workers": True,
    }
    random = RandomSampler(plain, replacement=True, num_samples=samples)
    in_epochs = Repeated(EpochSampler(len(view), seed=0), samples)
    return {
        "plain": DataLoader(plain, sampler=random, worker_init_fn=prepare_plain_worker, **shared),
        "roadseg": DataLoader(view, sampler=in_epochs, worker_init_fn=prepare_worker, collate_fn=collate, **shared),
    }


def drain(loader: DataLoader) -> None:
    """Read all batches of a loader."""
    for batch in loader:
        assert batch["image"].shape == (BATCH, 3, *CROP) and batch["mask"].shape == (BATCH, *CROP)


def measure(case: str, repeats: int) -> dict[str, object]:
    """One row of the table."""
    size, files, samples, scale_range = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        names = write_frames(Path(folder), size, files)
        found = loaders(Path(folder), names, samples, scale_range)
        runs = {name: lambda loader=loader: drain(loader) for name, loader in found.items()}
        median = interleaved_medians(runs, repeats)
    return {
        "frames": case,
        "plain_samples_per_s": round(samples / median["plain"], 1),
        "roadseg_samples_per_s": round(samples / median["roadseg"], 1),
        "ratio": round(median["plain"] / median["roadseg"], 2),
    }


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=11, help="runs of each loader (default: 11)")
    parser.add_argument("--case", choices=CASES, action="append", help="measure only this (may be repeated)")
    args = parser.parse_args()
    rows = [measure(case, args.repeats) for case in args.case or CASES]
    header = list(rows[0])
    print(" | ".join(header), *(" | ".join(str(value) for value in row.values()) for row in rows), sep="\n")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine": describe_machine(), "crop": CROP, "batch": BATCH, "workers": WORKERS, "rows": rows}
        args.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
