"""Augmentation and centre crops for classification, on timm's and torchvision's transforms."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import Compose

from roadseg.errors import ConfigError

ImageTransform = Callable[[Image.Image], Tensor]
"""From an RGB image to a tensor (3, S, S) uint8."""

_CENTRE_SHARE = 224 / 256
"""Side of the centre crop by the image's short side: the authors resize to 256 px and cut 224 px."""


class NoiseErasing:
    """Fills a random rectangle with noise (arXiv 1708.04896), in an image of 0..255.

    timm draws the noise from a standard normal distribution, because it erases in normalised images; the networks here
    normalise by themselves. So the image is normalised, erased and brought back, rounded and clipped to bytes: the rest
    of the image comes back exactly, and the noise has ImageNet's mean and deviation, but for the clipping.

    Args:
        probability: of erasing an image.
    """

    def __init__(self, probability: float) -> None:
        self._erase = RandomErasing(probability, mode="pixel", device="cpu")
        self._mean = 255 * torch.tensor(IMAGENET_DEFAULT_MEAN).view(3, 1, 1)
        self._std = 255 * torch.tensor(IMAGENET_DEFAULT_STD).view(3, 1, 1)

    def __call__(self, image: Tensor) -> Tensor:
        """An image (3, H, W) uint8 to the same."""
        erased = self._erase((image - self._mean) / self._std)
        return (erased * self._std + self._mean).round_().clamp_(0, 255).to(torch.uint8)


def train_transform(
    image_size: int,
    crop_scale: tuple[float, float],
    flip: float,
    rand_augment: str | None,
    colour_jitter: float,
    random_erasing: float,
) -> ImageTransform:
    """Random resized crop, flip, RandAugment or else colour jitter, and random erasing, in the authors' order.

    Args:
        image_size: side of the crop in px.
        crop_scale: smallest and largest share of the image's area that is cut out.
        flip: probability of a horizontal flip.
        rand_augment: timm's name of a RandAugment policy; None for none.
        colour_jitter: strength of brightness, contrast and saturation; used only without RandAugment, as timm does.
        random_erasing: probability of erasing a rectangle.

    Raises:
        ConfigError: when a value cannot work.
    """
    _check_values(crop_scale, flip, colour_jitter, random_erasing)
    if rand_augment is not None and not rand_augment.startswith("rand-"):
        raise ConfigError(_unknown_policy(rand_augment))
    try:
        transform = create_transform(
            image_size,
            is_training=True,
            scale=crop_scale,
            hflip=flip,
            auto_augment=rand_augment,
            color_jitter=colour_jitter,
            interpolation="bicubic",
            normalize=False,
        )
    except (AssertionError, ValueError, KeyError) as error:  # timm asserts what it reads from the name
        raise ConfigError(_unknown_policy(rand_augment)) from error
    return Compose([*transform.transforms, NoiseErasing(random_erasing)])


def evaluation_transform(image_size: int) -> ImageTransform:
    """The centre of the image, (3, image_size, image_size), after its short side is resized to 256 / 224 of that."""
    return create_transform(image_size, crop_pct=_CENTRE_SHARE, interpolation="bicubic", normalize=False)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` in a block: timm and torchvision use the global generators of Python, NumPy and torch.

    Their states are put back behind the block, so that a loader in the training process disturbs nothing.
    """
    with isolate_rng(include_cuda=False):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        yield


def _check_values(crop_scale: tuple[float, float], flip: float, colour_jitter: float, random_erasing: float) -> None:
    if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
        raise ConfigError(f"data.crop_scale is {list(crop_scale)}; use [smallest, largest], shares of the area up to 1")
    for name, value in (("flip", flip), ("random_erasing", random_erasing)):
        if not 0 <= value <= 1:
            raise ConfigError(f"data.{name} is {value}; use a probability, 0 to 1")
    if not 0 <= colour_jitter <= 1:
        raise ConfigError(f"data.colour_jitter is {colour_jitter}; use a strength, 0 to 1")


def _unknown_policy(name: str | None) -> str:
    return f"data.rand_augment is '{name}'; use a policy of timm such as rand-m9-mstd0.5-inc1, or null for none"
