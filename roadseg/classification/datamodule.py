"""The data module of classification: from a folder of class folders to the loaders that Lightning runs."""

from typing import Any

from lightning.pytorch import LightningDataModule
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from roadseg.classification.folder import ClassFolders, class_folders
from roadseg.classification.transforms import ImageTransform, evaluation_transform, seeded, train_transform
from roadseg.data.root import data_root
from roadseg.data.sampling import EpochSampler, SampleKey, UnpaddedSampler, derive_seed
from roadseg.errors import ConfigError


class ImageFolderDataModule(LightningDataModule):
    """Loaders of images sorted into class folders: train/CLASS/NAME.jpg and val/CLASS/NAME.jpg.

    Batches are dicts: `image` (B, 3, S, S) uint8 RGB, `label` (B,) int64 class ids, `name` list of paths.

    Args:
        dataset: folder that holds train and val, below the data root, or an absolute path.
        root: the data root; null is $ROADSEG_DATA if set, else ./data.
        image_size: side S of the crops in px.
        total_batch_size: images of an optimizer step, over all processes and accumulated batches together.
        eval_batch_size: images of a validation step and process.
        crop_scale: smallest and largest share of an image's area in a training crop.
        flip: probability of a horizontal flip.
        rand_augment: timm's name of a RandAugment policy; null for none.
        colour_jitter: strength of brightness, contrast and saturation; used only where rand_augment is null.
        random_erasing: probability of filling a rectangle with noise.
        num_workers: processes that load data, for each training process; 0 loads in the training process.
        verify: read every image once before training, so that a broken one stops the run now rather than in an epoch.
        seed: of shuffling and augmentation; the command line takes it from seed_everything.

    Raises:
        ConfigError: when a value cannot work.
        DataError: when there are no class folders.
    """

    def __init__(
        self,
        dataset: str = "imagenet",
        root: str | None = None,
        image_size: int = 224,
        total_batch_size: int = 1024,
        eval_batch_size: int = 128,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        flip: float = 0.5,
        rand_augment: str | None = "rand-m9-mstd0.5-inc1",
        colour_jitter: float = 0.4,
        random_erasing: float = 0.25,
        num_workers: int = 8,
        verify: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_at_least(1, total_batch_size=total_batch_size, eval_batch_size=eval_batch_size)
        _check_at_least(32, image_size=image_size)  # the backbones' deepest stride
        _check_at_least(0, num_workers=num_workers)
        self._dataset, self._folder = dataset, data_root(root) / dataset
        self._total_batch_size, self._eval_batch_size = total_batch_size, eval_batch_size
        self._num_workers, self._verify, self._seed = num_workers, verify, seed
        self._augmentation: dict[str, Any] = {
            "image_size": image_size,
            "crop_scale": crop_scale,
            "flip": flip,
            "rand_augment": rand_augment,
            "colour_jitter": colour_jitter,
            "random_erasing": random_erasing,
        }
        self._transforms = {"train": train_transform(**self._augmentation), "val": evaluation_transform(image_size)}
        # To score a checkpoint the validation images are enough.
        split = "train" if (self._folder / "train").is_dir() or not (self._folder / "val").is_dir() else "val"
        self.class_names = class_folders(self._folder / split)
        """The classes, in the order of their ids."""
        self._images: dict[str, ClassFolders] = {}
        self._first_epoch = 0

    def setup(self, stage: str) -> None:
        """Find the images of the splits that `stage` needs.

        Raises:
            DataError: when there are none, the classes of the splits differ, or an image is broken and `verify` is set.
        """
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ()):
            if split not in self._images:
                images = ClassFolders(self._folder / split, self.class_names)
                if self._verify:
                    images.verify()
                self._images[split] = images

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented crops, shuffled, in whole optimizer steps; the images left over rotate with the shuffle.

        Raises:
            ConfigError: when the processes cannot share a batch evenly, or there are fewer images than it holds.
        """
        images, (rank, world_size), accumulated = self._images["train"], self._place(), self._accumulated()
        batch_size = process_batch_size(self._total_batch_size, world_size, accumulated)
        if len(images) < self._total_batch_size:
            raise ConfigError(
                f"data.total_batch_size is {self._total_batch_size}, but there are only {len(images)} training images; "
                "lower it"
            )
        sampler = WholeStepSampler(len(images), self._seed, rank, world_size, step=batch_size * accumulated)
        sampler.set_epoch(self._first_epoch)
        view = ClassificationView(images, self._transforms["train"], self._seed)
        return self._loader(view, batch_size=batch_size, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Centre crops of the validation images, each once."""
        view = ClassificationView(self._images["val"], self._transforms["val"])
        sampler = UnpaddedSampler(len(view), *self._place())
        return self._loader(view, batch_size=self._eval_batch_size, sampler=sampler)

    def describe(self) -> dict[str, Any]:
        """The data and its augmentation in plain values, for the provenance of a model."""
        return {
            "dataset": self._dataset,
            "images": {split: len(images) for split, images in self._images.items()},
            "total_batch_size": self._total_batch_size,
            **self._augmentation,
            "crop_scale": list(self._augmentation["crop_scale"]),
        }

    def state_dict(self) -> dict[str, Any]:
        """The epoch with which a run that is resumed begins.

        Lightning tells the sampler only when loading processes have begun to read ahead, for epoch 0.
        """
        return {"epoch": self.trainer.fit_loop.epoch_progress.current.processed} if self.trainer else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the epoch, before the loaders are made."""
        self._first_epoch = int(state_dict.get("epoch", 0))

    def _place(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _accumulated(self) -> int:
        """Batches whose gradients a process adds up for one optimizer step."""
        return self.trainer.accumulate_grad_batches if self.trainer else 1

    def _loader(self, dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            num_workers=self._num_workers,
            persistent_workers=self._num_workers > 0,
            pin_memory=bool(self.trainer) and self.trainer.strategy.root_device.type == "cuda",
            **options,
        )


class ClassificationView(Dataset[dict[str, Any]]):
    """Images as the data loader sees them: tensors in a dict.

    Args:
        images: the images of a split.
        transform: from an RGB image to (3, S, S) uint8.
        seed: of the run; used for plain indices only, which carry no seed of their own.
    """

    def __init__(self, images: ClassFolders, transform: ImageTransform, seed: int = 0) -> None:
        self._images, self._transform, self._seed = images, transform, seed

    def __len__(self) -> int:
        """Number of images."""
        return len(self._images)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """One sample: image (3, S, S) uint8, label, name."""
        index, seed = key if isinstance(key, SampleKey) else (key, derive_seed(self._seed, 0, key))
        pixels, label, name = self._images[index]
        with seeded(seed):
            image = self._transform(Image.fromarray(pixels))
        return {"image": image, "label": label, "name": name}


class WholeStepSampler(EpochSampler):
    """An `EpochSampler` whose epochs are whole optimizer steps.

    Otherwise the last step of an epoch would be taken on fewer accumulated batches than the others.

    Args:
        length: images in the dataset.
        seed: of the run.
        rank: of this process.
        world_size: processes that train together.
        step: images that this process adds to an optimizer step.
    """

    def __init__(self, length: int, seed: int, rank: int, world_size: int, *, step: int) -> None:
        super().__init__(length, seed, rank, world_size)
        self._step = step

    def __len__(self) -> int:
        """Images of this rank."""
        return super().__len__() // self._step * self._step


def process_batch_size(total: int, world_size: int, accumulated: int) -> int:
    """Images of one batch of one process.

    Args:
        total: images of an optimizer step.
        world_size: processes that train together.
        accumulated: batches that each adds up for the step.

    Raises:
        ConfigError: when they cannot share the step evenly.
    """
    batches = world_size * accumulated
    if total % batches:
        raise ConfigError(
            f"data.total_batch_size is {total}, which does not divide by {batches} (processes x accumulated "
            f"batches: {world_size} x {accumulated}); use a multiple of {batches}, or other trainer.devices or "
            "trainer.accumulate_grad_batches"
        )
    return total // batches


def _check_at_least(least: int, **counts: int) -> None:
    for name, value in counts.items():
        if value < least:
            raise ConfigError(f"data.{name} is {value}; use at least {least}")
