"""Poles and what they carry: street lights, traffic signs, traffic lights, gantries, delineators and bollards."""

import numpy as np

from roadseg.data.synthetic.camera import Floats
from roadseg.data.synthetic.classes import Label
from roadseg.data.synthetic.display import DisplayList
from roadseg.data.synthetic.layout import Roadside, SceneLayout
from roadseg.data.synthetic.shapes import box, disc, strip

_METALS = np.array([(128, 132, 136), (96, 100, 104), (62, 66, 68), (150, 150, 146), (58, 74, 66)], np.float64)


def add_furniture(display: DisplayList, layout: SceneLayout, rng: np.random.Generator) -> None:
    """All that stands on poles beside and over the road."""
    metal = _METALS[rng.integers(len(_METALS))] * rng.uniform(0.85, 1.15)
    lamps = rng.random() < {"urban": 0.8, "suburban": 0.7, "highway": 0.55, "rural": 0.2}[layout.kind]
    if lamps:
        _add_street_lights(display, layout, metal, rng)
    elif rng.random() < 0.5:
        _add_wooden_poles(display, layout, rng)
    for roadside in (layout.right, layout.left):
        count = rng.poisson(1.5 if roadside.side > 0 else 0.5)
        for s in rng.uniform(7, 55, count):
            if layout.junction is None or not layout.junction[0] - 1 < s < layout.junction[1] + 1:
                _add_sign(display, layout, roadside, float(s), metal, rng)
    if layout.junction is not None and rng.random() < (0.9 if layout.kind == "urban" else 0.55):
        _add_traffic_lights(display, layout, metal, rng)
    elif layout.kind in ("urban", "suburban") and rng.random() < 0.35:
        _add_crossing_lights(display, layout, metal, rng)
    if layout.kind == "highway" and rng.random() < 0.7:
        _add_gantry(display, layout, metal, rng)
    if layout.kind in ("rural", "highway"):
        _add_delineators(display, layout, rng)
    elif rng.random() < 0.25:
        _add_bollards(display, layout, metal, rng)


def _add_pole(
    display: DisplayList, base: Floats, height: float, radius: float, colour: Floats, top_share: float = 0.65
) -> None:
    """A round, tapered pole: three shaded strips facing the camera, and its shadow."""
    shares, gains = np.array([-1.0, -0.45, 0.4, 1.0]), np.array([1.05, 0.88, 0.62])
    low, high = base[0] + shares * radius, base[0] + shares * radius * top_share
    quads = np.empty((3, 4, 3))
    quads[:, 0], quads[:, 1], quads[:, 2], quads[:, 3] = base, base, base, base
    quads[:, 0, 0], quads[:, 1, 0], quads[:, 2, 0], quads[:, 3, 0] = low[:-1], high[:-1], high[1:], low[1:]
    quads[:, 1:3, 1] += height
    display.add(float(base[2]), quads, colour, Label.POLE, gain=gains)
    display.cast(np.concatenate([quads[0, :2], quads[2, 2:]]))


def _from(base: Floats, across: float, up: float, ahead: float) -> Floats:
    return base + np.array((across, up, ahead))


def _add_street_lights(display: DisplayList, layout: SceneLayout, metal: Floats, rng: np.random.Generator) -> None:
    height, arm = rng.uniform(6.0, 10.5), rng.uniform(0.9, 2.6)
    gap, radius, rise = rng.uniform(20, 38), rng.uniform(0.07, 0.11), rng.uniform(0.0, 0.9)
    lantern = layout.kind == "urban" and rng.random() < 0.2
    sides = (
        (layout.right, layout.left) if rng.random() < 0.55 else (layout.right if rng.random() < 0.7 else layout.left,)
    )
    for roadside in sides:
        for s in np.arange(rng.uniform(7, 20), 140, gap):
            if layout.junction is not None and layout.junction[0] - 1 < s < layout.junction[1] + 1:
                continue
            base = layout.road.place(roadside.side * roadside.furniture_m, s)
            if lantern:
                _add_lantern(display, base, 0.55 * height, metal)
                continue
            _add_pole(display, base, height, radius, metal)
            _add_arm(display, _from(base, 0.0, height, 0.0), -roadside.side * arm, rise, radius, metal)


def _add_arm(display: DisplayList, top: Floats, reach: float, rise: float, radius: float, metal: Floats) -> None:
    """A curved arm over the road, and the lamp head at its end."""
    t = np.linspace(0.0, 1.0, 5)[:, None]
    path = top + np.concatenate([reach * t, rise * np.sin(0.5 * np.pi * t), np.zeros_like(t)], axis=1)
    z, side = float(top[2]), np.sign(reach)
    display.add(z, strip(path, np.full(5, 1.1 * radius)), metal, Label.POLE, gain=0.8)
    tip = path[-1]
    head = np.array([(-0.05, -0.09), (0.0, 0.1), (0.55, 0.13), (0.95, 0.0), (0.9, -0.1)]) * (side, 1.0)
    display.add(z, tip + np.insert(head, 2, 0.0, axis=1), metal * 0.9, Label.STREET_LIGHT, gain=0.85)
    glass = np.array([(0.08, -0.07), (0.88, -0.08), (0.78, -0.17), (0.18, -0.16)]) * (side, 1.0)
    display.add(z, tip + np.insert(glass, 2, 0.0, axis=1), (226, 222, 200), Label.STREET_LIGHT, gain=1.0)


def _add_lantern(display: DisplayList, base: Floats, height: float, metal: Floats) -> None:
    _add_pole(display, base, height, 0.06, metal)
    z, top = float(base[2]), _from(base, 0.0, height, 0.0)
    glass = np.array([(-0.14, 0.0, 0), (-0.24, 0.5, 0), (0.24, 0.5, 0), (0.14, 0.0, 0)])
    roof = np.array([(-0.3, 0.5, 0), (0.0, 0.74, 0), (0.3, 0.5, 0)])
    display.add(z, top + glass, (232, 226, 200), Label.STREET_LIGHT, gain=0.95)
    display.add(z, top + roof, metal * 0.6, Label.STREET_LIGHT, gain=0.7)


def _add_wooden_poles(display: DisplayList, layout: SceneLayout, rng: np.random.Generator) -> None:
    roadside = layout.right if rng.random() < 0.6 else layout.left
    wood = np.array([110.0, 92.0, 74.0]) * rng.uniform(0.7, 1.1)
    height = rng.uniform(7.0, 10.0)
    for s in np.arange(rng.uniform(8, 22), 160, rng.uniform(24, 40)):
        base = layout.road.place(roadside.side * (roadside.furniture_m + 0.5), s)
        _add_pole(display, base, height, 0.13, wood, top_share=0.75)
        bar = base + np.array([(-0.9, height - 0.7, 0), (0.9, height - 0.7, 0)])
        display.add(float(s), strip(bar, [0.13, 0.13]), wood * 0.8, Label.POLE, gain=0.8)


def _add_sign(
    display: DisplayList, layout: SceneLayout, roadside: Roadside, s: float, metal: Floats, rng: np.random.Generator
) -> None:
    """A post with one or two plates that face the camera."""
    base = layout.road.place(roadside.side * (roadside.furniture_m + rng.uniform(-0.15, 0.5)), s)
    height, size = rng.uniform(2.0, 2.9), rng.uniform(0.3, 0.48) * (1.35 if layout.kind == "highway" else 1.0)
    _add_pole(display, base, height + size, 0.045, metal, top_share=1.0)
    _add_plate(display, _from(base, 0.0, height, -0.06), size, rng)
    if rng.random() < 0.35:
        _add_plate(display, _from(base, 0.0, height - 1.85 * size, -0.06), 0.75 * size, rng)


def _add_plate(display: DisplayList, middle: Floats, size: float, rng: np.random.Generator) -> None:
    """A plate of some common shape: nested outlines, and dark or white strokes for its symbol."""
    z, label = float(middle[2]), Label.TRAFFIC_SIGN
    red, white, blue, black = (198, 30, 34), (240, 240, 238), (26, 78, 160), (24, 24, 26)
    kind = int(rng.integers(6))
    if kind == 0:  # prohibition: a red ring
        layers = [(disc(size, 20), red), (disc(0.78 * size, 20), white)]
    elif kind == 1:  # warning: a triangle
        layers = [(disc(1.15 * size, 3), red), (disc(0.76 * size, 3), white if rng.random() < 0.6 else (246, 200, 40))]
    elif kind == 2:  # stop: an octagon
        layers = [(disc(1.05 * size, 8, 0.5), white), (disc(0.95 * size, 8, 0.5), red)]
    elif kind == 3:  # information: a blue square
        layers = [(disc(1.25 * size, 4, 0.5), white), (disc(1.15 * size, 4, 0.5), blue)]
    elif kind == 4:  # warning as a yellow diamond, or a priority road
        layers = [(disc(1.25 * size, 4), black), (disc(1.12 * size, 4), (240, 190, 30))]
    else:  # command: a blue disc
        layers = [(disc(size, 20), white), (disc(0.94 * size, 20), blue)]
    ink = black if kind in (0, 1, 4) else white
    lift = np.array([0.0, 0.0, -0.003])
    for i, (outline, colour) in enumerate(layers):
        display.add(z, middle + outline + i * lift, colour, label, gain=0.98)
    mark = rng.uniform(0.08, 0.13) * size
    tall = 0.42 * size * (0.7 if kind == 1 else 1.0)
    for x in (0.0,) if rng.random() < 0.5 else (-0.22 * size, 0.22 * size):
        stroke = (
            middle
            + 3 * lift
            + np.array([(x - mark, -tall, 0), (x - mark, tall, 0), (x + mark, tall, 0), (x + mark, -tall, 0)])
        )
        display.add(z, stroke, ink, label, gain=0.95)


def _add_head(display: DisplayList, middle: Floats, lit: int, board: bool) -> None:
    """Three lamps in a dark housing, the lit one bright; middle is the middle lamp's (3,) position."""
    z, label = float(middle[2]), Label.TRAFFIC_LIGHT
    if board:
        display.add(z, middle + disc(1.0, 4, 0.5) * (0.4, 0.78, 1.0), (18, 18, 20), label, gain=0.7)
    housing = box((-0.17, 0.17), (-0.5, 0.5), (-0.1, 0.1))
    display.add(z, middle + housing, (40, 42, 44), label, one_sided=True)
    bright, dull = ((255, 60, 46), (255, 190, 40), (60, 245, 170)), ((70, 22, 20), (72, 54, 20), (16, 58, 44))
    for i in range(3):
        lens = middle + disc(0.115, 12) + (0.0, 0.32 - 0.32 * i, -0.11)
        display.add(z, lens, bright[i] if i == lit else dull[i], label, gain=1.5 if i == lit else 0.8)


def _add_traffic_lights(display: DisplayList, layout: SceneLayout, metal: Floats, rng: np.random.Generator) -> None:
    """Lights at a junction: on posts at both sides, and often on an arm over the road."""
    assert layout.junction is not None
    lit, board = int(rng.integers(3)), bool(rng.random() < 0.3)
    arm = rng.random() < 0.6
    for s in (layout.junction[0] - 1.6, layout.junction[1] + 1.2):
        beyond = s > layout.junction[0]
        if beyond and rng.random() < 0.4:
            continue
        for roadside in (layout.right, layout.left):
            base = layout.road.place(roadside.side * (roadside.edge_m + 0.5), s)
            tall = 5.6 if arm and roadside.side > 0 else 2.9
            _add_pole(display, base, tall, 0.09, metal, top_share=0.8)
            _add_head(display, _from(base, -0.26 * roadside.side, 2.45, -0.05), lit, board)
            if tall > 5.0:
                reach = roadside.edge_m - 0.5 * layout.median_m - 0.6 * layout.lane_width_m
                path = base + np.array([(0.0, 5.4, 0.0), (-0.5 * reach, 5.65, 0.0), (-reach, 5.75, 0.0)])
                display.add(float(s), strip(path, [0.14, 0.11, 0.08]), metal, Label.POLE, gain=0.85)
                _add_head(display, path[2] + (0.1, -0.15, -0.12), lit, board)


def _add_crossing_lights(display: DisplayList, layout: SceneLayout, metal: Floats, rng: np.random.Generator) -> None:
    """Lights of a pedestrian crossing, away from junctions."""
    s, lit = rng.uniform(12, 40), int(rng.integers(3))
    for roadside in (layout.right, layout.left):
        base = layout.road.place(roadside.side * (roadside.edge_m + 0.5), s)
        _add_pole(display, base, 3.0, 0.07, metal)
        _add_head(display, _from(base, -0.25 * roadside.side, 2.5, -0.05), lit, False)


def _add_gantry(display: DisplayList, layout: SceneLayout, metal: Floats, rng: np.random.Generator) -> None:
    """A portal over the carriageway with direction panels."""
    s = float(rng.uniform(22, 80))
    right, left = layout.right.edge_m + 0.9, 0.2
    ends = [layout.road.place(u, s) for u in (left, right)]
    for base in ends:
        _add_pole(display, base, 7.2, 0.2, metal, top_share=1.0)
    for rise in (6.2, 7.0):
        bar = np.stack([_from(ends[0], 0, rise, 0), _from(ends[1], 0, rise, 0)])
        display.add(s, strip(bar, [0.16, 0.16]), metal, Label.POLE, gain=0.8)
    x = np.linspace(ends[0][0], ends[1][0], 13)
    y = np.where(np.arange(13) % 2, 7.0, 6.2)
    display.add(s, strip(np.stack([x, y, np.full(13, s)], axis=1), np.full(13, 0.09)), metal, Label.POLE, gain=0.7)
    ground = np.array([(20, 86, 62), (22, 74, 150)], np.float64)[rng.integers(2)]
    panels = int(rng.integers(1, 4))
    room = (right - left) / panels
    for i in range(panels):
        middle = _from(ends[0], room * (i + 0.5), 6.6, -0.2)
        half = np.array([min(2.2, 0.42 * room), rng.uniform(0.9, 1.4), 1.0])
        panel = disc(np.sqrt(2.0), 4, 0.5)
        display.add(s, middle + panel * half, (236, 238, 238), Label.TRAFFIC_SIGN, gain=0.95)
        display.add(s, middle + panel * (half - (0.07, 0.07, 0)), ground, Label.TRAFFIC_SIGN, gain=0.95)
        for row in (0.45, 0.0, -0.45):
            text = panel * half * (rng.uniform(0.3, 0.7), 0.12, 1.0) + (0.0, row * half[1], 0.0)
            display.add(s, middle + text, (240, 242, 242), Label.TRAFFIC_SIGN, gain=0.95)


def _add_delineators(display: DisplayList, layout: SceneLayout, rng: np.random.Generator) -> None:
    """White posts with a dark band and a reflector."""
    gap = rng.uniform(12, 30)
    for roadside in (layout.right, layout.left):
        for s in np.arange(rng.uniform(5, 15), 130, gap):
            base = layout.road.place(roadside.side * (roadside.edge_m + 0.25), s)
            for low, high, colour in (
                (0.0, 1.0, (232, 232, 230)),
                (0.68, 0.9, (34, 34, 36)),
                (0.74, 0.84, (230, 120, 40)),
            ):
                half = 0.06 if colour[0] != 230 else 0.03
                display.add(float(s), base + disc(np.sqrt(2), 4, 0.5) * (half, 0.5 * (high - low), 0)
                            + (0.0, 0.5 * (low + high), 0.0), colour, Label.POLE, gain=0.92)  # fmt: skip


def _add_bollards(display: DisplayList, layout: SceneLayout, metal: Floats, rng: np.random.Generator) -> None:
    roadside = layout.right if rng.random() < 0.5 else layout.left
    for s in np.arange(rng.uniform(5, 20), 60, rng.uniform(1.6, 3.0)):
        if layout.junction is None or not layout.junction[0] - 1 < s < layout.junction[1] + 1:
            base = layout.road.place(roadside.side * (roadside.edge_m + 0.45), s)
            _add_pole(display, base, 0.95, 0.065, metal * 0.8, top_share=1.0)
