"""Datasets as the data loader sees them: tensors in a dict."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, default_collate

from roadseg.data.crops import Window, choose_window, find_pixel, fit_image, fit_mask
from roadseg.data.mapped import MaskedFrames
from roadseg.data.mixing import Sample, choose_half, choose_objects, paste
from roadseg.data.sampling import SampleKey, derive_seed
from roadseg.data.transforms import Augmentation, distort
from roadseg.errors import ConfigError, DataError
from roadseg.images import read_image
from roadseg.label_sets import LabelSets


@runtime_checkable
class PartialFrames(Protocol):
    """Frames that can read a part of an image or of a mask for less than the whole."""

    def read_image_part(self, index: int, box: tuple[int, int, int, int], reduction: int = 1) -> npt.NDArray[np.uint8]:
        """Part (top, left, bottom, right) of an image, (h, w, 3) uint8; see `roadseg.jpeg_parts.read_image_part`."""
        ...

    def read_mask_part(
        self, index: int, size: tuple[int, int], box: tuple[int, int, int, int]
    ) -> npt.NDArray[np.uint8]:
        """Part (top, left, bottom, right) of a mask, (h, w) uint8 of set ids."""
        ...


class TrainView(Dataset[dict[str, Any]]):
    """Augmented crops. Everything random about a sample follows from its key's seed.

    Args:
        frames: the frames.
        augmentation: how samples are made from them.
        seed: of the run; used for plain indices only, which come from tools that bring their own sampler.

    Raises:
        ConfigError: when the augmentation names a class that the taxonomy does not have.
    """

    def __init__(self, frames: MaskedFrames, augmentation: Augmentation, seed: int) -> None:
        self._frames, self._augmentation, self._seed = frames, augmentation, seed
        sets, flips = frames.label_sets, frames.label_sets.flip_table
        self._rare = _set_ids("rare_classes", augmentation.rare_classes, sets)
        self._mixed = _set_ids("mix_classes", augmentation.mix_classes, sets)
        self._flips = None if np.array_equal(flips, np.arange(256)) else flips

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._frames)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """One augmented sample: image (3, h, w) uint8, mask (h, w) uint8 of set ids, name.

        Raises:
            DataError: when a frame is broken.
            ImageError: when its image is.
        """
        frame, seed = key if isinstance(key, SampleKey) else (key, derive_seed(self._seed, 0, key))
        rng = np.random.default_rng(seed)
        image, mask = self._mix(self._crop(frame, rng), rng)
        image = distort(image, self._augmentation.photometric, rng)
        return _sample(image, mask, self._frames.name(frame))

    def _crop(self, frame: int, rng: np.random.Generator) -> Sample:
        frames, options = self._frames, self._augmentation
        size = frames.image_size(frame)
        scale = frames.scale(frame, size) * rng.uniform(*options.scale_range)
        wanted = rng.random() < options.rare_probability
        whole = frames.read_mask(frame, size) if wanted else None
        pixel = None if whole is None else find_pixel(whole, self._rare, rng)
        window = choose_window(size, scale, options.crop_size, rng, pixel)
        labels = self._read_labels(frame, size, window) if whole is None else window.cut(whole)
        image = fit_image(self._read_part(frame, size, window), window, options.crop_size)
        mask = fit_mask(labels, window, options.crop_size)
        return self._flip(image, mask) if rng.random() < 0.5 else (image, mask)

    def _read_labels(self, frame: int, size: tuple[int, int], window: Window) -> npt.NDArray[np.uint8]:
        if isinstance(self._frames, PartialFrames):
            return self._frames.read_mask_part(frame, size, window.box)
        return window.cut(self._frames.read_mask(frame, size))

    def _read_part(self, frame: int, size: tuple[int, int], window: Window) -> npt.NDArray[np.uint8]:
        if isinstance(self._frames, PartialFrames):
            return self._frames.read_image_part(frame, window.box, window.reduction)
        image = self._frames.read_image(frame, window.reduction)
        return window.cut(image, _reduction(image, size, window, self._frames.name(frame)))

    def _flip(self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> Sample:
        image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)
        return image, mask if self._flips is None else cv2.LUT(mask, self._flips)

    def _mix(self, sample: Sample, rng: np.random.Generator) -> Sample:
        options = self._augmentation
        if options.mix == "none" or rng.random() >= options.mix_probability:
            return sample
        other = self._crop(int(rng.integers(len(self))), rng)
        where = choose_half(other[1], rng) if options.mix == "classmix" else choose_objects(other[1], self._mixed, rng)
        return paste(sample, other, where)


class EvaluationView(Dataset[dict[str, Any]]):
    """Whole frames: images at the scale that the frames ask for, masks as they are.

    Args:
        frames: the frames.
    """

    def __init__(self, frames: MaskedFrames) -> None:
        self._frames = frames

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._frames)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One frame: image (3, h, w) uint8, mask (H, W) uint8 of set ids at the file's own size, name.

        Raises:
            DataError: when the frame is broken.
            ImageError: when its image is.
        """
        image = self._frames.read_image(index)
        size = (image.shape[0], image.shape[1])
        mask = self._frames.read_mask(index, size)
        return _sample(resize_image(image, self._frames.scale(index, size)), mask, self._frames.name(index))


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


def resize_image(image: npt.NDArray[np.uint8], scale: float) -> npt.NDArray[np.uint8]:
    """An image (H, W, 3) uint8 times a factor: shrunk by the mean over areas, enlarged linearly, untouched at 1."""
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples to a batch: image (B, 3, H, W) uint8, mask (B, H, W) uint8 if there, name list of str.

    Raises:
        DataError: when the sizes differ.
    """
    keys = [key for key in ("image", "mask") if key in samples[0]]
    for key in keys:
        sizes = {tuple(sample[key].shape[-2:]) for sample in samples}
        if len(sizes) > 1:
            raise DataError(f"frames of sizes {sorted(sizes)} do not fit into one batch; set data.eval_batch_size to 1")
    stacked = default_collate([{key: sample[key] for key in keys} for sample in samples])
    return {**stacked, "name": [sample["name"] for sample in samples]}


def _sample(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], name: str) -> dict[str, Any]:
    return {"image": _channels_first(image), "mask": torch.from_numpy(np.ascontiguousarray(mask)), "name": name}


def _channels_first(image: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.stack(cv2.split(image)))  # three times as fast as a transposed copy


def _set_ids(field: str, names: Sequence[str], sets: LabelSets) -> list[int]:
    """Of the classes, and of merged sets that hold no others: signs and lights in one label, where both are named."""
    taxonomy = sets.taxonomy
    for name in names:
        if name not in taxonomy.names:
            raise ConfigError(
                f"data.{field}: no class '{name}' in taxonomy '{taxonomy.name}'; it has {', '.join(taxonomy.names)}"
            )
    named = {taxonomy.id_of(name) for name in names}
    found = [i for i, members in enumerate(sets.members) if named.issuperset(members)]
    if partly := [sets.names[i] for i, members in enumerate(sets.members) if i not in found and named & set(members)]:
        warnings.warn(
            f"data.{field}: {', '.join(names)} will not be found under the merged labels {', '.join(partly)}; name the "
            "other classes of those too, if they shall be",
            stacklevel=2,
        )
    return found


def _reduction(image: npt.NDArray[np.uint8], size: tuple[int, int], window: Window, name: str) -> int:
    """The part of its sides at which an image was decoded: the one asked for, or 1 for formats that cannot do this."""
    if image.shape[:2] == size:
        return 1
    asked = (-(-size[0] // window.reduction), -(-size[1] // window.reduction))
    if image.shape[:2] == asked:
        return window.reduction
    raise DataError(
        f"frame {name} is {size[1]}x{size[0]} (width x height), says its header, but was read as "
        f"{image.shape[1]}x{image.shape[0]} where {asked[1]}x{asked[0]} was asked for; write the image again"
    )
