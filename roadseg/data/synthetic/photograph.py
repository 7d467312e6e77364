"""From the painted canvas to a photograph and its mask: antialiasing, texture, lens and sensor."""

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.data.synthetic.classes import LABEL_OF_RANK, Label
from roadseg.data.synthetic.layout import SceneLayout
from roadseg.data.synthetic.textures import fractal

_BAND_PIXELS = 1 << 17

# Strength of the fine structure that surfaces get on top of their flat colours; the ground has its own.
_DETAIL = np.zeros(len(Label), np.float32)
_DETAIL[Label.VEGETATION] = 0.17
_DETAIL[[Label.BUILDING, Label.BARRIER]] = 0.035
_DETAIL[[Label.VEHICLE, Label.POLE]] = 0.02


def reduce_mask(ranks: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Class ids of a picture from the ranks on a canvas that is 1 or 2 times as fine.

    A pixel takes the highest-ranked class that, with those above it, covers at least half of it.

    Args:
        ranks: (H * factor, W * factor) uint8 class ranks.
        factor: 1 or 2.

    Returns:
        (H, W) uint8 class ids.
    """
    if factor == 1:
        return LABEL_OF_RANK[ranks]
    a, b, c, d = ranks[::2, ::2], ranks[::2, 1::2], ranks[1::2, ::2], ranks[1::2, 1::2]
    high, low = np.maximum(a, b), np.minimum(a, b)
    high2, low2 = np.maximum(c, d), np.minimum(c, d)
    second = np.maximum(np.minimum(high, high2), np.maximum(low, low2))
    return LABEL_OF_RANK[second]


def develop(
    canvas: npt.NDArray[np.uint8], layout: SceneLayout, factor: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Turn a painted canvas into picture and mask.

    Args:
        canvas: (H * factor, W * factor, 4) uint8 red, green, blue and class rank.
        layout: the scene, for its light and its noise.
        factor: 1 or 2.

    Returns:
        (H, W, 3) uint8 RGB and (H, W) uint8 class ids.
    """
    height, width = canvas.shape[0] // factor, canvas.shape[1] // factor
    mask = reduce_mask(np.ascontiguousarray(canvas[..., 3]), factor)
    colours = canvas if factor == 1 else cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    image = np.ascontiguousarray(colours[..., :3])
    rng = layout.random(5)
    softness = rng.uniform(0.0, 0.75)  # of the lens, px
    if softness > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), softness)
    noise, dim = rng.uniform(0.4, 4.5), rng.uniform(0.0, 0.4)
    gains = (layout.light.exposure * (1.0 + rng.normal(0, 0.025, 3))).astype(np.float32)
    detail = _DETAIL * np.exp(-150.0 * layout.light.haze_per_m, dtype=np.float32)  # haze hides structure, too
    curve = _tone_curve(layout.light.contrast)
    leaves = _leaf_texture(width)
    x = ((np.arange(width) + 0.5) / width - 0.5).astype(np.float32)
    step = max(1, _BAND_PIXELS // width)
    for start in range(0, height, step):
        band = slice(start, min(start + step, height))
        y = ((np.arange(band.start, band.stop) + 0.5 - 0.5 * height) / width).astype(np.float32)
        gain = 1.0 - np.float32(dim) * (x[None, :] ** 2 + y[:, None] ** 2)
        texture = np.tile(leaves, (1, -(-width // leaves.shape[1])))[:, :width]
        gain *= 1.0 + detail[mask[band]] * texture.take(np.arange(band.start, band.stop), axis=0, mode="wrap")
        light = cv2.multiply(image[band], cv2.merge([gain * g for g in gains]), dtype=cv2.CV_32F)
        light += _grain(rng, light.shape, noise)
        image[band] = cv2.LUT(np.clip(light, 0, 255).astype(np.uint8), curve)
    return image, mask


def _grain(rng: np.random.Generator, shape: tuple[int, ...], strength: float) -> npt.NDArray[np.float32]:
    """Noise of a standard deviation in grey levels; the sum of two bytes is near enough to normal, and quick."""
    pair = np.frombuffer(rng.bytes(2 * int(np.prod(shape))), np.uint8).reshape(2, *shape)
    total = cv2.addWeighted(pair[0], 1.0, pair[1], 1.0, -255.0, dtype=cv2.CV_32F)
    total *= np.float32(strength / 104.5)
    return total.reshape(shape)


def _tone_curve(contrast: float) -> npt.NDArray[np.uint8]:
    """A smooth curve (256,) uint8 through black, mid-grey and white, steeper in the middle for contrast over 1."""
    level = np.arange(256) / 255.0
    curve = level + (contrast - 1.0) * np.sin(2 * np.pi * (level - 0.5)) / (2 * np.pi)
    return np.clip(np.rint(curve * 255.0), 0, 255).astype(np.uint8)


def _leaf_texture(width: int) -> npt.NDArray[np.float32]:
    """Noise (S, S) whose grain has the same size relative to the picture at any width."""
    side = int(np.clip(round(256 * width / 512), 32, 1024))
    return cv2.resize(fractal(256, 0.55, 8), (side, side), interpolation=cv2.INTER_AREA)
