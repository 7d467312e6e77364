"""Augmentation of training frames, with albumentations."""

import os

# albumentations asks a registry for updates when it is imported, unless this is set before.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2

from roadseg.errors import ConfigError
from roadseg.models.segmenter import IMAGENET_MEAN
from roadseg.taxonomy import IGNORE_INDEX


def train_transform(
    crop_size: tuple[int, int], scale_range: tuple[float, float] = (0.5, 2.0), photometric: float = 1.0
) -> A.Compose:
    """Random scale, crop, horizontal flip and photometric distortion.

    Frames smaller than the crop are padded with the mean colour, their masks with the ignore id (albumentations' own
    default would be class 0).

    Args:
        crop_size: (height, width) in px.
        scale_range: smallest and largest factor of the frame's size.
        photometric: strength of the colour changes; 0 leaves them out, 1 is a good default.

    Returns:
        A pipeline called with `image=` (H, W, 3) uint8 RGB and `mask=` (H, W) uint8.

    Raises:
        ConfigError: when a size or range cannot work.
    """
    _check(crop_size, scale_range, photometric)
    fill = tuple(round(value) for value in IMAGENET_MEAN)
    geometric = [
        A.RandomScale(
            (scale_range[0] - 1, scale_range[1] - 1),
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            area_for_downscale="image",
            p=1.0,
        ),
        A.RandomCrop(*crop_size, pad_if_needed=True, pad_position="random", fill=fill, fill_mask=IGNORE_INDEX, p=1.0),
        A.HorizontalFlip(p=0.5),
    ]
    return A.Compose([*geometric, *_photometric(photometric)])


def _photometric(strength: float) -> list[A.BasicTransform]:
    if strength == 0:
        return []
    factor = min(0.4 * strength, 0.9)
    return [
        A.ColorJitter(
            (1 - factor, 1 + factor), (1 - factor, 1 + factor), (1 - factor, 1 + factor), (-0.05, 0.05), p=0.8
        ),
        A.RandomGamma((int(100 - 30 * strength), int(100 + 40 * strength)), p=0.3),
        A.OneOf([A.GaussianBlur((3, 5), p=1.0), A.GaussNoise((0.01, 0.05), p=1.0)], p=0.2),
    ]


def _check(crop_size: tuple[int, int], scale_range: tuple[float, float], photometric: float) -> None:
    if len(crop_size) != 2 or not 32 <= min(crop_size) <= max(crop_size) <= 8192:
        raise ConfigError(f"crop_size is {list(crop_size)}; use [height, width] in px, each 32 to 8192")
    if len(scale_range) != 2 or not 0.1 <= scale_range[0] <= scale_range[1] <= 10:
        raise ConfigError(f"scale_range is {list(scale_range)}; use [smallest, largest], both 0.1 to 10")
    if not 0 <= photometric <= 2:
        raise ConfigError(f"photometric is {photometric}; use 0 for none, 1 for the default strength, at most 2")
