"""Light and weather of a scene: where the sun stands, what colour it and the sky have, and how thick the haze is."""

from dataclasses import dataclass

import numpy as np

from roadseg.data.synthetic.camera import Floats

# Weather -> (chance, sun's share of the light, its elevation in degrees, haze per metre, cloud cover), four ranges.
_WEATHERS = {
    "clear": (0.38, (0.55, 0.68), (28, 65), (0.0004, 0.0015), (0.0, 0.45)),
    "cloudy": (0.22, (0.25, 0.45), (25, 60), (0.0008, 0.003), (0.4, 0.8)),
    "overcast": (0.20, (0.04, 0.12), (30, 60), (0.001, 0.005), (0.85, 1.0)),
    "low sun": (0.12, (0.50, 0.65), (9, 18), (0.0012, 0.004), (0.1, 0.6)),
    "fog": (0.08, (0.04, 0.15), (25, 50), (0.008, 0.018), (0.9, 1.0)),
}


@dataclass(frozen=True)
class Light:
    """Light and weather; colours are RGB gains where 1 leaves an albedo as it is.

    Attributes:
        towards_sun: (3,) world unit vector.
        sun: (3,) light of the sun on a surface that faces it.
        ambient: (3,) light of the sky, which shadows keep.
        haze_per_m: density of the haze.
        haze: (3,) RGB 0..255 that far things fade to.
        zenith: (3,) RGB 0..255 of the sky overhead.
        cloud_cover: share of the sky under clouds.
        exposure: factor on everything, as a camera's exposure error.
        contrast: slope of the tone curve in mid-grey.
    """

    towards_sun: Floats
    sun: Floats
    ambient: Floats
    haze_per_m: float
    haze: Floats
    zenith: Floats
    cloud_cover: float
    exposure: float
    contrast: float

    @property
    def shadow_gain(self) -> float:
        """Brightness of shaded ground relative to sunlit ground."""
        lit = self.ambient + self.sun * self.towards_sun[1]
        return float(self.ambient.mean() / lit.mean())

    def on(self, normals: Floats) -> Floats:
        """RGB gains (N, 3) of surfaces with unit normals (N, 3); what looks down gets less of the sky."""
        direct = np.maximum(normals @ self.towards_sun, 0.0)[:, None] * self.sun
        return direct + self.ambient * (0.8 + 0.2 * normals[:, 1:2])

    def through_haze(self, colours: Floats, distance_m: Floats) -> Floats:
        """RGB (N, 3) seen from (N,) metres away."""
        clear = np.exp(-self.haze_per_m * distance_m)[:, None]
        return colours * clear + self.haze * (1.0 - clear)


def draw_light(rng: np.random.Generator) -> Light:
    """A random light and weather."""
    weather = str(rng.choice(list(_WEATHERS), p=[w[0] for w in _WEATHERS.values()]))
    _, sun_share, elevations, hazes, covers = _WEATHERS[weather]
    elevation, azimuth = np.radians(rng.uniform(*elevations)), rng.uniform(-np.pi, np.pi)
    towards_sun = np.array(
        [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)]
    )
    warmth = rng.uniform(0.12, 0.3) if weather == "low sun" else rng.uniform(-0.02, 0.1)
    share, cover = rng.uniform(*sun_share), rng.uniform(*covers)
    sun = share / max(towards_sun[1], 0.35) * np.array([1.0 + warmth, 1.0, 1.0 - 1.2 * warmth])
    ambient = (1.0 - share) * np.array([0.93, 1.0, 1.1] if cover < 0.8 else [0.99, 1.0, 1.02])
    grey = np.array([205.0, 210.0, 216.0]) * rng.uniform(0.8, 1.12)
    haze = np.minimum(grey + warmth * np.array([60.0, 0.0, -110.0]), 250.0)
    blue = np.array([rng.uniform(50, 110), rng.uniform(110, 160), rng.uniform(185, 230)])
    zenith = blue * (1.0 - cover) + cover * 0.9 * grey
    exposure = rng.uniform(0.7, 1.05) if weather == "low sun" else rng.uniform(0.82, 1.2)
    return Light(
        towards_sun, sun, ambient, rng.uniform(*hazes), haze, zenith, cover, float(exposure), rng.uniform(0.9, 1.25)
    )
