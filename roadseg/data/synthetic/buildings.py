"""Town blocks and houses along the road, and the skyline behind them."""

import numpy as np

from roadseg.data.synthetic.camera import Floats
from roadseg.data.synthetic.classes import Label
from roadseg.data.synthetic.display import BACKGROUND_M, DisplayList
from roadseg.data.synthetic.layout import Roadside, SceneLayout
from roadseg.data.synthetic.shapes import grid, inset

_WALLS = np.array([
    (176, 160, 138), (198, 186, 164), (150, 92, 72), (168, 112, 86), (120, 118, 116), (206, 200, 190), (140, 132, 120),
    (188, 150, 110), (110, 92, 84), (214, 204, 170),
], np.float64)  # fmt: skip
_ROOFS = np.array([(120, 62, 48), (92, 58, 50), (74, 74, 80), (98, 92, 86)], np.float64)
_PANES = np.array([(52, 60, 70), (84, 98, 114), (150, 168, 186), (196, 186, 150)], np.float64)
_FARTHEST_M = 150.0


def add_buildings(
    display: DisplayList, layout: SceneLayout, rng: np.random.Generator
) -> list[tuple[float, float, int]]:
    """Buildings along both roadsides; returns the (s begin, s end, side) that they take up."""
    taken: list[tuple[float, float, int]] = []
    for roadside in (layout.right, layout.left):
        if layout.kind == "urban":
            taken += _add_blocks(display, layout, roadside, rng)
        elif layout.kind == "suburban" or rng.random() < 0.45:
            taken += _add_houses(display, layout, roadside, rng)
    if rng.random() < {"urban": 0.8, "suburban": 0.3, "highway": 0.4, "rural": 0.1}[layout.kind]:
        _add_skyline(display, rng)
    return taken


def _add_blocks(
    display: DisplayList, layout: SceneLayout, roadside: Roadside, rng: np.random.Generator
) -> list[tuple[float, float, int]]:
    taken = []
    s, setback = max(1.5, rng.uniform(-6, 9)), rng.uniform(0.2, 1.5)
    storeys = rng.uniform(2.5, 7.0)
    while s < _FARTHEST_M:
        end = s + rng.uniform(9, 26)
        if layout.junction is not None and s < layout.junction[1] + 4 and end > layout.junction[0] - 4:
            s = layout.junction[1] + rng.uniform(4, 6)
            continue
        if rng.random() < 0.84:
            height = 3.2 * max(2, round(storeys + rng.normal(0, 1.4))) + 1.0
            _add_block(display, layout, roadside, (s, end), setback + rng.uniform(0, 0.4), height, rng)
            taken.append((s, end, roadside.side))
        s = end + (0.0 if rng.random() < 0.65 else rng.uniform(2, 9))
    return taken


def _walls(
    layout: SceneLayout, side: int, front_u: float, span: tuple[float, float], height: float, depth: float
) -> tuple[Floats, Floats]:
    """The wall along the road and the near end wall, each (4, 3): bottom left, top left, top right, bottom right."""
    near, far = layout.road.frame(front_u, span[0]), layout.road.place(front_u, span[1])
    corner, back = near.origin, near.to_world((side * depth, 0.0, 0.0))
    up = np.array([0.0, height, 0.0])
    front = np.stack([far, far + up, corner + up, corner] if side > 0 else [corner, corner + up, far + up, far])
    end = np.stack([corner, corner + up, back + up, back] if side > 0 else [back, back + up, corner + up, corner])
    return front, end


def _add_block(
    display: DisplayList, layout: SceneLayout, roadside: Roadside, span: tuple[float, float], setback: float,
    height: float, rng: np.random.Generator,
) -> None:  # fmt: skip
    side, depth = roadside.side, rng.uniform(9, 14)
    front, end = _walls(layout, side, side * (roadside.outer_m + setback), span, height, depth)
    wall = _WALLS[rng.integers(len(_WALLS))] * rng.uniform(0.75, 1.1)
    far = span[1]  # what stands before a facade is nearer than the facade's far end, so painting by that end is right
    display.cast(np.concatenate([front, end]))
    ground_floor, pane_width, bare_end = rng.uniform(3.4, 4.2), rng.uniform(0.4, 0.7), rng.random() < 0.25
    trim, shop = wall * rng.uniform(0.6, 1.25), rng.random() < 0.55
    for quad, length in ((end, depth), (front, span[1] - span[0])):
        display.add(far, quad, wall, Label.BUILDING)
        if quad is end and bare_end:
            continue
        storeys = max(1, round((height - ground_floor) / 3.2))
        bays = max(2, round(length / (3.1 if span[0] < 70 else 5.0)))
        _add_windows(display, far, quad, (ground_floor / height, 1.0 - 0.7 / height), (storeys, bays), pane_width, rng)
        display.add(far, inset(quad, (0, 1), (1 - 0.45 / height, 1)), trim, Label.BUILDING)
        display.add(
            far, inset(quad, (0, 1), ((ground_floor - 0.35) / height, ground_floor / height)), trim, Label.BUILDING
        )
        if shop:
            _add_shops(display, far, quad, ground_floor / height, max(1, round(length / 5.5)), rng)


def _add_windows(
    display: DisplayList, far: float, quad: Floats, rise: tuple[float, float], counts: tuple[int, int],
    pane_width: float, rng: np.random.Generator,
) -> None:  # fmt: skip
    storeys, bays = counts
    bay, storey = np.arange(bays)[:, None], np.arange(storeys)[:, None]
    columns = (bay + 0.5 + np.array([-0.5, 0.5]) * pane_width) / bays
    rows = rise[0] + (rise[1] - rise[0]) * (storey + np.array([0.22, 0.8])) / storeys
    frames = grid(quad, columns + np.array([-0.05, 0.05]) / bays, rows + np.array([-0.05, 0.03]) / storeys)
    display.add(far, frames[None], (206, 202, 194) if rng.random() < 0.5 else (96, 92, 88), Label.BUILDING)
    panes = grid(quad, columns, rows)
    kind = rng.choice(len(_PANES), size=len(panes), p=[0.5, 0.28, 0.14, 0.08])
    for i, colour in enumerate(_PANES):
        if (kind == i).any():
            display.add(far, panes[kind == i][None], colour, Label.BUILDING, gain=0.9)


def _add_shops(
    display: DisplayList, far: float, quad: Floats, top: float, shops: int, rng: np.random.Generator
) -> None:
    bay = np.arange(shops)[:, None]
    glass = grid(quad, (bay + np.array([0.08, 0.92])) / shops, np.array([[0.06, 0.74]]) * top)
    display.add(far, glass[None], (58, 62, 66), Label.BUILDING, gain=0.85)
    boards = grid(quad, (bay + np.array([0.05, 0.95])) / shops, np.array([[0.76, 0.95]]) * top)
    colours = rng.uniform(40, 210, (shops, 3))
    display.add(far, boards, colours, Label.BUILDING)
    doors = grid(quad, (bay + np.array([0.44, 0.58])) / shops, np.array([[0.0, 0.7]]) * top)
    display.add(far, doors[None], (84, 74, 66), Label.BUILDING)


def _add_houses(
    display: DisplayList, layout: SceneLayout, roadside: Roadside, rng: np.random.Generator
) -> list[tuple[float, float, int]]:
    taken = []
    sparse = layout.kind != "suburban"
    s = rng.uniform(2, 14) + (25 if sparse else 0)
    while s < _FARTHEST_M:
        end = s + rng.uniform(8, 13)
        blocked = layout.junction is not None and s < layout.junction[1] + 3 and end > layout.junction[0] - 3
        if not blocked:
            setback = rng.uniform(12, 30) if sparse else rng.uniform(3.5, 8)
            _add_house(display, layout, roadside, (s, end), setback, rng)
            taken.append((s, end, roadside.side))
        s = end + (rng.uniform(15, 60) if sparse else rng.uniform(3, 10))
    return taken


def _add_house(
    display: DisplayList, layout: SceneLayout, roadside: Roadside, span: tuple[float, float], setback: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    side, depth, storeys = roadside.side, rng.uniform(7, 10), int(rng.integers(1, 3))
    height, far = 2.9 * storeys + 0.3, span[1] + 3.0
    front, end = _walls(layout, side, side * (roadside.outer_m + setback), span, height, depth)
    wall = _WALLS[rng.integers(len(_WALLS))] * rng.uniform(0.9, 1.15)
    roof = _ROOFS[rng.integers(len(_ROOFS))] * rng.uniform(0.85, 1.15)
    rise = np.array([0.0, rng.uniform(1.8, 3.2), 0.0])
    near_ridge = 0.5 * (end[1] + end[2]) + rise
    near_corner, far_corner = (front[2], front[1]) if side > 0 else (front[1], front[2])
    far_ridge = near_ridge + far_corner - near_corner
    display.cast(np.concatenate([front, end, [near_ridge, far_ridge]]))
    display.add(far, end, wall, Label.BUILDING)
    display.add(far, np.stack([end[1], near_ridge, end[2]]), wall, Label.BUILDING)
    display.add(far, front, wall, Label.BUILDING)
    eaves = np.array([0.0, -0.15, 0.0])
    slope = np.stack([near_corner + eaves, near_ridge, far_ridge, far_corner + eaves])
    display.add(far, slope, roof, Label.BUILDING)
    for quad, bays in ((end, 2), (front, 3)):
        _add_windows(display, far, quad, (0.02, 0.98), (storeys, bays), 0.36, rng)
    display.add(far, inset(front, (0.42, 0.52), (0.0, 2.1 / height)), rng.uniform(40, 120, 3), Label.BUILDING)


def _add_skyline(display: DisplayList, rng: np.random.Generator) -> None:
    """Towers far away, as flat silhouettes with rows of windows."""
    distance = rng.uniform(260, 420)
    tall = rng.uniform(12, 45)
    for x in np.cumsum(rng.uniform(14, 60, 14)) - 0.5 * 37 * 14:
        width, height = rng.uniform(14, 40), tall * rng.uniform(0.35, 1.2)
        quad = np.array(
            [(x, 0, distance), (x, height, distance), (x + width, height, distance), (x + width, 0, distance)]
        )
        grey = rng.uniform(95, 165) + rng.normal(0, 6, 3)
        display.add(BACKGROUND_M, quad, grey, Label.BUILDING, gain=rng.uniform(0.65, 1.0))
        rows = (np.arange(int(height // 5))[:, None] + np.array([0.3, 0.7])) / max(1.0, height / 5)
        if len(rows):
            display.add(
                BACKGROUND_M, grid(quad, np.array([[0.06, 0.94]]), rows)[None], grey * 0.75, Label.BUILDING, 0.85
            )
