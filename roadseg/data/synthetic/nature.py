"""Trees, bushes and hedges beside the road, and the hills and woods on the horizon."""

import numpy as np

from roadseg.data.synthetic.camera import Floats
from roadseg.data.synthetic.classes import Label
from roadseg.data.synthetic.display import BACKGROUND_M, DisplayList
from roadseg.data.synthetic.layout import Roadside, SceneLayout
from roadseg.data.synthetic.light import Light
from roadseg.data.synthetic.shapes import disc, ragged_discs, strip

Spans = list[tuple[float, float, int]]


def add_vegetation(display: DisplayList, layout: SceneLayout, built: Spans, rng: np.random.Generator) -> None:
    """Street trees, gardens and woods; built is where buildings leave no room behind the sidewalk."""
    leaf = np.array([rng.uniform(58, 108), rng.uniform(88, 122), rng.uniform(32, 58)])
    for roadside in (layout.right, layout.left):
        if layout.kind == "urban":
            if rng.random() < 0.6:
                _add_row(display, layout, roadside, roadside.edge_m + 1.1, rng.uniform(7, 14), leaf, rng)
        else:
            _add_wild(display, layout, roadside, built, leaf, rng)
        if layout.kind == "suburban" or rng.random() < 0.3:
            _add_hedges(display, layout, roadside, leaf, rng)


def _add_row(
    display: DisplayList, layout: SceneLayout, roadside: Roadside, beside: float, gap: float, leaf: Floats,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    size = rng.uniform(4.5, 9.0)
    for s in np.arange(rng.uniform(6, 16), 110, gap):
        if not _at_junction(layout, s) and rng.random() < 0.85:
            base = layout.road.place(roadside.side * beside, s)
            _add_tree(display, layout.light, base, size * rng.uniform(0.8, 1.2), leaf, rng)


def _add_wild(
    display: DisplayList, layout: SceneLayout, roadside: Roadside, built: Spans, leaf: Floats, rng: np.random.Generator
) -> None:
    density = rng.choice([0.12, 0.5, 1.3]) if layout.kind != "suburban" else 0.6
    nearest, depth = (2.2, 7.0) if layout.kind == "suburban" else (3.5, 24.0)
    for s in np.sort(rng.uniform(6, 150, int(rng.poisson(24 * density)) + 1))[::-1]:
        away = nearest + depth * rng.random()
        if _at_junction(layout, s) or any(a - 3 < s < b + 3 and side == roadside.side for a, b, side in built):
            continue
        base = layout.road.place(roadside.side * (roadside.outer_m + away), s)
        tone = leaf * rng.uniform(0.8, 1.2, 3)
        if rng.random() < 0.2:
            _add_conifer(display, base, rng.uniform(6, 13), tone, rng)
        elif rng.random() < 0.3:
            _add_bush(display, layout.light, base, rng.uniform(0.8, 2.0), tone, rng)
        else:
            _add_tree(display, layout.light, base, rng.uniform(5, 12), tone, rng)


def _at_junction(layout: SceneLayout, s: float) -> bool:
    return layout.junction is not None and layout.junction[0] - 5 < s < layout.junction[1] + 3


def _add_tree(
    display: DisplayList, light: Light, base: Floats, height: float, leaf: Floats, rng: np.random.Generator
) -> None:
    """A trunk that leans and forks, and a crown of ragged clumps, dark inside and bright towards the light."""
    z = float(base[2])
    crown_y = height * rng.uniform(0.6, 0.68)
    radius = np.array([height * rng.uniform(0.22, 0.34), height * rng.uniform(0.28, 0.36), height * 0.25])
    girth = 0.035 * height
    lean = rng.normal(0, 0.04 * height)
    bark = np.array([92.0, 76.0, 62.0]) * rng.uniform(0.6, 1.1)
    path = base + np.array([(0, -0.02, 0), (0.3 * lean, 0.25 * height, 0), (lean, crown_y, 0)])
    trunk = strip(path, [girth * 1.3, girth, girth * 0.6])
    display.add(z, trunk, bark, Label.VEGETATION, gain=0.8)
    for fork in (-1, 1):
        branch = path[1] + np.array([(0, 0, 0), (fork * 0.5 * radius[0], 0.3 * height, 0)])
        display.add(z, strip(branch, [girth * 0.6, girth * 0.25]), bark, Label.VEGETATION, gain=0.7)
    middle = path[2] + np.array([0.0, 0.02 * height, 0.0])
    clumps = int(np.clip(110 * height / z, 9, 90))  # by the angle it fills, so that all crowns look as fine
    _add_clumps(display, light, z, middle, radius, clumps, leaf, rng)
    display.cast(middle + disc(1.0, 10) * (radius[0], radius[1] * 0.9, 0.0))
    display.cast(middle + disc(1.0, 8)[:, [2, 1, 0]] * (0.0, radius[1] * 0.8, radius[0]))
    display.cast(np.concatenate([trunk[0], trunk[-1]]))


def _add_clumps(
    display: DisplayList, light: Light, z: float, middle: Floats, radius: Floats, clumps: int, leaf: Floats,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    spots = rng.normal(0, 1, (clumps, 3))
    spots *= (rng.uniform(0.15, 1.0, (clumps, 1)) ** 0.5) / np.linalg.norm(spots, axis=1, keepdims=True)
    # Painted from the shaded inside out to the lit rim, so that lit clumps lie on top.
    lit = spots @ (light.towards_sun * (1, 1, -1) * 0.5 + np.array([0.0, 0.6, -0.3]))
    spots, lit = spots[np.argsort(lit)], np.sort(lit)
    size = (
        radius[:2]
        * rng.uniform(0.3, 0.52, (clumps, 1))
        * max(0.55, (30 / clumps) ** 0.35)
        * (1.0 - 0.25 * np.linalg.norm(spots, axis=1))[:, None]
    )
    blobs = ragged_discs(rng, middle + spots * radius * 0.82, size, corners=11, raggedness=0.36)
    flat = blobs[:, :, 2].mean(axis=1, keepdims=True)
    blobs[:, :, 2] = np.maximum(flat, 0.8)
    tones = leaf * rng.uniform(0.88, 1.12, (clumps, 1)) * rng.uniform(0.95, 1.05, (clumps, 3))
    display.add(z, blobs, tones, Label.VEGETATION, gain=0.72 + 0.34 * lit + rng.uniform(-0.05, 0.05, clumps))


def _add_conifer(display: DisplayList, base: Floats, height: float, leaf: Floats, rng: np.random.Generator) -> None:
    z, tiers = float(base[2]), 6
    girth = 0.03 * height
    display.add(z, strip(base + np.array([(0, 0, 0), (0, 0.2 * height, 0)]), [girth, girth]), (78, 62, 50),
                Label.VEGETATION, gain=0.7)  # fmt: skip
    for tier in range(tiers):
        low, half = height * (0.1 + 0.13 * tier), height * 0.2 * (1.0 - 0.14 * tier)
        top = min(height, low + 0.32 * height)
        teeth = np.linspace(-1, 1, 9)
        rim = np.stack([half * teeth, low + 0.04 * height * (np.arange(9) % 2) * rng.uniform(0.5, 1.5, 9)
                        + 0.05 * height * teeth**2, np.zeros(9)], axis=1)  # fmt: skip
        skirt = base + np.concatenate([[(0.0, top, 0.0)], rim[::-1]])
        display.add(z, skirt, leaf * (0.62, 0.8, 0.9), Label.VEGETATION, gain=0.6 + 0.06 * tier)
        display.add(z, skirt[:6], leaf * (0.62, 0.8, 0.9), Label.VEGETATION, gain=0.72 + 0.06 * tier)
    display.cast(base + np.array([(-0.2 * height, 0.1 * height, 0), (0, height, 0), (0.2 * height, 0.1 * height, 0)]))


def _add_bush(
    display: DisplayList, light: Light, base: Floats, height: float, leaf: Floats, rng: np.random.Generator
) -> None:
    radius = np.array([height * rng.uniform(0.6, 1.1), 0.5 * height, 0.4 * height])
    middle = base + np.array([0.0, 0.45 * height, 0.0])
    _add_clumps(display, light, float(base[2]), middle, radius, 12, leaf, rng)
    display.touch(base + disc(1.0, 10)[:, [0, 2, 1]] * (radius[0], 0.0, 0.4 * height), 0.45)


def _add_hedges(
    display: DisplayList, layout: SceneLayout, roadside: Roadside, leaf: Floats, rng: np.random.Generator
) -> None:
    height, away = rng.uniform(0.9, 1.8), roadside.outer_m + (0.35 if layout.kind != "urban" else 0.0)
    if layout.kind == "urban":
        return
    tone = leaf * rng.uniform(0.75, 1.05)
    s = rng.uniform(4, 20)
    while s < 90.0:
        at = np.repeat(
            np.array([v for v in np.arange(s, s + rng.uniform(6, 22), 0.9) if not _at_junction(layout, v)]), 4
        )
        spots = layout.road.place(roadside.side * (away + 0.5), at)
        spots += rng.uniform((-0.45, 0.25, -0.2), (0.45, 0.9, 0.2), spots.shape) * (1.0, height, 1.0)
        size = rng.uniform(0.35, 0.55, (len(at), 2)) * (1.0, 0.6 * height)
        blobs = ragged_discs(rng, spots, size, corners=9)
        blobs[..., 1] = np.maximum(blobs[..., 1], 0.0)
        gain = 0.55 + 0.4 * spots[:, 1] / height + rng.uniform(-0.05, 0.05, len(at))
        for piece in range(0, len(at), 4):
            part = slice(piece, piece + 4)
            display.add(float(at[piece]), blobs[part], tone, Label.VEGETATION, gain=gain[part])
        s += 22 + rng.uniform(5, 25)


def add_horizon(display: DisplayList, layout: SceneLayout, rng: np.random.Generator) -> None:
    """Hills and a line of trees that close the view."""
    x = np.linspace(-1.5, 1.5, 160)
    if rng.random() < (0.75 if layout.kind in ("rural", "highway") else 0.3):
        distance = 900.0
        waves = sum(rng.normal(0, 1.0 / k) * np.sin(k * 1.7 * x + rng.uniform(0, 6)) for k in range(1, 6))
        height = np.maximum(0.0, rng.uniform(10, 50) * (0.7 + 0.6 * waves))
        tone = np.array([112.0, 124.0, 92.0]) * rng.uniform(0.75, 1.05)
        display.add(BACKGROUND_M, _silhouette(x * distance, height, distance), tone, Label.TERRAIN, gain=0.75)
    if rng.random() < 0.8:
        distance = rng.uniform(200, 380)
        ridge = np.interp(np.linspace(0, 1, 480), np.linspace(0, 1, 13), rng.uniform(2, 16, 13))
        ridge *= 1.0 + 0.18 * rng.standard_normal(480)
        fine = np.linspace(-1.5, 1.5, 480) * distance
        tone = np.array([70.0, 88.0, 52.0]) * rng.uniform(0.8, 1.2)
        display.add(BACKGROUND_M, _silhouette(fine, ridge, distance), tone, Label.VEGETATION, gain=0.7)


def _silhouette(x: Floats, height: Floats, distance: float) -> Floats:
    """(N + 2, 3) outline of a ridge of height (N,) over x (N,), closed along the ground."""
    top = np.stack([x, height, np.full_like(x, distance)], axis=1)
    return np.concatenate([top, [(x[-1], -1.0, distance), (x[0], -1.0, distance)]])
