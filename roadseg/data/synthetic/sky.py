"""The sky: a gradient from haze to zenith, a glow around the sun, and clouds that recede to the horizon."""

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.data.synthetic.classes import RANK, Label
from roadseg.data.synthetic.layout import SceneLayout
from roadseg.data.synthetic.textures import fractal

_COARSE = 192  # the sky is computed this many samples wide, whatever the picture's size


def paint_sky(canvas: npt.NDArray[np.uint8], layout: SceneLayout) -> None:
    """Fill a canvas (H, W, 4) of red, green, blue and class rank with sky, everywhere."""
    height, width = canvas.shape[:2]
    horizon = layout.camera.horizon_px((height, width))
    rows = min(height, max(0, int(np.ceil(horizon)) + 2))
    haze = [*np.clip(layout.light.haze, 0, 255).astype(np.uint8), RANK[Label.SKY]]
    canvas[rows:].view(np.uint32)[...] = np.array(haze, np.uint8).view(np.uint32)
    if rows == 0:
        return
    samples = min(max(2, round(_COARSE * rows / width)), 4 * _COARSE)
    up = np.maximum(horizon - (np.arange(samples) + 0.5) * rows / samples, 0.0) / (layout.camera.focal_widths * width)
    across = ((np.arange(_COARSE) + 0.5) / _COARSE - 0.5) / layout.camera.focal_widths
    coarse = _sky_colours(layout, across.astype(np.float32)[None, :], up.astype(np.float32)[:, None])
    cv2.resize(coarse, (width, rows), dst=canvas[:rows], interpolation=cv2.INTER_LINEAR)


def _sky_colours(
    layout: SceneLayout, across: npt.NDArray[np.float32], up: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """RGB and class rank (R, C, 4) of directions with tangents across (1, C) and up (R, 1)."""
    rng, light = layout.random(4), layout.light
    height = (1.0 - np.exp(-2.6 * up))[..., None]
    colours = (
        light.haze * (1.0 - height)
        + light.zenith * height
        + np.zeros((*np.broadcast_shapes(across.shape, up.shape), 3))
    )
    away = np.sqrt(across**2 + up**2 + 1.0)
    sun = light.towards_sun
    facing = np.maximum((across * sun[0] + up * sun[1] + sun[2]) / away, 0.0)[..., None]
    colours += light.sun * (60.0 * facing**6 + 120.0 * facing**60)
    # A layer of clouds overhead, seen in perspective: texels crowd towards the horizon.
    tile = fractal(512, 1.25, 7)
    near = 1.0 / (up + 0.12)
    scale, start = rng.uniform(16, 40), rng.uniform(0, 512, 2)
    column = np.floor(start[0] + scale * across * near).astype(np.intp) & 511
    row = np.floor(start[1] + scale * near + 0 * across).astype(np.intp) & 511
    density = cv2.GaussianBlur(tile[row, column], (0, 0), 1.0)
    threshold = 1.7 - 3.4 * light.cloud_cover
    cloud = np.clip((density - threshold) / rng.uniform(0.6, 1.4), 0.0, 1.0)[..., None]
    cloud *= np.clip(up / 0.06, 0.0, 1.0)[..., None]
    bright = light.haze * rng.uniform(1.0, 1.14) * (1.0 - 0.06 * np.clip(density - threshold - 0.8, 0, 2)[..., None])
    painted = np.full((*colours.shape[:2], 4), RANK[Label.SKY], np.uint8)
    painted[..., :3] = np.clip(colours * (1.0 - 0.9 * cloud) + bright * 0.9 * cloud, 0, 255)
    return painted
