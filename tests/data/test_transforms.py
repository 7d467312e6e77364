"""Augmentation: geometry agrees between image and mask, padding is ignored, ids stay ids."""

import numpy as np
import pytest

from roadseg.data.transforms import train_transform
from roadseg.errors import ConfigError


def coded(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red channel spells the mask's ids."""
    mask = (np.add.outer(np.arange(height) // 16, np.arange(width) // 16) % 11).astype(np.uint8)
    return np.stack([mask * 20, mask * 0 + 128, mask * 0 + 128], -1).astype(np.uint8), mask


@pytest.mark.parametrize("size", [(64, 96), (300, 500)])
@pytest.mark.parametrize("seed", range(8))
def test_image_and_mask_move_together_and_padding_is_ignored(size, seed):
    transform = train_transform((128, 160), photometric=0)
    transform.set_random_seed(seed)
    image, mask = coded(*size)
    out = transform(image=image, mask=mask)
    assert out["image"].shape == (128, 160, 3) and out["mask"].shape == (128, 160)
    assert set(np.unique(out["mask"])) <= {*range(11), 255}
    labelled = out["mask"] != 255
    error = np.abs(out["image"][..., 0].astype(int) - 20 * out["mask"].astype(int))[labelled]
    assert np.median(error) <= 2  # at the borders of ids the image is interpolated, the mask is not
    padding = out["image"][~labelled]
    assert len(padding) == 0 or (np.median(padding, axis=0) == [124, 116, 104]).all()


def test_frames_smaller_than_the_crop_are_padded_with_the_ignore_id():
    transform = train_transform((128, 160), scale_range=(1.0, 1.0), photometric=0)
    out = transform(image=np.zeros((32, 40, 3), np.uint8), mask=np.full((32, 40), 7, np.uint8))
    assert (out["mask"] == 7).sum() == 32 * 40 and (out["mask"] == 255).sum() == 128 * 160 - 32 * 40


def test_colours_change_only_when_asked_for():
    image, mask = coded(128, 160)
    plain, strong = (train_transform((128, 160), (1.0, 1.0), strength) for strength in (0.0, 1.0))
    plain.set_random_seed(5)
    strong.set_random_seed(5)
    kept = plain(image=image, mask=mask)["image"]
    assert np.array_equal(kept, image) or np.array_equal(kept, image[:, ::-1])
    assert any(
        not np.array_equal(np.sort(strong(image=image, mask=mask)["image"].ravel()), np.sort(image.ravel()))
        for _ in range(5)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": (16, 320)}, r"crop_size is \[16, 320\]; use \[height, width\] in px, each 32 to 8192"),
        (
            {"crop_size": (320, 416), "scale_range": (2.0, 0.5)},
            r"scale_range is \[2.0, 0.5\]; use \[smallest, largest\]",
        ),
        ({"crop_size": (320, 416), "scale_range": (0.0, 0.5)}, r"scale_range is \[0.0, 0.5\]"),
        ({"crop_size": (320, 416), "photometric": -1}, "photometric is -1"),
    ],
)
def test_what_cannot_work_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        train_transform(**arguments)
