"""The ground: road, markings, sidewalks and verges, textured and shaded, straight from each pixel's place on the plane.

No polygons are drawn: each canvas row has one distance, and along it the distance from the centre line grows evenly, so
that a table of the road's cross-section gives each pixel's material exactly, at any distance.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from roadseg.data.synthetic.camera import Floats
from roadseg.data.synthetic.classes import RANK, Label
from roadseg.data.synthetic.layout import KERB_HEIGHT_M, Roadside, SceneLayout
from roadseg.data.synthetic.textures import (
    ASPHALT_TILE,
    GRASS_TILE,
    GROUND_TILE_BITS,
    PAVING_TILE,
    blotches,
    ground_tiles,
)


class Material(IntEnum):
    """What the ground is made of; 0 in a decal map means that there is no decal."""

    NONE = 0
    ASPHALT = 1
    SHOULDER = 2
    PATCH = 3
    IRON = 4
    WHITE = 5
    YELLOW = 6
    PAVING = 7
    KERB_FACE = 8
    KERB_TOP = 9
    GRASS = 10
    SOIL = 11
    FIELD = 12


_LABELS = {
    Material.NONE: Label.TERRAIN, Material.ASPHALT: Label.ROAD, Material.SHOULDER: Label.ROAD,
    Material.PATCH: Label.ROAD, Material.IRON: Label.ROAD, Material.WHITE: Label.LANE_MARKING,
    Material.YELLOW: Label.LANE_MARKING, Material.PAVING: Label.SIDEWALK, Material.KERB_FACE: Label.SIDEWALK,
    Material.KERB_TOP: Label.SIDEWALK, Material.GRASS: Label.TERRAIN, Material.SOIL: Label.TERRAIN,
    Material.FIELD: Label.TERRAIN,
}  # fmt: skip
_TILE = np.full(len(Material), ASPHALT_TILE, np.intp)
_TILE[[Material.GRASS, Material.FIELD]] = GRASS_TILE
_TILE[Material.PAVING] = PAVING_TILE
_GRAIN = np.array([0, 17, 20, 15, 12, 13, 13, 16, 10, 10, 38, 30, 34], np.float32)  # /128, strength of the tile

_REACH_M = 80.0  # the cross-section table ends this far from the centre line
_PER_M = 100  # table entries a metre, and texels a metre
_LEVELS = 128  # brightness steps of a material; the middle one is its own colour
_FARTHEST_M = 900.0
_BAND_PIXELS = 1 << 16  # rows are worked on in bands of about this many pixels, which stay in the cache


@dataclass(frozen=True)
class GroundTables:
    """A scene's ground as look-up tables, independent of the picture's size.

    Attributes:
        sections: (3 * entries,) material across the road: dashes off, dashes on, junction.
        wear: (entries,) brightness offset across the road: tyre tracks.
        colours: (materials * levels,) uint32, each the four bytes red, green, blue, rank.
        shift: texel offsets along u, s of tile and blotches, so that no two scenes lie on the same spot.
    """

    sections: npt.NDArray[np.uint8]
    wear: npt.NDArray[np.int16]
    colours: npt.NDArray[np.uint32]
    shift: tuple[int, int, int, int]


def ground_tables(layout: SceneLayout) -> GroundTables:
    """Draw a scene's ground materials, colours and wear."""
    rng = layout.random(1)
    u = (np.arange(2 * int(_REACH_M) * _PER_M) + 0.5) / _PER_M - _REACH_M
    bare = _cross_section(layout, u, rng)
    off, on = bare.copy(), bare.copy()
    for line in layout.lines:
        here = np.abs(u - line.u) <= 0.5 * line.width_m
        paint = Material.YELLOW if line.yellow else Material.WHITE
        on[here] = paint
        if not line.dashed:
            off[here] = paint
    junction = np.where(np.abs(u) < _REACH_M - 5, Material.ASPHALT, Material.GRASS).astype(np.uint8)
    shift = tuple(int(v) for v in rng.integers(1 << GROUND_TILE_BITS, size=4))
    return GroundTables(
        np.concatenate([off, on, junction]), _tyre_tracks(layout, u, rng), _ramps(layout, rng), shift  # type: ignore[arg-type]
    )  # fmt: skip


def _cross_section(layout: SceneLayout, u: Floats, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    section = np.full(u.shape, Material.ASPHALT, np.uint8)
    for roadside, lanes in ((layout.right, layout.lanes_ahead), (layout.left, layout.lanes_back)):
        beside = u * roadside.side
        section[beside > 0.5 * layout.median_m + lanes * layout.lane_width_m + 0.2] = Material.SHOULDER
        _lay_roadside(layout, roadside, beside, section, rng)
    if layout.median_m > 0.0:
        grass = Material.SOIL if rng.random() < 0.3 else Material.GRASS
        section[np.abs(u) < 0.5 * layout.median_m] = Material.KERB_TOP if layout.kind == "urban" else grass
        section[np.abs(u) < 0.5 * layout.median_m - 0.2] = grass
    return section


def _lay_roadside(
    layout: SceneLayout, roadside: Roadside, beside: Floats, section: npt.NDArray[np.uint8], rng: np.random.Generator
) -> None:
    edge = roadside.edge_m
    if roadside.kerb:
        # A kerb hides what lies behind it: on a straight road, exactly this much ground, at any distance.
        away = abs(edge * roadside.side + layout.road.offset_m)
        face = KERB_HEIGHT_M * away / (layout.camera.height_m - KERB_HEIGHT_M)
        walk = edge + face + 0.15 + roadside.strip_m
        yard = Material.SOIL if layout.kind == "urban" and rng.random() < 0.4 else Material.GRASS
        section[beside > edge] = Material.KERB_FACE
        section[beside > edge + face] = Material.KERB_TOP
        section[beside > edge + face + 0.15] = Material.GRASS
        section[beside > walk] = Material.PAVING
        section[beside > walk + roadside.walk_m] = yard
    else:
        section[beside > edge] = Material.SOIL
        section[beside > edge + rng.uniform(0.2, 0.9)] = Material.GRASS
    if layout.kind in ("rural", "highway"):
        near = roadside.outer_m + rng.uniform(3, 10)
        for i, material in enumerate(rng.permutation([Material.FIELD, Material.GRASS, Material.FIELD, Material.SOIL])):
            section[beside > near + 16.0 * i] = material


def _tyre_tracks(layout: SceneLayout, u: Floats, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Darker or lighter bands where wheels run, and the oily middle of each lane, in brightness steps."""
    coarse = u[3::8]  # bands are wide, and exponentials slow
    tracks = np.zeros(coarse.shape)
    strength, oil = rng.uniform(-9, 4), rng.uniform(0, 7)
    for sign, lanes in ((1, layout.lanes_ahead), (-1, layout.lanes_back)):
        for lane in range(lanes):
            middle = sign * (0.5 * layout.median_m + (lane + 0.5) * layout.lane_width_m)
            for wheel in (-0.8, 0.8):
                tracks += strength * np.exp(-(((coarse - middle - wheel) / 0.3) ** 2))
            tracks -= oil * np.exp(-(((coarse - middle) / 0.35) ** 2))
    return np.repeat(tracks, 8).astype(np.int16)


def _ramps(layout: SceneLayout, rng: np.random.Generator) -> npt.NDArray[np.uint32]:
    asphalt = rng.uniform(72, 128) + rng.normal(0, 3, 3)
    paving = rng.uniform(135, 180) + rng.uniform(-1, 1) * np.array([12, 2, -14])
    grass = np.array([rng.uniform(82, 132), rng.uniform(108, 138), rng.uniform(45, 70)])
    field = np.array([rng.uniform(110, 180), rng.uniform(120, 160), rng.uniform(60, 85)])
    soil = np.array([148, 128, 100]) * rng.uniform(0.75, 1.1)
    white = np.full(3, rng.uniform(205, 245))
    base = np.stack([
        soil, asphalt, asphalt * rng.uniform(0.88, 1.12), asphalt * rng.uniform(0.68, 0.86), asphalt * 0.55, white,
        np.array([228, 180, 62]) * rng.uniform(0.85, 1.05), paving, paving * rng.uniform(0.62, 0.95),
        np.full(3, paving.mean() * 1.1), grass, soil, field,
    ])  # fmt: skip
    light = layout.light
    lit = base * (light.ambient + light.sun * light.towards_sun[1])
    gain = np.arange(_LEVELS)[:, None] / (0.5 * _LEVELS)
    # What is dark lies in shadow, where only the sky's bluer light arrives.
    tint = 1.0 + (light.ambient / light.ambient.mean() - 1.0) * np.clip(1.0 - gain, 0.0, 1.0) * 1.5
    ramps = np.empty((len(Material), _LEVELS, 4), np.uint8)
    ramps[..., :3] = np.clip(lit[:, None] * gain * tint, 0, 255)
    ramps[..., 3] = np.array([RANK[_LABELS[m]] for m in Material])[:, None]
    return np.ascontiguousarray(ramps).view(np.uint32).ravel()


def paint_ground(
    canvas: npt.NDArray[np.uint8],
    layout: SceneLayout,
    darkness: npt.NDArray[np.uint8],
    decals: npt.NDArray[np.uint8],
) -> None:
    """Paint everything on the road's plane into the canvas, below the horizon.

    Args:
        canvas: (H, W, 4) uint8 red, green, blue and class rank, contiguous; changed in place.
        layout: the scene.
        darkness: (H, W) uint8, how much light shadows take away.
        decals: (H, W) uint8 material of what lies on the cross-section (zebra bars, patches), 0 for nothing.
    """
    height, width = canvas.shape[:2]
    tables, size = ground_tables(layout), (height, width)
    first = max(0, int(np.floor(layout.camera.horizon_px(size))))
    y = np.arange(first, height, dtype=np.float64) + 0.5
    y = y[y > layout.camera.horizon_px(size) + 1e-3]
    z, metres_per_px = layout.camera.ground_of_rows(y, size)
    z = np.minimum(z, _FARTHEST_M)
    packed = canvas.view(np.uint32)[..., 0]
    step = max(1, _BAND_PIXELS // width)
    for start in range(0, len(y), step):
        band = slice(start, start + step)
        rows = slice(height - len(y) + start, min(height - len(y) + start + step, height))
        packed[rows] = _shade_band(tables, layout, z[band], metres_per_px[band], darkness[rows], decals[rows])
    unchanged_m = 0.008 / layout.light.haze_per_m  # nearer than this, haze shifts no colour by two grey levels
    far = int(np.searchsorted(-z, -unchanged_m))
    clear = np.exp(-layout.light.haze_per_m * z[:far]).astype(np.float32)[:, None, None]
    rows = slice(height - len(y), height - len(y) + far)
    haze = layout.light.haze.astype(np.float32) * (1.0 - clear)
    canvas[rows, :, :3] = np.clip(canvas[rows, :, :3] * clear + haze, 0, 255)


def _shade_band(
    tables: GroundTables,
    layout: SceneLayout,
    z: Floats,
    metres_per_px: Floats,
    darkness: npt.NDArray[np.uint8],
    decals: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint32]:
    """Packed colours (R, W) of rows at distances z (R,)."""
    width = decals.shape[1]
    entries = len(tables.wear)
    scale = (metres_per_px * _PER_M).astype(np.float32)
    start = ((_REACH_M - layout.road.centre(z)) * _PER_M - metres_per_px * _PER_M * (0.5 * width - 0.5)).astype(
        np.float32
    )
    across = np.arange(width, dtype=np.float32) * scale[:, None] + start[:, None]
    u = np.clip(across, 0, entries - 1).astype(np.intp)

    section = layout.dash_painted(z).astype(np.intp)
    if layout.junction is not None:
        section[(z > layout.junction[0]) & (z < layout.junction[1])] = 2
    material = tables.sections.take(u + (section * entries)[:, None])
    material = np.where(decals > 0, decals, material)

    side = (1 << GROUND_TILE_BITS) - 1
    along = (z * _PER_M).astype(np.intp)[:, None]
    fine = ((along + tables.shift[1]) & side) << GROUND_TILE_BITS | ((u + tables.shift[0]) & side)
    fine = fine + _TILE_START.take(material)
    broad = (((along >> 5) + tables.shift[2]) & 255) << 8 | (((u >> 5) + tables.shift[3]) & 255)
    fade = (1.0 / (1.0 + z / 14.0)).astype(np.float32)[:, None]  # far texels average out
    level = 0.5 * _LEVELS + ground_tiles().take(fine) * _GRAIN_SHARE.take(material) * fade
    level += blotches().take(broad) * np.float32(0.1) + tables.wear.take(u)
    level *= 1.0 - darkness * np.float32(1 / 255)
    index = np.clip(level, 0, _LEVELS - 1).astype(np.intp) + material.astype(np.intp) * _LEVELS
    return tables.colours.take(index)


_TILE_START = _TILE << (2 * GROUND_TILE_BITS)
_GRAIN_SHARE = _GRAIN / 128
