"""Colour changes against albumentations with the same numbers; the laws of what is random; refusals."""

import pickle

import albumentations as A
import albumentations.augmentations.pixel.functional as reference
import cv2
import numpy as np
import pytest
from albumentations.augmentations.blur.functional import create_gaussian_kernel_1d

from roadseg.data.transforms import (
    Augmentation,
    add_noise,
    adjust_brightness,
    adjust_contrast,
    adjust_gamma,
    adjust_hue,
    adjust_saturation,
    blur,
    distort,
)
from roadseg.errors import ConfigError


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Every level of every channel, smooth and rough."""
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (96, 64), interpolation=cv2.INTER_CUBIC)
    return np.vstack([smooth, rng.integers(0, 256, (32, 96, 3), dtype=np.uint8)])


def assert_close(ours: np.ndarray, theirs: np.ndarray, levels: int = 1) -> None:
    assert ours.dtype == np.uint8 and ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= levels


@pytest.mark.parametrize("factor", [0.1, 0.6, 0.93, 1.0, 1.4, 1.9])
def test_brightness_contrast_and_saturation_are_albumentations_within_a_grey_level(image, factor):
    assert_close(adjust_brightness(image, factor), reference.adjust_brightness_torchvision(image, factor))
    assert_close(adjust_contrast(image, factor), reference.adjust_contrast_torchvision(image, factor))
    assert_close(adjust_saturation(image, factor), reference.adjust_saturation_torchvision(image, factor))


@pytest.mark.parametrize("turn", [-0.05, -0.031, -0.001, 0.004, 0.02, 0.05])
def test_hue_gamma_and_blur_are_albumentations_exactly(image, turn):
    assert_close(adjust_hue(image, turn), reference.adjust_hue_torchvision(image, turn), 0)
    gamma, sigma = 1 + 6 * turn, 1.5 + 20 * turn
    assert_close(adjust_gamma(image, gamma), reference.gamma_transform(image, gamma), 1)
    for size in (3, 5):
        assert_close(
            blur(image, size, sigma), reference.separable_convolve(image, create_gaussian_kernel_1d(sigma, size)), 1
        )


def test_noise_is_gaussian_of_its_deviation_and_follows_from_its_seed():
    grey = np.full((300, 400, 3), 128, np.uint8)
    noisy = add_noise(grey, 10.0, 5).astype(float) - 128
    assert abs(noisy.mean()) < 0.1 and abs(noisy.std() - 10) < 0.1
    assert abs((np.abs(noisy) < 10.5).mean() - 0.706) < 0.005  # of a normal law, rounded
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.02
    assert np.array_equal(add_noise(grey, 10.0, 5), add_noise(grey, 10.0, 5))
    assert not np.array_equal(add_noise(grey, 10.0, 5), add_noise(grey, 10.0, 6))


def test_distortion_follows_from_the_generator_and_leaves_its_input_alone(image):
    before = image.copy()
    results = [distort(image, 1.0, np.random.default_rng(seed)) for seed in (0, 0, 1, 2)]
    assert np.array_equal(image, before)
    assert np.array_equal(results[0], results[1]) and not np.array_equal(results[0], results[2])
    assert distort(image, 0.0, np.random.default_rng(0)) is image


@pytest.mark.parametrize("strength", [1.0, 0.5, 2.0])
def test_distortion_has_the_law_of_the_albumentations_pipeline(image, strength):
    """Means, contrasts and saturations of many results, compared by their quantiles."""
    factor = min(0.4 * strength, 0.9)
    span = (1 - factor, 1 + factor)
    pipeline = A.Compose(
        [
            A.ColorJitter(span, span, span, (-0.05, 0.05), p=0.8),
            A.RandomGamma((int(100 - 30 * strength), int(100 + 40 * strength)), p=0.3),
            A.OneOf([A.GaussianBlur((3, 5), p=1.0), A.GaussNoise((0.01, 0.05), p=1.0)], p=0.2),
        ],
        seed=1,
    )
    small = np.ascontiguousarray(image[::4, ::4])
    theirs = [describe(pipeline(image=small)["image"]) for _ in range(2500)]
    ours = [describe(distort(small, strength, np.random.default_rng(seed))) for seed in range(2500)]
    unchanged = [np.mean([np.array_equal(d, describe(small)) for d in found]) for found in (ours, theirs)]
    assert abs(unchanged[0] - unchanged[1]) < 0.03
    levels = np.quantile(ours, (0.1, 0.25, 0.5, 0.75, 0.9), axis=0) - np.quantile(
        theirs, (0.1, 0.25, 0.5, 0.75, 0.9), axis=0
    )
    assert np.abs(levels).max() < 0.04 * 128 * strength


def describe(image: np.ndarray) -> tuple[float, float, float]:
    """Mean, contrast, and mean distance from grey."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
    return grey.mean(), grey.std(), np.abs(image - grey[..., None]).mean()


def test_an_augmentation_takes_lists_and_survives_pickling():
    made = Augmentation(crop_size=[64, 96], scale_range=[1, 2], rare_classes=["pole"], rare_probability=0.5)
    assert made.crop_size == (64, 96) and made.rare_classes == ("pole",)
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(AttributeError):
        made.photometric = 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": (16, 320)}, r"data.crop_size is \[16, 320\]; use \[height, width\] in px, each 32 to 8192"),
        ({"crop_size": (64.5, 320)}, r"data.crop_size is \[64.5, 320\]"),
        ({"crop_size": (64,)}, r"data.crop_size is \[64\]"),
        ({"scale_range": (2.0, 0.5)}, r"data.scale_range is \[2.0, 0.5\]; use \[smallest, largest\]"),
        ({"scale_range": (0.0, 0.5)}, r"data.scale_range is \[0.0, 0.5\]"),
        ({"scale_range": (0.5, float("nan"))}, r"data.scale_range is \[0.5, nan\]"),
        ({"photometric": -1}, "data.photometric is -1; use 0 for none"),
        ({"photometric": float("nan")}, "data.photometric is nan"),
        (
            {"rare_probability": 1.5, "rare_classes": ("pole",)},
            "data.rare_probability is 1.5; use a probability, 0 to 1",
        ),
        ({"rare_probability": 0.5}, "data.rare_classes names no class"),
        ({"rare_classes": "pole"}, "data.rare_classes is 'pole'; use a list of class names"),
        ({"rare_classes": ("pole", "pole")}, "data.rare_classes names pole more than once"),
        ({"mix": "cutmix"}, "data.mix is 'cutmix'; use one of none, classmix, copy_paste"),
        ({"mix": "copy_paste"}, "data.mix is copy_paste, but data.mix_classes names no class"),
        ({"mix": "classmix", "mix_probability": -0.1}, "data.mix_probability is -0.1"),
    ],
)
def test_what_cannot_work_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(**arguments)
