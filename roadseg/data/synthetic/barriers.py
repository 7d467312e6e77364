"""Guard rails, concrete walls, railings and road-work barriers along the road or its median."""

import numpy as np
import numpy.typing as npt

from roadseg.data.synthetic.camera import Floats
from roadseg.data.synthetic.classes import Label
from roadseg.data.synthetic.display import DisplayList
from roadseg.data.synthetic.layout import SceneLayout
from roadseg.data.synthetic.shapes import box

_STEEL = np.array([158.0, 162.0, 166.0])
_CONCRETE = np.array([176.0, 172.0, 164.0])


def add_barriers(display: DisplayList, layout: SceneLayout, rng: np.random.Generator) -> None:
    """Barriers where such a road has them: on medians, beside fast roads, and between sidewalk and street."""
    if layout.median_m > 0.0 and (layout.kind == "highway" or rng.random() < 0.5):
        build = _add_guard_rail if rng.random() < 0.6 else _add_concrete
        build(display, layout, 0.0, (2.0, 140.0), rng)
    for roadside in (layout.right, layout.left):
        if layout.kind in ("highway", "rural") and rng.random() < 0.62:
            u = roadside.side * (roadside.edge_m + 0.45)
            begin = 2.0 if rng.random() < 0.6 else rng.uniform(8, 35)
            build = _add_guard_rail if rng.random() < 0.8 else _add_concrete
            build(display, layout, u, (begin, begin + rng.uniform(40, 130)), rng)
        elif roadside.kerb and rng.random() < 0.42:
            begin = rng.uniform(3, 15)
            u = roadside.side * (roadside.edge_m + 0.5)
            _add_railing(display, layout, u, (begin, begin + rng.uniform(15, 45)), rng)
    if rng.random() < 0.1:
        _add_road_works(display, layout, rng)


def _stretches(layout: SceneLayout, span: tuple[float, float], step: float) -> tuple[Floats, Floats]:
    """Where short pieces begin and end, s (S,) each, none on the junction."""
    begins = np.arange(span[0], span[1], step)
    if layout.junction is not None:
        begins = begins[(begins + step < layout.junction[0] - 3.0) | (begins > layout.junction[1] + 1.0)]
    return begins, begins + step


def _ribbons(layout: SceneLayout, u: npt.ArrayLike, y: npt.ArrayLike, begins: Floats, ends: Floats) -> Floats:
    """Quads (S, N - 1, 4, 3) along the road for S pieces, over an outline of (N,) u and (N,) height."""
    near, far = layout.road.place(u, begins[:, None], y), layout.road.place(u, ends[:, None], y)
    return np.stack([near[:, :-1], near[:, 1:], far[:, 1:], far[:, :-1]], axis=2)


def _add_guard_rail(
    display: DisplayList, layout: SceneLayout, u: float, span: tuple[float, float], rng: np.random.Generator
) -> None:
    """A W-beam: two waves of steel between 0.45 m and 0.8 m, on posts."""
    tone = _STEEL * rng.uniform(0.8, 1.15)
    y = np.array([0.45, 0.53, 0.585, 0.625, 0.665, 0.72, 0.8])
    gains = np.array([0.72, 1.02, 0.62, 0.66, 1.06, 0.85])
    toward = -np.sign(u + layout.road.offset_m)
    wave = u + toward * np.array([0.0, 0.08, 0.08, 0.02, 0.08, 0.08, 0.0])
    begins, stops = _stretches(layout, span, 4.0)
    post = box((-0.06, 0.06), (0.0, 0.76), (-0.04, 0.04))[[1, 2, 4]]
    for a, b, beam in zip(begins, stops, _ribbons(layout, wave, y, begins, stops), strict=True):
        feet = layout.road.place(u - toward * 0.1, np.array([b - 2.0, a]))
        display.add(b, (feet[:, None, None] + post).reshape(6, 4, 3), tone * 0.62, Label.BARRIER)
        display.add(b, beam, tone, Label.BARRIER, gain=gains)
    _cast_wall(display, layout, u, begins, stops, (0.35, 0.8))


def _add_concrete(
    display: DisplayList, layout: SceneLayout, u: float, span: tuple[float, float], rng: np.random.Generator
) -> None:
    """A New Jersey profile, seen from the camera's side, in 4 m lengths with dark joints."""
    tone = _CONCRETE * rng.uniform(0.8, 1.12) + rng.normal(0, 3, 3)
    toward = -np.sign(u + layout.road.offset_m)
    half = toward * np.array([0.3, 0.3, 0.17, 0.09, -0.09])
    y = np.array([0.0, 0.08, 0.33, 0.9, 0.9])
    begins, stops = _stretches(layout, span, 4.0)
    walls = _ribbons(layout, u + half, y, begins, stops)
    joints = _ribbons(layout, u + half[:4] + toward * 0.004, y[:4], stops - 0.07, stops)
    ends = layout.road.place(u + np.append(half, -half[2::-1]), begins[:, None], np.append(y, y[2::-1]))
    for b, wall, joint, end in zip(stops, walls, joints, ends, strict=True):
        display.add(b, wall, tone * rng.uniform(0.95, 1.04), Label.BARRIER)
        display.add(b, end, tone * 0.8, Label.BARRIER)
        display.add(b, joint, tone * 0.5, Label.BARRIER, gain=0.6)
    _cast_wall(display, layout, u, begins, stops, (0.0, 0.9))


def _cast_wall(
    display: DisplayList, layout: SceneLayout, u: float, begins: Floats, stops: Floats, rise: tuple[float, float]
) -> None:
    """The shadow of a wall in straight lengths, short enough to follow a bend."""
    corners = layout.road.place(u, np.stack([begins, begins, stops, stops], axis=1), [*rise, *rise])
    for i in range(0, len(corners), 3):
        unbroken = corners[i : i + 3]
        if stops[min(i + 2, len(stops) - 1)] - begins[i] <= 3.01 * (stops[i] - begins[i]):  # no junction in between
            display.cast(unbroken.reshape(-1, 3))


def _add_railing(
    display: DisplayList, layout: SceneLayout, u: float, span: tuple[float, float], rng: np.random.Generator
) -> None:
    """A pedestrian railing: posts and two or three thin rails, which one sees through."""
    tone = np.array([(60, 66, 70), (168, 170, 172), (40, 70, 56)], np.float64)[rng.integers(3)]
    bars = [(1.0, 1.06), (0.55, 0.59), (0.15, 0.19)] if rng.random() < 0.5 else [(0.98, 1.05), (0.12, 0.17)]
    upright = len(bars) == 2
    begins, stops = _stretches(layout, span, 2.0)
    rails = np.concatenate([_ribbons(layout, [u, u], bar, begins, stops) for bar in bars], axis=1)
    for a, b, quads in zip(begins, stops, rails, strict=True):
        at = np.arange(a, b - 0.1, 0.2) if upright and a < 28 else np.array([a])
        half = np.where(at == a, 0.05, 0.018)[:, None] * np.array([-1.0, -1.0, 1.0, 1.0])
        uprights = layout.road.place(u, at[:, None] + half, [0.0, 1.05, 1.05, 0.0])
        display.add(b, np.concatenate([quads, uprights]), tone, Label.BARRIER, gain=0.85)


def _add_road_works(display: DisplayList, layout: SceneLayout, rng: np.random.Generator) -> None:
    """Red and white boards that close the outer edge of the road."""
    u = layout.right.edge_m - layout.right.parking_m - rng.uniform(0.5, 1.2)
    for s in np.arange(rng.uniform(8, 25), 60, 2.6)[: int(rng.integers(3, 8))]:
        frame = layout.road.frame(u, float(s))
        for x in (-0.55, 0.5):
            leg = box((x, x + 0.05), (0.0, 1.0), (0.0, 0.05))
            display.add(float(s), frame.to_world(leg), (150, 150, 150), Label.BARRIER)
        edges = np.linspace(-0.65, 0.65, 7)
        for i in range(6):
            x0, x1 = edges[i], edges[i + 1]
            lean = 0.1 if 0 < i < 5 else 0.0
            board = [(x0, 0.72, -0.01), (x0 + lean, 1.0, -0.01), (x1 + lean, 1.0, -0.01), (x1, 0.72, -0.01)]
            red = (206, 40, 34) if i % 2 else (236, 236, 232)
            display.add(float(s), frame.to_world(board), red, Label.BARRIER)
        display.touch(frame.to_world([(-0.6, 0, -0.15), (-0.6, 0, 0.15), (0.6, 0, 0.15), (0.6, 0, -0.15)]), 0.4)
