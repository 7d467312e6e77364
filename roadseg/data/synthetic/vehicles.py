"""Cars, vans, lorries and buses from two convex solids each, with glass, wheels, lights and plates."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from roadseg.data.synthetic.camera import Floats
from roadseg.data.synthetic.classes import Label
from roadseg.data.synthetic.display import DisplayList
from roadseg.data.synthetic.layout import SceneLayout
from roadseg.data.synthetic.shapes import box, disc, inset, prism

_PAINTS = np.array([
    (228, 229, 230), (205, 208, 212), (150, 154, 160), (96, 100, 106), (42, 43, 47), (26, 27, 30), (150, 26, 30),
    (32, 58, 120), (60, 96, 150), (120, 104, 82), (44, 84, 66), (200, 150, 50),
], np.float64)  # fmt: skip
_FINISHES: dict[str, tuple[int, int, int] | Floats] = {
    "glass": (44, 52, 60), "tyre": (24, 24, 26), "trim": (30, 30, 32), "rim": (135, 138, 142), "hub": (70, 72, 75),
    "plate": (236, 232, 210), "tail lamp": (140, 18, 22), "head lamp": (200, 208, 214),
}  # fmt: skip
_STYLES = 4  # variants of each body's lamps

_Piece = tuple[Floats, str, float | None]  # polygons (B, N, 3), finish, gain


@dataclass(frozen=True)
class _Body:
    """Outline of a kind of vehicle, metres; z runs from the rear, y from the road.

    Attributes:
        length, width, roof: overall size.
        waist: height where the glass begins.
        cabin: z of rear waist, rear roof, front roof, front waist.
        tuck: how much narrower the roof is than the waist, on each side.
        chance: how often it is met.
    """

    length: float
    width: float
    roof: float
    waist: float
    cabin: tuple[float, float, float, float]
    tuck: float
    chance: float


class _Part(NamedTuple):
    """A slice of a model's points: B polygons of N corners with one finish."""

    start: int
    stop: int
    shape: tuple[int, ...]
    finish: str
    gain: float | None


class _Model(NamedTuple):
    """A body's points (V, 3) in local metres, its parts, and what casts its shadow and darkens the ground under it."""

    points: Floats
    parts: tuple[_Part, ...]
    hull: Floats
    footprint: Floats


_BODIES = (
    _Body(4.1, 1.76, 1.48, 0.92, (0.12, 0.55, 2.3, 3.2), 0.17, 0.30),  # hatchback
    _Body(4.7, 1.82, 1.44, 0.92, (0.75, 1.45, 2.7, 3.6), 0.19, 0.26),  # saloon
    _Body(4.6, 1.88, 1.70, 1.02, (0.08, 0.42, 2.8, 3.55), 0.14, 0.24),  # SUV
    _Body(5.2, 1.98, 2.25, 1.15, (0.05, 0.12, 3.9, 4.7), 0.09, 0.12),  # van
    _Body(8.5, 2.45, 3.30, 1.20, (0.02, 0.04, 8.2, 8.4), 0.02, 0.08),  # lorry or bus
)


def add_traffic(display: DisplayList, layout: SceneLayout, rng: np.random.Generator) -> None:
    """Vehicles ahead in the camera's direction, oncoming ones, and parked ones, without overlap."""
    half, width = 0.5 * layout.median_m, layout.lane_width_m
    density = rng.uniform(0.12, 1.0)
    for lane in range(layout.lanes_ahead):
        u = half + (lane + 0.5) * width
        own = abs(u + layout.road.offset_m) < 0.6 * width
        _fill_lane(display, layout, rng, u, 9.0 if own else 5.0, density, backwards=False)
    for lane in range(layout.lanes_back):
        _fill_lane(display, layout, rng, -half - (lane + 0.5) * width, 6.0, density, backwards=True)
    for roadside, lanes in ((layout.right, layout.lanes_ahead), (layout.left, layout.lanes_back)):
        if roadside.parking_m > 0.0:
            u = roadside.side * (half + lanes * width + 0.5 * roadside.parking_m + 0.15)
            _park(display, layout, rng, u, backwards=roadside.side < 0)


def _fill_lane(
    display: DisplayList,
    layout: SceneLayout,
    rng: np.random.Generator,
    u: float,
    first_m: float,
    density: float,
    backwards: bool,
) -> None:
    s = first_m + rng.exponential(16.0) / density
    while s < 130.0:
        length = _add_vehicle(display, layout, rng, u + rng.normal(0.0, 0.15), s, backwards, parked=False)
        s += length + 4.0 + rng.exponential(28.0) / density


def _park(display: DisplayList, layout: SceneLayout, rng: np.random.Generator, u: float, backwards: bool) -> None:
    s = rng.uniform(4.0, 9.0)
    while s < 75.0:
        near_junction = layout.junction is not None and layout.junction[0] - 9.0 < s < layout.junction[1] + 3.0
        if near_junction or rng.random() < 0.3:
            s += 6.0
            continue
        s += _add_vehicle(display, layout, rng, u + rng.normal(0.0, 0.07), s, backwards, parked=True) + 1.2


def _add_vehicle(
    display: DisplayList,
    layout: SceneLayout,
    rng: np.random.Generator,
    u: float,
    s: float,
    backwards: bool,
    parked: bool,
) -> float:
    """Add one vehicle whose near end is at s; returns its length."""
    chances = np.array([b.chance for b in _BODIES[:4] if parked] or [b.chance for b in _BODIES])
    body = _BODIES[int(rng.choice(len(chances), p=chances / chances.sum()))]
    model = _model(_BODIES.index(body), int(rng.integers(_STYLES)))
    frame = layout.road.frame(u, s + body.length if backwards else s, backwards)
    display.cast(frame.to_world(model.hull))
    display.touch(frame.to_world(model.footprint), 0.62)
    colours = dict(_FINISHES)
    colours["paint"] = _PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.85, 1.1)
    if not parked and rng.random() < 0.45:
        colours["tail lamp"], colours["head lamp"] = (255, 36, 30), (255, 252, 240)
    world = frame.to_world(model.points)
    for part in model.parts:
        points = world[part.start : part.stop].reshape(part.shape)
        display.add(s, points, colours[part.finish], Label.VEHICLE, part.gain, one_sided=True)
    return body.length


@lru_cache(maxsize=64)
def _model(kind: int, style: int) -> _Model:
    """The parts of a body in local metres, the ones painted first in front."""
    body = _BODIES[kind]
    rng = np.random.default_rng(np.random.SeedSequence(style, spawn_key=(kind,)))
    pieces = [*_underbody(body), *_hull(body), *_cabin(body), *_ends(body, rng)]
    parts, start = [], 0
    for array, finish, gain in pieces:
        stop = start + array.size // 3
        parts.append(_Part(start, stop, array.shape, finish, gain))
        start = stop
    half = 0.5 * body.width
    footprint = np.array([(x, 0.0, z) for x in (-half, half) for z in (0.05, body.length - 0.05)])
    top = np.array([(x, body.roof, z) for x in (-half + body.tuck, half - body.tuck) for z in body.cabin[1:3]])
    waist = footprint * (1.0, 0.0, 1.0) + (0.0, body.waist, 0.0)
    points = np.concatenate([array.reshape(-1, 3) for array, _, _ in pieces])
    return _Model(points, tuple(parts), np.concatenate([footprint, waist, top]), footprint * (1.03, 0.0, 1.0))


def _underbody(body: _Body) -> list[_Piece]:
    """Tyres under the bumpers, half hidden by the body."""
    half = 0.5 * body.width
    tyres = [
        box((x, x + 0.22), (0.0, 0.45), (z, z + 0.56))
        for x in (-half + 0.02, half - 0.24)
        for z in (body.length - 1.15, 0.62)
    ]
    return [(np.concatenate(tyres), "tyre", None)]


def _hull(body: _Body) -> list[_Piece]:
    half, length, waist = 0.5 * body.width, body.length, body.waist
    bonnet = waist - 0.12 if body.cabin[3] < length - 0.5 else waist
    profile = [(0.1, 0.26), (0.0, 0.42), (0.0, 0.66), (0.06, waist), (length - 0.22, bonnet), (length, 0.62),
               (length, 0.4), (length - 0.12, 0.22)]  # fmt: skip
    sides, faces = prism(profile, half - np.array([0.06, 0.03, 0.0, 0.05, 0.1, 0.06, 0.06, 0.1]))
    pieces: list[_Piece] = [(sides, "paint", None), (faces[[4, 3, 6, 5, 0, 1, 2]], "paint", None)]
    wheels = [(side, z) for side in (-1.0, 1.0) for z in (0.81 * length, 0.17 * length + 0.1)]
    for radius, finish in ((0.36, "trim"), (0.33, "tyre"), (0.2, "rim"), (0.07, "hub")):
        discs = []
        for side, z in wheels:
            wheel = disc(radius, 14)[:, [2, 1, 0]] * (1.0, 1.0, side)  # wound so that it faces away from the body
            wheel += (side * half, 0.33, z)
            wheel[:, 1] = np.maximum(wheel[:, 1], 0.0)
            discs.append(wheel)
        pieces.append((np.stack(discs), finish, 0.8))
    return pieces


def _cabin(body: _Body) -> list[_Piece]:
    half = 0.5 * body.width - 0.05
    roof = half - body.tuck
    z0, z1, z2, z3 = body.cabin
    profile = [(z0, body.waist), (z1, body.roof - 0.05), (z1 + 0.25, body.roof), (z2 - 0.2, body.roof),
               (z2, body.roof - 0.05), (z3, body.waist - 0.02)]  # fmt: skip
    sides, faces = prism(profile, [half, roof, roof, roof, roof, half])
    screens = [inset(np.roll(faces[4], 2, axis=0), (0.05, 0.95), (0.08, 0.94))]
    if body.length < 6.0:
        screens.append(inset(faces[0], (0.07, 0.93), (0.16, 0.92)))
    panes = [(0.08, 0.46), (0.51, 0.93)] if body.length < 6.0 else [(i / 7 + 0.02, (i + 1) / 7) for i in range(7)]
    left = sides[0][::-1]  # corners of both flanks now run rear waist, rear roof, ..., front waist
    windows = [inset(flank[[0, 1, 4, 5]], pane, (0.12, 0.9)) for flank in (left, sides[1]) for pane in panes]
    windows[: len(panes)] = [w[::-1] for w in windows[: len(panes)]]
    return [
        (faces[::-1], "paint", None), (sides, "paint", None), (np.stack(screens), "glass", 1.1),
        (np.stack(windows), "glass", 0.95),
    ]  # fmt: skip


def _ends(body: _Body, rng: np.random.Generator) -> list[_Piece]:
    """Bumpers, plates, grille, lamps and mirrors."""
    half, length = 0.5 * body.width, body.length
    rear = np.array([(-half, 0.0, -0.012), (-half, 1.0, -0.012), (half, 1.0, -0.012), (half, 0.0, -0.012)])
    front = rear * (-1.0, 1.0, 0.0) + (0.0, 0.0, length + 0.012)
    low, high, edge = 0.66, 0.66 + rng.uniform(0.1, 0.24), rng.uniform(0.13, 0.24)
    bumpers = np.stack([inset(rear, (0.05, 0.95), (0.27, 0.42)), inset(front, (0.06, 0.94), (0.25, 0.36))])
    grille = np.stack([inset(front, (0.28, 0.72), (0.42, 0.6)), inset(rear, (0.06, 0.94), (0.455, 0.47))])
    plates = np.stack([inset(quad, (0.38, 0.62), (up, up + 0.1)) for quad, up in ((rear, 0.5), (front, 0.4))])
    tail = np.stack([inset(rear, across, (low, high)) for across in ((0.03, edge), (1.0 - edge, 0.97))])
    head = np.stack([inset(front, across, (0.6, 0.73)) for across in ((0.03, edge), (1.0 - edge, 0.97))])
    rise, ahead = (body.waist - 0.02, body.waist + 0.12), (body.cabin[3] - 0.35, body.cabin[3] - 0.2)
    mirrors = np.concatenate([box((x, x + 0.16), rise, ahead) for x in (-half - 0.12, half - 0.04)])
    return [
        (bumpers, "trim", 0.8), (grille, "trim", 0.7), (plates, "plate", 1.0), (tail, "tail lamp", 1.1),
        (head, "head lamp", 1.1), (mirrors, "trim", None),
    ]  # fmt: skip
