"""The data module: from the names of datasets to the loaders that Lightning runs."""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Dataset

from roadseg.audit.waivers import Waivers
from roadseg.data.assignment import count_frames, shared_drives
from roadseg.data.dataset_config import DatasetConfig, check_configs, dataset_config, native_taxonomy
from roadseg.data.mapped import MixedFrames
from roadseg.data.mixture import OpenedData, label_sets_of, open_data, tables_of
from roadseg.data.sampling import EpochSampler, Part, UnpaddedSampler
from roadseg.data.splitting import DriveSplit, read_split
from roadseg.data.transforms import Augmentation, Mix
from roadseg.data.views import EvaluationView, ImageView, TrainView, collate
from roadseg.data.workers import prepare_worker
from roadseg.errors import ConfigError, DataError
from roadseg.images import find_images
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy


class RoadDataModule(LightningDataModule):
    """Loaders of one road dataset, or of several as one.

    Batches are dicts: `image` (B, 3, H, W) uint8 RGB, `mask` (B, H, W) of set ids with 255 ignored, `name` list of str.
    Masks leave the loaders as uint8 and are int64 where Lightning hands them to the model.

    Args:
        dataset: the one dataset, if `datasets` names none.
        root: the data root; null is $ROADSEG_DATA if set, else ./data.
        options: options of the one dataset; synthetic has train_frames, val_frames, size and seed.
        datasets: the datasets that are trained on together, each with the settings of `DatasetConfig`.
        taxonomy: name or file of the classes; null is the datasets' own.
        hold_out: drives to validate on; null keeps the published splits, [] trains on every frame and validates on
            none.
        split_file: the drives to hold out, as `roadseg data split` writes them.
        waive: findings of the audit that are known and accepted, for example leak-drive:0016E5.
        batch_size: frames a training step and process.
        eval_batch_size: frames a validation or test step; above 1 they must have one size.
        crop_size: (height, width) of training crops in px.
        scale_range: smallest and largest random scale of training frames.
        photometric: strength of the colour augmentation; 0 is none.
        rare_classes: classes that `rare_probability` is for.
        rare_probability: part of the training crops that are made to contain one of `rare_classes`, where the frame
            does. Merged labels count where all their classes are named; so it is for `mix_classes`.
        mix: none, classmix (half of the classes of a second frame pasted over the first) or copy_paste (`mix_classes`
            of it).
        mix_probability: part of the training crops that are mixed.
        mix_classes: classes that copy_paste pastes.
        verify_frames: frames of each dataset and split that are read before anything else, spread evenly over it, so
            that broken data stops the run now; null reads all. `roadseg data audit` looks deeper.
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
        datasets: list[dict[str, Any]] | None = None,
        taxonomy: str | None = None,
        hold_out: list[str] | None = None,
        split_file: str | None = None,
        waive: list[str] | None = None,
        batch_size: int = 8,
        eval_batch_size: int = 1,
        crop_size: tuple[int, int] = (320, 416),
        scale_range: tuple[float, float] = (0.5, 2.0),
        photometric: float = 1.0,
        rare_classes: list[str] | None = None,
        rare_probability: float = 0.0,
        mix: Mix = "none",
        mix_probability: float = 0.5,
        mix_classes: list[str] | None = None,
        verify_frames: int | None = 2000,
        num_workers: int = 2,
        predict_images: list[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_counts(batch_size=(batch_size, 1), eval_batch_size=(eval_batch_size, 1), num_workers=(num_workers, 0))
        _check_counts(verify_frames=(0 if verify_frames is None else verify_frames, 0))
        self.configs = _one_or_many(dataset, options, datasets)
        """The datasets."""
        self.root, self.waive = root, list(waive or [])
        Waivers(self.waive)  # refuses those that name no check
        self.drives = _held_out(hold_out, split_file)
        self._batch_size, self._eval_batch_size, self._num_workers = batch_size, eval_batch_size, num_workers
        self.augmentation = Augmentation(
            crop_size=crop_size,
            scale_range=scale_range,
            photometric=photometric,
            rare_classes=tuple(rare_classes or ()),
            rare_probability=rare_probability,
            mix=mix,
            mix_probability=mix_probability,
            mix_classes=tuple(mix_classes or ()),
        )
        self._verify_frames, self._predict_images, self.seed = verify_frames, predict_images, seed
        self.taxonomy = load_taxonomy(taxonomy or native_taxonomy(self.configs))
        """The classes."""
        self._opened: OpenedData | None = None
        self._begun = (0, 0)

    @cached_property
    def label_sets(self) -> LabelSets:
        """Meaning of the ids in masks."""
        return label_sets_of(tables_of(self.configs, self.root, self.taxonomy), self.taxonomy)

    def open(self) -> OpenedData:
        """The frames of every split, opened once.

        Raises:
            DataError: when data is missing or broken.
            ConfigError: when an option of a dataset has a value that cannot work.
        """
        if self._opened is None:
            self._opened = open_data(self.configs, self.root, self.label_sets, self.drives)
        return self._opened

    def setup(self, stage: str) -> None:
        """Open the splits that `stage` needs, and read some of their frames, so that a broken one stops the run now.

        Raises:
            DataError: when data is missing or broken.
            ConfigError: when an option of a dataset has a value that cannot work.
        """
        fitted = ("train",) if self._trains_on_all else ("train", "val")
        for split in {"fit": fitted, "validate": ("val",), "test": ("test",)}.get(stage, ()):
            self.frames(split).verify(self._verify_frames)
        if stage == "fit":
            self._warn_of_leaks()

    def frames(self, split: str) -> MixedFrames:
        """The frames of a split, of all datasets.

        Raises:
            DataError: when there are none.
        """
        frames = MixedFrames(self.open().splits[split])
        if not len(frames):
            named = ", ".join(config.dataset for config in self.configs)
            raise DataError(
                f"{named}: no frame belongs to the split '{split}'; hold drives out by data.hold_out or "
                "data.split_file, or check data.datasets[].splits"
            )
        return frames

    @property
    def _trains_on_all(self) -> bool:
        return self.drives is not None and not self.drives.val

    def train_view(self) -> TrainView:
        """The training frames as the network sees them."""
        return TrainView(self.frames("train"), self.augmentation, self.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented crops, shuffled; an incomplete last batch is left out.

        Raises:
            ConfigError: when there are fewer frames than a batch holds.
        """
        view, (rank, world_size) = self.train_view(), self._place()
        sampler = EpochSampler(len(view), self.seed, rank, world_size, self._parts())
        epoch, batches = self._begun
        if batches >= len(sampler) // self._batch_size:  # the epoch's last batch was trained on, and it was not ended
            epoch, batches = epoch + 1, 0
        sampler.set_epoch(epoch)
        sampler.skip(epoch, batches * self._batch_size)
        if len(sampler) < self._batch_size:
            raise ConfigError(
                f"batch_size is {self._batch_size}, but a process has only {len(sampler)} training frames; lower "
                "data.batch_size"
            )
        return self._loader(view, batch_size=self._batch_size, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Whole validation frames, each once; no loader where all frames are trained on."""
        return [] if self._trains_on_all else self._evaluation_loader("val")

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

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Make masks int64 where the network is: as uint8 they reach it in an eighth of the memory."""
        return {**batch, "mask": batch["mask"].long()} if "mask" in batch else batch

    def describe(self) -> dict[str, Any]:
        """The data and its augmentation in plain values, for the provenance of a model."""
        splits = self._opened.splits if self._opened else {}
        return {
            "datasets": [asdict(config) for config in self.configs],
            "held_out": asdict(self.drives) if self.drives else None,
            "frames": {split: count_frames([part.source for part in parts]) for split, parts in splits.items()},
            "batch_size": self._batch_size,
            "augmentation": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.augmentation).items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """Where a run that is resumed goes on: the epoch, and the batches of it that were trained on.

        Lightning tells the sampler the epoch only when loading processes have begun to read ahead, and never the
        batches.
        """
        if not self.trainer:
            return {}
        loop = self.trainer.fit_loop
        epoch = loop.epoch_progress.current
        under_way = epoch.ready > epoch.processed
        return {
            "epoch": epoch.processed,
            "batches": loop.epoch_loop.batch_progress.current.processed if under_way else 0,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up epoch and batches, before the loaders are made."""
        self._begun = int(state_dict.get("epoch", 0)), int(state_dict.get("batches", 0))

    def _parts(self) -> list[Part]:
        """What each dataset gives to a training epoch."""
        parts = zip(self.open().splits["train"], self.configs, strict=True)
        return [Part(len(p), config.weight, getattr(p.source, "blocks", None)) for p, config in parts if len(p)]

    def _warn_of_leaks(self) -> None:
        """Say which drives are both trained on and scored on; scores of such a split flatter."""
        splits, waivers = self.open().splits, Waivers(self.waive)
        names = [part.source.name for part in splits["train"]]
        for split in ("val", "test"):
            for (collection, drive), (train, held) in shared_drives(splits["train"], splits[split]).items():
                if waivers.match("leak-drive", [drive, f"{collection}/{drive}", split, *names]) is None:
                    rank_zero_warn(
                        f"drive {drive} has {train} training and {held} {split} frames, so that the {split} score "
                        "flatters; hold whole drives out (data.hold_out), or accept it: "
                        f"data.waive [leak-drive:{drive}]"
                    )

    def _evaluation_loader(self, split: str) -> DataLoader[Any]:
        view = EvaluationView(self.frames(split))
        return self._loader(view, batch_size=self._eval_batch_size, sampler=UnpaddedSampler(len(view), *self._place()))

    def _place(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            num_workers=self._num_workers,
            collate_fn=collate,
            worker_init_fn=prepare_worker,
            persistent_workers=self._num_workers > 0,
            pin_memory=bool(self.trainer) and self.trainer.strategy.root_device.type == "cuda",
            **options,
        )


def _check_counts(**counts: tuple[int, int]) -> None:
    for name, (value, least) in counts.items():
        if value < least:
            raise ConfigError(f"data.{name} is {value}; use at least {least}")


def _one_or_many(
    dataset: str, options: dict[str, Any] | None, datasets: list[dict[str, Any]] | None
) -> list[DatasetConfig]:
    if datasets is not None and options:
        raise ConfigError("data.options is for the one data.dataset; with data.datasets give each its own options")
    if datasets is None:
        configs = [DatasetConfig(dataset, options=options or {})]
    else:
        configs = [dataset_config(f"data.datasets[{i}]", settings) for i, settings in enumerate(datasets)]
    check_configs(configs)
    return configs


def _held_out(hold_out: list[str] | None, split_file: str | None) -> DriveSplit | None:
    if hold_out is not None and split_file is not None:
        raise ConfigError("data.hold_out and data.split_file both say what to hold out; give one of them")
    if split_file is not None:
        return read_split(Path(split_file))
    return None if hold_out is None else DriveSplit(tuple(hold_out))
