"""Tileable noise for asphalt, grass, paving and clouds; made once a process, the same in each."""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

GROUND_TILE_BITS = 10
"""log2 of a ground tile's side in texels; a texel is 1 cm."""

ASPHALT_TILE, GRASS_TILE, PAVING_TILE = 0, 1, 2


@lru_cache(maxsize=8)
def fractal(side: int, slope: float, number: int) -> npt.NDArray[np.float32]:
    """Noise whose amplitude falls with frequency as f ** -slope.

    Args:
        side: tile side in texels.
        slope: 0 is white noise; 1 has detail at every scale; 2 is smooth.
        number: which tile of that kind.

    Returns:
        (side, side) float32 of mean 0 and standard deviation 1, read-only, that repeats without a seam.
    """
    white = np.random.default_rng(np.random.SeedSequence(number)).standard_normal((side, side))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]) * side
    spectrum = np.fft.rfft2(white) / np.maximum(frequency, 1.0) ** slope
    spectrum[0, 0] = 0.0
    tile = np.fft.irfft2(spectrum, s=(side, side))
    tile = (tile / tile.std()).astype(np.float32)
    tile.flags.writeable = False
    return tile


@lru_cache(maxsize=1)
def ground_tiles() -> npt.NDArray[np.int8]:
    """Fine structure of asphalt, grass and paving: (3 * side * side,) int8, 40 to a standard deviation, read-only."""
    side = 1 << GROUND_TILE_BITS
    asphalt = 0.75 * fractal(side, 0.25, 1) + 0.65 * fractal(side, 1.0, 2)
    # Blades stand upright: grass is stretched along the road, where foreshortening squeezes it again.
    grass = cv2.resize(fractal(side, 0.6, 3)[:256], (side, side), interpolation=cv2.INTER_LINEAR)
    slab = 64
    paving = 0.5 * fractal(side, 0.5, 4)
    shades = np.random.default_rng(5).standard_normal((side // slab, side // slab)).astype(np.float32)
    paving = paving + 0.8 * np.kron(shades, np.ones((slab, slab), np.float32))
    joints = np.arange(side) % slab < 2
    paving[joints, :] = -2.6
    paving[:, joints] = -2.6
    tiles = np.clip(np.stack([asphalt, grass, paving]) * 40.0, -127, 127).astype(np.int8).ravel()
    tiles.flags.writeable = False
    return tiles


@lru_cache(maxsize=1)
def blotches() -> npt.NDArray[np.int8]:
    """Broad light and dark patches of ground: (256 * 256,) int8, 40 to a standard deviation, read-only."""
    smooth = cv2.GaussianBlur(np.tile(fractal(256, 1.3, 6), (3, 3)), (0, 0), 1.2)[256:512, 256:512]
    tile = np.clip(smooth / smooth.std() * 40.0, -127, 127).astype(np.int8).ravel()
    tile.flags.writeable = False
    return tile
