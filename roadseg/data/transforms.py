"""What is random about training samples, and the changes of their colours.

The colour changes follow the laws of albumentations' ColorJitter, RandomGamma, GaussianBlur and GaussNoise, as affine
maps of the colours instead of look-ups and copies: results differ by about a grey level, in a third of the time.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.errors import ConfigError

Mix = Literal["none", "classmix", "copy_paste"]
"""How a second frame is mixed into a sample; see `roadseg.data.mixing`."""

_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training samples are made from frames.

    Attributes:
        crop_size: (height, width) of samples in px.
        scale_range: smallest and largest random factor of a frame's size.
        photometric: strength of the colour changes; 0 leaves them out, 1 is a good default.
        rare_classes: names of classes that crops are sought for; merged labels where all their classes are named.
        rare_probability: with which a crop is laid around a pixel of a rare class, in frames that have one.
        mix: "classmix" pastes half of the classes of a second frame's crop, "copy_paste" objects of `mix_classes`.
        mix_probability: with which a sample is mixed.
        mix_classes: names of the classes that copy_paste takes objects of, merged labels likewise.

    Raises:
        ConfigError: when a value cannot work.
    """

    crop_size: tuple[int, int] = (320, 416)
    scale_range: tuple[float, float] = (0.5, 2.0)
    photometric: float = 1.0
    rare_classes: tuple[str, ...] = ()
    rare_probability: float = 0.0
    mix: Mix = "none"
    mix_probability: float = 0.5
    mix_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the values; lists, as YAML has them, become tuples."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        _check_geometry(self.crop_size, self.scale_range)
        _check_number("photometric", self.photometric, 2, "use 0 for none, 1 for the default strength, at most 2")
        for name in ("rare_probability", "mix_probability"):
            _check_number(name, getattr(self, name), 1, "use a probability, 0 to 1")
        for name in ("rare_classes", "mix_classes"):
            _check_names(name, getattr(self, name))
        if self.rare_probability > 0 and not self.rare_classes:
            raise ConfigError(
                f"data.rare_probability is {self.rare_probability}, but data.rare_classes names no class; name some"
            )
        if self.mix not in get_args(Mix):
            raise ConfigError(f"data.mix is {self.mix!r}; use one of {', '.join(get_args(Mix))}")
        if self.mix == "copy_paste" and not self.mix_classes:
            raise ConfigError("data.mix is copy_paste, but data.mix_classes names no class; name those to paste")


def distort(image: npt.NDArray[np.uint8], strength: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Change brightness, contrast, saturation, hue and gamma, blur, or add noise, each at random.

    Args:
        image: (H, W, 3) uint8 RGB.
        strength: 0 changes nothing, 1 is a good default.
        rng: what is random.

    Returns:
        (H, W, 3) uint8 RGB; the image itself when nothing changes.
    """
    if strength == 0:
        return image
    if rng.random() < 0.8:
        image = _jitter(image, min(0.4 * strength, 0.9), rng)
    if rng.random() < 0.3:
        low, high = int(100 - 30 * strength), int(100 + 40 * strength)
        image = adjust_gamma(image, rng.uniform(low, high) / 100)
    if rng.random() < 0.2:
        image = _blur_or_noise(image, rng)
    return image


def adjust_brightness(image: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    """The image (H, W, 3) times a factor."""
    return _affine(image, factor * np.eye(3), 0.0)


def adjust_contrast(image: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    """The image (H, W, 3), its distance from its own mean grey times a factor."""
    mean = float(np.dot(cv2.mean(image)[:3], _GREY))
    return _affine(image, factor * np.eye(3), mean * (1 - factor))


def adjust_saturation(image: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    """The image (H, W, 3), its distance from the grey image times a factor."""
    return _affine(image, factor * np.eye(3) + (1 - factor) * _GREY, 0.0)


def adjust_hue(image: npt.NDArray[np.uint8], turn: float) -> npt.NDArray[np.uint8]:
    """The image (H, W, 3) with its hues turned by a part of the circle, in steps of two degrees."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    turned = ((np.arange(256) + math.floor(180 * turn)) % 180).astype(np.uint8)
    hsv[..., 0] = cv2.LUT(hsv[..., 0], turned)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def adjust_gamma(image: npt.NDArray[np.uint8], gamma: float) -> npt.NDArray[np.uint8]:
    """The image (H, W, 3), as parts of 255, to the power of gamma."""
    return cv2.LUT(image, (255 * (np.arange(256) / 255) ** gamma).astype(np.uint8))


def blur(image: npt.NDArray[np.uint8], size: int, sigma: float) -> npt.NDArray[np.uint8]:
    """The image (H, W, 3) under a Gaussian kernel of a size (odd) and a standard deviation in px."""
    kernel = cv2.getGaussianKernel(size, sigma)
    return cv2.sepFilter2D(image, -1, kernel, kernel)


def add_noise(image: npt.NDArray[np.uint8], sigma: float, seed: int) -> npt.NDArray[np.uint8]:
    """The image (H, W, 3) with Gaussian noise of a standard deviation in grey levels, at most 25."""
    noise = np.empty(image.shape, np.int8)
    cv2.setRNGSeed(seed)  # OpenCV's generator is four times as fast as numpy's
    cv2.randn(noise.reshape(-1), 0, sigma)
    return cv2.add(image, noise, dtype=cv2.CV_8U)


_JITTERS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)


def _jitter(image: npt.NDArray[np.uint8], factor: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    amounts = [*rng.uniform(1 - factor, 1 + factor, 3).tolist(), float(rng.uniform(-0.05, 0.05))]
    for i in rng.permutation(len(_JITTERS)).tolist():
        image = _JITTERS[i](image, amounts[i])
    return image


def _blur_or_noise(image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    if rng.random() < 0.5:
        return blur(image, int(rng.choice((3, 5, 5))), rng.uniform(0.5, 3.0))
    return add_noise(image, 255 * rng.uniform(0.01, 0.05), int(rng.integers(2**31)))


def _affine(image: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], offset: float) -> npt.NDArray[np.uint8]:
    """Each colour times a matrix (3, 3), plus an offset; rounded, and cut to 0..255."""
    return cv2.transform(image, np.hstack([matrix, np.full((3, 1), offset)]))


def _check_geometry(crop_size: tuple[int, int], scale_range: tuple[float, float]) -> None:
    if (
        len(crop_size) != 2
        or not all(type(v) is int for v in crop_size)
        or not 32 <= min(crop_size) <= max(crop_size) <= 8192
    ):
        raise ConfigError(f"data.crop_size is {list(crop_size)}; use [height, width] in px, each 32 to 8192")
    if len(scale_range) != 2 or not 0.1 <= scale_range[0] <= scale_range[1] <= 10:
        raise ConfigError(f"data.scale_range is {list(scale_range)}; use [smallest, largest], both 0.1 to 10")


def _check_number(name: str, value: Any, largest: float, advice: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        raise ConfigError(f"data.{name} is {value!r}; {advice}")


def _check_names(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or not all(type(v) is str for v in value):
        raise ConfigError(f"data.{name} is {value!r}; use a list of class names")
    twice = sorted({v for v in value if value.count(v) > 1})
    if twice:
        raise ConfigError(f"data.{name} names {', '.join(twice)} more than once; name each class once")
