"""The data module: from a dataset's name to the loaders that Lightning runs."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from roadseg.data.camvid import CamVidDataset
from roadseg.data.sampling import EpochSampler, UnpaddedSampler
from roadseg.data.synthetic import SYNTHETIC_TAXONOMY, SyntheticRoadDataset
from roadseg.data.transforms import train_transform
from roadseg.data.views import EvaluationView, ImageView, RoadDataset, TrainView, collate
from roadseg.errors import ConfigError
from roadseg.images import find_images
from roadseg.taxonomy import load_taxonomy


def _synthetic(
    root: str | None,
    split: str,
    train_frames: int = 256,
    val_frames: int = 32,
    size: tuple[int, int] = (256, 384),
    seed: int = 0,
) -> RoadDataset:
    numbers = {"train_frames": train_frames, "val_frames": val_frames, "seed": seed}
    for name, value in numbers.items():
        least = 0 if name == "seed" else 1
        if type(value) is not int or value < least:
            raise ConfigError(f"data.options.{name} is {value!r}; use a whole number of at least {least}")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(side) is int for side in size):
        raise ConfigError(f"data.options.size is {size!r}; use [height, width] in px")
    frames = train_frames if split == "train" else val_frames
    return SyntheticRoadDataset(frames, (size[0], size[1]), 3 * seed + ("train", "val", "test").index(split))


@dataclass(frozen=True)
class DatasetSpec:
    """How to open a dataset.

    Attributes:
        build: takes root=, split=, and the dataset's own options.
        taxonomy: name of its taxonomy.
    """

    build: Callable[..., RoadDataset]
    taxonomy: str

    @property
    def options(self) -> list[str]:
        """Names of the dataset's own options."""
        return [name for name in inspect.signature(self.build).parameters if name not in ("root", "split")]


DATASETS: Mapping[str, DatasetSpec] = {
    "camvid": DatasetSpec(CamVidDataset, "camvid11"),
    "synthetic": DatasetSpec(_synthetic, SYNTHETIC_TAXONOMY),
}


class RoadDataModule(LightningDataModule):
    """Loaders of a road dataset.

    Batches are dicts: `image` (B, 3, H, W) uint8 RGB, `mask` (B, H, W) int64 with 255 ignored, `name` list of str.

    Args:
        dataset: "camvid" or "synthetic".
        root: the data root; null is $ROADSEG_DATA if set, else ./data.
        options: options of the dataset; synthetic has train_frames, val_frames, size and seed.
        batch_size: frames a training step and process.
        eval_batch_size: frames a validation or test step; above 1 they must have one size.
        crop_size: (height, width) of training crops in px.
        scale_range: smallest and largest random scale of training frames.
        photometric: strength of the colour augmentation; 0 is none.
        num_workers: processes that load data; 0 loads in the training process.
        predict_images: image files and folders for `predict`.
        seed: of shuffling and augmentation; the command line takes it from seed_everything.

    Raises:
        ConfigError: when a name is unknown or a value cannot work.
    """

    def __init__(
        self,
        dataset: str = "camvid",
        root: str | None = None,
        options: dict[str, Any] | None = None,
        batch_size: int = 8,
        eval_batch_size: int = 1,
        crop_size: tuple[int, int] = (320, 416),
        scale_range: tuple[float, float] = (0.5, 2.0),
        photometric: float = 1.0,
        num_workers: int = 2,
        predict_images: list[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_counts(batch_size=(batch_size, 1), eval_batch_size=(eval_batch_size, 1), num_workers=(num_workers, 0))
        if dataset not in DATASETS:
            raise ConfigError(f"no dataset '{dataset}'; known: {', '.join(sorted(DATASETS))}")
        _check_options(dataset, options or {})
        self._dataset, self._root, self._options = dataset, root, options or {}
        self._batch_size, self._eval_batch_size, self._num_workers = batch_size, eval_batch_size, num_workers
        self._transform = train_transform(crop_size, scale_range, photometric)
        self._augmentation = {
            "crop_size": list(crop_size),
            "scale_range": list(scale_range),
            "photometric": photometric,
        }
        self._predict_images = predict_images
        self._seed = seed
        self.taxonomy = load_taxonomy(DATASETS[dataset].taxonomy)
        """The classes of the masks."""
        self._frames: dict[str, RoadDataset] = {}
        self._first_epoch = 0

    def setup(self, stage: str) -> None:
        """Open the splits that `stage` needs, and read every frame once, so that a broken one stops the run now.

        Raises:
            DataError: when data is missing or broken.
            ConfigError: when an option of the dataset has a value that cannot work.
        """
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            if split not in self._frames:
                self._frames[split] = self._open(split)
                self._frames[split].verify()

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented crops, shuffled; an incomplete last batch is left out.

        Raises:
            ConfigError: when there are fewer frames than a batch holds.
        """
        frames, (rank, world_size) = self._frames["train"], self._place()
        sampler = EpochSampler(len(frames), self._seed, rank, world_size)
        sampler.set_epoch(self._first_epoch)
        if len(sampler) < self._batch_size:
            raise ConfigError(
                f"batch_size is {self._batch_size}, but a process has only {len(sampler)} training frames; lower "
                "data.batch_size"
            )
        return self._loader(
            TrainView(frames, self._transform, self._seed), batch_size=self._batch_size, sampler=sampler, drop_last=True
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Whole validation frames, each once."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Whole test frames, each once."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Images without masks, one at a time.

        Raises:
            ConfigError: when `predict_images` is not set.
        """
        if not self._predict_images:
            raise ConfigError("predict needs images: set data.predict_images to a list of image files and folders")
        view = ImageView(find_images(self._predict_images))
        return self._loader(view, batch_size=1, sampler=UnpaddedSampler(len(view), *self._place()))

    def describe(self) -> dict[str, Any]:
        """The data and its augmentation in plain values, for the provenance of a model."""
        return {
            "dataset": self._dataset,
            "options": self._options,
            "frames": {split: len(frames) for split, frames in self._frames.items()},
            "batch_size": self._batch_size,
            **self._augmentation,
        }

    def state_dict(self) -> dict[str, Any]:
        """The epoch with which a run that is resumed begins.

        Lightning tells the sampler only when loading processes have begun to read ahead, for epoch 0.
        """
        return {"epoch": self.trainer.fit_loop.epoch_progress.current.processed} if self.trainer else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the epoch, before the loaders are made."""
        self._first_epoch = int(state_dict.get("epoch", 0))

    def _open(self, split: str) -> RoadDataset:
        return DATASETS[self._dataset].build(root=self._root, split=split, **self._options)

    def _evaluation_loader(self, split: str) -> DataLoader[Any]:
        view = EvaluationView(self._frames[split])
        return self._loader(view, batch_size=self._eval_batch_size, sampler=UnpaddedSampler(len(view), *self._place()))

    def _place(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            num_workers=self._num_workers,
            collate_fn=collate,
            worker_init_fn=_single_thread,
            persistent_workers=self._num_workers > 0,
            pin_memory=bool(self.trainer) and self.trainer.strategy.root_device.type == "cuda",
            **options,
        )


def _single_thread(worker: int) -> None:
    """OpenCV's threads do not survive a fork, and workers are the parallelism."""
    cv2.setNumThreads(0)


def _check_counts(**counts: tuple[int, int]) -> None:
    for name, (value, least) in counts.items():
        if value < least:
            raise ConfigError(f"data.{name} is {value}; use at least {least}")


def _check_options(dataset: str, options: Mapping[str, Any]) -> None:
    known = DATASETS[dataset].options
    for name in options:
        if name not in known:
            raise ConfigError(
                f"dataset '{dataset}' has no option '{name}' (data.options); it has {', '.join(known) or 'none'}"
            )
