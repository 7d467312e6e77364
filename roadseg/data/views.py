"""Datasets as the data loader sees them: tensors in a dict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import albumentations as A
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from roadseg.data.sampling import SampleKey, derive_seed
from roadseg.errors import DataError
from roadseg.images import read_image
from roadseg.taxonomy import Taxonomy


class RoadDataset(Protocol):
    """What a dataset offers to the data module."""

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the masks."""
        ...

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], str]:
        """Image (H, W, 3) uint8 RGB, mask (H, W) uint8 with 255 ignored, and name."""
        ...

    def verify(self) -> None:
        """Raise a DataError when frames are broken."""
        ...


class TrainView(Dataset[dict[str, Any]]):
    """Augmented frames.

    Args:
        frames: the dataset.
        transform: an albumentations pipeline; it is seeded anew for every sample.
        seed: of the run; used for plain indices only, which come from tools that bring their own sampler.
    """

    def __init__(self, frames: RoadDataset, transform: A.Compose, seed: int) -> None:
        self._frames, self._transform, self._seed = frames, transform, seed

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._frames)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """One augmented sample: image (3, h, w) uint8, mask (h, w) int64, name."""
        frame, seed = key if isinstance(key, SampleKey) else (key, derive_seed(self._seed, 0, key))
        image, mask, name = self._frames[frame]
        # A pipeline's own generator is copied into every worker and starts over each epoch; see sampling.py.
        self._transform.set_random_seed(seed)
        augmented = self._transform(image=image, mask=mask)
        return _sample(augmented["image"], augmented["mask"], name)


class EvaluationView(Dataset[dict[str, Any]]):
    """Whole frames as they are."""

    def __init__(self, frames: RoadDataset) -> None:
        self._frames = frames

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One frame: image (3, H, W) uint8, mask (H, W) int64, name."""
        return _sample(*self._frames[index])


class ImageView(Dataset[dict[str, Any]]):
    """Images without masks."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One image (3, H, W) uint8, and its path as name."""
        pixels = read_image(self._paths[index]).pixels
        return {"image": _channels_first(pixels), "name": str(self._paths[index])}


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples to a batch: image (B, 3, H, W) uint8, mask (B, H, W) int64 if there, name list of str.

    Raises:
        DataError: when the sizes differ.
    """
    sizes = {tuple(sample["image"].shape[1:]) for sample in samples}
    if len(sizes) > 1:
        raise DataError(f"frames of sizes {sorted(sizes)} do not fit into one batch; set data.eval_batch_size to 1")
    batch: dict[str, Any] = {
        key: torch.stack([s[key] for s in samples]) for key in ("image", "mask") if key in samples[0]
    }
    return {**batch, "name": [sample["name"] for sample in samples]}


def _sample(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], name: str) -> dict[str, Any]:
    return {"image": _channels_first(image), "mask": torch.from_numpy(mask.astype(np.int64)), "name": name}


def _channels_first(image: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
