"""The plan of a scene: camera, road, lanes, roadsides and light, drawn from a seed in metres, before any pixel."""

from dataclasses import dataclass

import numpy as np

from roadseg.data.synthetic.camera import Camera, RoadCurve
from roadseg.data.synthetic.light import Light, draw_light

KERB_HEIGHT_M = 0.13

# Kind of surroundings -> chance.
_KINDS = {"urban": 0.42, "suburban": 0.22, "highway": 0.18, "rural": 0.18}


@dataclass(frozen=True)
class LaneLine:
    """A line painted along the road.

    Attributes:
        u: its middle in road coordinates, metres.
        width_m: its width.
        dashed: whether it follows the layout's dash pattern; otherwise it is solid.
        yellow: whether it is yellow; otherwise white.
    """

    u: float
    width_m: float
    dashed: bool = False
    yellow: bool = False


@dataclass(frozen=True)
class Roadside:
    """What lies beside the road, on one side; distances are from the centre line, in metres, all positive.

    Attributes:
        side: +1 right, -1 left.
        edge_m: where the asphalt ends.
        kerb: whether a kerb and a sidewalk follow.
        strip_m: width of the grass strip between kerb and sidewalk; 0 for none.
        walk_m: width of the sidewalk.
        parking_m: width of the parking lane, part of the asphalt; 0 for none.
    """

    side: int
    edge_m: float
    kerb: bool
    strip_m: float
    walk_m: float
    parking_m: float

    @property
    def outer_m(self) -> float:
        """Where the sidewalk, or the verge of a road without one, ends."""
        return self.edge_m + (0.3 + self.strip_m + self.walk_m if self.kerb else 1.5)

    @property
    def furniture_m(self) -> float:
        """Where poles and signs stand."""
        return self.edge_m + (0.75 if self.kerb else 1.1)


@dataclass(frozen=True)
class SceneLayout:
    """Everything that fixes a scene except its size; see `plan_scene`.

    Attributes:
        seed: the scene's seed, from which objects, textures and noise are drawn too.
        kind: "urban", "suburban", "highway" or "rural".
        camera: where the picture is taken from.
        road: the centre line.
        light: light and weather.
        lane_width_m: width of a lane.
        lanes_ahead: lanes in the camera's direction, right of the median.
        lanes_back: lanes in the other direction, left of the median.
        median_m: width of the median around u = 0; 0 for none.
        lines: painted along the road.
        dash: (length, gap, start) of dashed lines, metres.
        right: the roadside beyond the lanes ahead.
        left: the roadside beyond the lanes back.
        junction: (nearest, farthest) s of a crossing road, or None.
    """

    seed: int
    kind: str
    camera: Camera
    road: RoadCurve
    light: Light
    lane_width_m: float
    lanes_ahead: int
    lanes_back: int
    median_m: float
    lines: tuple[LaneLine, ...]
    dash: tuple[float, float, float]
    right: Roadside
    left: Roadside
    junction: tuple[float, float] | None

    def dash_painted(self, s: np.ndarray) -> np.ndarray:
        """Whether dashed lines are painted at distances s in metres; same shape, bool."""
        length, gap, start = self.dash
        return (s - start) % (length + gap) < length

    def random(self, purpose: int) -> np.random.Generator:
        """The scene's own stream of random numbers for one purpose, so that no part disturbs another."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(purpose,)))


def plan_scene(seed: int) -> SceneLayout:
    """Draw a scene's plan from its seed, a non-negative integer."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    kind = str(rng.choice(list(_KINDS), p=list(_KINDS.values())))
    highway = kind == "highway"
    width = float(rng.uniform(3.4, 3.75) if highway else rng.uniform(2.9, 3.5))
    ahead = int(rng.choice([2, 3, 4], p=[0.5, 0.35, 0.15]) if highway else rng.choice([1, 2], p=_two_lanes(kind)))
    back = int(rng.choice([2, 3])) if highway else max(1, ahead - int(rng.random() < 0.25))
    median = float(rng.uniform(1.4, 3.0) if highway else rng.choice([0.0, rng.uniform(0.9, 2.0)], p=[0.75, 0.25]))
    if kind in ("rural", "suburban"):
        median = 0.0
    right = _draw_roadside(rng, 1, kind, 0.5 * median + ahead * width)
    left = _draw_roadside(rng, -1, kind, 0.5 * median + back * width)
    road = _draw_curve(rng, kind, 0.5 * median + (int(rng.integers(ahead)) + 0.5) * width)
    at = float(rng.uniform(16, 42))
    crossing = (at, at + float(rng.uniform(7, 13))) if rng.random() < _junction_chance(kind, median) else None
    return SceneLayout(
        seed=seed,
        kind=kind,
        camera=_draw_camera(rng),
        road=road,
        light=draw_light(rng),
        lane_width_m=width,
        lanes_ahead=ahead,
        lanes_back=back,
        median_m=median,
        lines=_draw_lines(rng, highway, width, ahead, back, median),
        dash=_draw_dash(rng, highway),
        right=right,
        left=left,
        junction=crossing,
    )


def _draw_curve(rng: np.random.Generator, kind: str, lane_u: float) -> RoadCurve:
    sharpest = {"highway": 1 / 300, "urban": 1 / 150}.get(kind, 1 / 85)
    curvature = rng.choice([0.0, 1.0, -1.0], p=[0.3, 0.35, 0.35]) * rng.uniform(0.1, 1.0) * sharpest
    return RoadCurve(float(-lane_u + rng.normal(0.0, 0.2)), float(rng.normal(0.0, 0.012)), float(curvature))


def _two_lanes(kind: str) -> list[float]:
    return [0.5, 0.5] if kind == "urban" else [0.9, 0.1]


def _junction_chance(kind: str, median: float) -> float:
    return {"urban": 0.65, "suburban": 0.4, "highway": 0.0, "rural": 0.1}[kind] * (1.0 if median == 0.0 else 0.8)


def _draw_camera(rng: np.random.Generator) -> Camera:
    focal = float(rng.uniform(0.62, 1.0))
    horizon = float(rng.uniform(-0.05, 0.075))  # above the picture's middle, in image widths
    return Camera(float(rng.uniform(1.2, 2.1)), float(np.arctan(horizon / focal)), focal, bool(rng.random() < 0.25))


def _draw_dash(rng: np.random.Generator, highway: bool) -> tuple[float, float, float]:
    length = float(rng.uniform(3.0, 6.0) if highway else rng.uniform(1.5, 3.5))
    gap = length * float(rng.uniform(1.0, 2.0))
    return length, gap, float(rng.uniform(0.0, length + gap))


def _draw_roadside(rng: np.random.Generator, side: int, kind: str, lanes_m: float) -> Roadside:
    kerb = kind in ("urban", "suburban") or (kind == "rural" and rng.random() < 0.2)
    parking = float(rng.uniform(1.9, 2.3)) if kind == "urban" and rng.random() < 0.5 else 0.0
    shoulder = float(rng.uniform(1.8, 3.0)) if kind == "highway" else float(rng.uniform(0.25, 0.6))
    strip = float(rng.uniform(0.8, 2.2)) if rng.random() < (0.65 if kind == "suburban" else 0.25) else 0.0
    walk = float(rng.uniform(2.0, 4.5) if kind == "urban" else rng.uniform(1.3, 2.2))
    return Roadside(side, lanes_m + parking + shoulder, kerb, strip, walk, parking)


def _draw_lines(
    rng: np.random.Generator, highway: bool, width: float, ahead: int, back: int, median: float
) -> tuple[LaneLine, ...]:
    paint = float(rng.uniform(0.12, 0.2) if highway else rng.uniform(0.1, 0.15))
    yellow = bool(rng.random() < 0.35)
    half = 0.5 * median
    lines = [LaneLine(half + i * width, paint, dashed=True) for i in range(1, ahead)]
    lines += [LaneLine(-half - i * width, paint, dashed=True) for i in range(1, back)]
    edges = highway or rng.random() < 0.6
    if edges:
        lines += [LaneLine(half + ahead * width, paint), LaneLine(-half - back * width, paint)]
    if median > 0.0:
        return (*lines, LaneLine(half + 0.15, paint, yellow=yellow), LaneLine(-half - 0.15, paint, yellow=yellow))
    style = rng.choice(["dashed", "solid", "double"], p=[0.5, 0.25, 0.25])
    if style == "double":
        return (*lines, LaneLine(0.12, paint, yellow=yellow), LaneLine(-0.12, paint, yellow=yellow))
    return (*lines, LaneLine(0.0, paint, dashed=style == "dashed", yellow=yellow))
