"""What lies flat on the road: stop lines, zebra crossings, arrows, repair patches, cracks and manhole covers."""

import numpy as np

from roadseg.data.synthetic.camera import Floats
from roadseg.data.synthetic.ground import Material
from roadseg.data.synthetic.layout import SceneLayout

Decal = tuple[Floats, int]

# A straight-ahead arrow, and its branch to one side, in metres: across, along.
_SHAFT = np.array([(-0.08, 0.0), (-0.08, 2.2), (-0.3, 2.2), (0.0, 3.6), (0.3, 2.2), (0.08, 2.2), (0.08, 0.0)])
_BRANCH = np.array([(0.08, 0.9), (0.45, 1.5), (0.45, 1.2), (0.85, 1.9), (0.45, 2.4), (0.45, 2.1), (0.08, 1.4)])


def draw_decals(layout: SceneLayout, rng: np.random.Generator) -> list[Decal]:
    """Corners on the ground (N, 3) in metres and the material of each thing, in the order they were laid."""
    decals = _wear(layout, rng)
    if layout.junction is not None:
        near, far = layout.junction
        at = near - 1.2
        if rng.random() < 0.75:
            depth = rng.uniform(2.4, 4.0)
            decals += _zebra(layout, near - 0.8 - depth, depth, rng)
            at = near - 2.0 - depth
            if rng.random() < 0.6:
                decals += _zebra(layout, far + 0.8, depth, rng)
        width = rng.uniform(0.3, 0.5)
        right = 0.5 * layout.median_m + layout.lanes_ahead * layout.lane_width_m
        decals.append((_rectangle(layout, 0.5 * layout.median_m + 0.15, right, at, at + width), Material.WHITE))
        if rng.random() < 0.6:
            decals += _arrows(layout, at - rng.uniform(5, 7), rng)
    elif layout.kind == "urban" and rng.random() < 0.35:
        decals += _zebra(layout, rng.uniform(9, 30), rng.uniform(2.5, 4.0), rng)
    elif rng.random() < 0.15:
        decals += _arrows(layout, rng.uniform(7, 20), rng)
    return decals


def _rectangle(layout: SceneLayout, u0: float, u1: float, s0: float, s1: float) -> Floats:
    return layout.road.place([u0, u0, u1, u1], [s0, s1, s1, s0])


def _zebra(layout: SceneLayout, s: float, depth: float, rng: np.random.Generator) -> list[Decal]:
    bar = rng.uniform(0.4, 0.6)
    edges = np.arange(-layout.left.edge_m + 0.3, layout.right.edge_m - 0.3 - bar, 2 * bar)
    bars = [e for e in edges if not (e < 0.5 * layout.median_m and e + bar > -0.5 * layout.median_m)]
    return [(_rectangle(layout, u, u + bar, s, s + depth), Material.WHITE) for u in bars]


def _arrows(layout: SceneLayout, s: float, rng: np.random.Generator) -> list[Decal]:
    decals: list[Decal] = []
    for lane in range(layout.lanes_ahead):
        u = 0.5 * layout.median_m + (lane + 0.5) * layout.lane_width_m
        decals.append((layout.road.place(u + _SHAFT[:, 0], s + _SHAFT[:, 1]), Material.WHITE))
        if rng.random() < 0.5:
            turn = 1 if lane == layout.lanes_ahead - 1 else -1
            decals.append((layout.road.place(u + turn * _BRANCH[:, 0], s + _BRANCH[:, 1]), Material.WHITE))
    return decals


def _wear(layout: SceneLayout, rng: np.random.Generator) -> list[Decal]:
    decals: list[Decal] = []
    left, right = -layout.left.edge_m + 0.8, layout.right.edge_m - 0.8
    for _ in range(int(rng.poisson(1.5))):
        u, s = rng.uniform(left, right), rng.uniform(4, 40)
        decals.append((_rectangle(layout, u, u + rng.uniform(0.5, 2.2), s, s + rng.uniform(1.0, 8.0)), Material.PATCH))
    for _ in range(int(rng.poisson(2.0))):  # cracks sealed with tar wander across the lanes
        along = np.linspace(0, rng.uniform(2, 14), 14) + rng.uniform(4, 30)
        across = rng.uniform(left, right) + np.cumsum(rng.normal(rng.normal(0, 0.12), 0.05, 14))
        width = rng.uniform(0.006, 0.025)
        path = np.concatenate(
            [layout.road.place(across - width, along), layout.road.place(across + width, along)[::-1]]
        )
        decals.append((path, Material.PATCH))
    for _ in range(int(rng.poisson(1.0 if layout.kind in ("urban", "suburban") else 0.1))):
        angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        u, s = rng.uniform(left, right), rng.uniform(5, 25)
        decals.append((layout.road.place(u + 0.32 * np.cos(angle), s + 0.32 * np.sin(angle)), Material.IRON))
    inside = (-layout.left.edge_m, layout.right.edge_m)
    return [(d, m) for d, m in decals if _within(layout, d, inside)]


def _within(layout: SceneLayout, corners: Floats, inside: tuple[float, float]) -> bool:
    """Whether a decal lies on asphalt only, neither on a sidewalk nor on the median."""
    u = corners[:, 0] - layout.road.centre(corners[:, 2])
    on_median = (u.min() < 0.5 * layout.median_m + 0.3) and (u.max() > -0.5 * layout.median_m - 0.3)
    return bool(u.min() > inside[0] and u.max() < inside[1] and not (layout.median_m > 0 and on_median))
