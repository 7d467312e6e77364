"""A display list of polygons in the world, painted far to near into picture and labels at once."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.data.synthetic.camera import Camera, Floats
from roadseg.data.synthetic.classes import RANK, Label
from roadseg.data.synthetic.light import Light

BACKGROUND_M = 1e6
"""Painting distance of what is behind everything else."""

Counts = npt.NDArray[np.intp]

_NEAREST_M = 0.6  # polygons that come closer than this to the camera's plane are left out
_SUBPIXEL_BITS = 4  # of OpenCV's fixed-point coordinates
_EVEN = 0.9  # gain of surfaces that are lit evenly from all sides, relative to level ground


class DisplayList:
    """Polygons with albedo and class, collected by the builders, and the shadows they cast.

    An item is one or more polygons that share colour and class and do not overlap; they are filled by one call. Items
    are painted in the order of their painting distance, far to near; those of equal distance, as they were added.
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        """An empty list for a camera and a light."""
        self._camera, self._light = camera, light
        self._points: list[Floats] = []
        # A row a batch: items, polygons an item, corners a polygon, distance, rank, red, green, blue, gain, one-sided.
        # Plain tuples, because a scene adds a thousand small batches and NumPy's overhead would be most of its time.
        self._batches: list[tuple[float, ...]] = []
        self._per_item: list[tuple[int, slice, Floats]] = []  # batch, columns of the row, values (items, columns)
        self._shadows: list[tuple[Floats, float]] = []

    def add(
        self,
        distance_m: float,
        points: npt.ArrayLike,
        colour: Sequence[float] | Floats,
        label: Label,
        gain: float | Floats | None = None,
        one_sided: bool = False,
    ) -> None:
        """Add items.

        Args:
            distance_m: painting distance.
            points: (N, 3), (B, N, 3) or (B, Q, N, 3) metres: B items of Q polygons of N corners.
            colour: (3,) or (B, 3) RGB albedo 0..255.
            label: class of all items.
            gain: a number or (B,): brightness instead of the shading by surface normal, for what is round or shines.
            one_sided: leave out items whose normal, (p1 - p0) x (p2 - p0), points away from the camera.
        """
        array = np.asarray(points, np.float64)
        items, polygons, corners = (
            (1, 1, 1, *array.shape)[-4:-1] if array.ndim != 3 else (len(array), 1, array.shape[1])
        )
        self._points.append(array.reshape(-1, 3))
        batch = len(self._batches)
        if isinstance(colour, np.ndarray) and colour.ndim == 2:
            self._per_item.append((batch, slice(5, 8), colour))
            colour = colour[0]
        if isinstance(gain, np.ndarray):
            self._per_item.append((batch, slice(8, 9), gain[:, None]))
            gain = 1.0
        red, green, blue = colour
        level = np.nan if gain is None else gain
        self._batches.append(
            (items, polygons, corners, distance_m, RANK[label], red, green, blue, level, one_sided)
        )  # fmt: skip

    def cast(self, points: npt.ArrayLike) -> None:
        """Let the convex hull of points (N, 3) cast the sun's shadow on the ground."""
        sun = self._light.towards_sun
        ground = np.asarray(points, np.float64)
        ground = ground - sun * (ground[:, 1:2] / max(sun[1], 0.12))
        self._shadows.append((ground, 1.0 - self._light.shadow_gain))

    def touch(self, points: npt.ArrayLike, strength: float = 0.55) -> None:
        """Darken the ground (N, 3 points of a hull) close under a thing, where no light at all gets in."""
        self._shadows.append((np.asarray(points, np.float64), strength))

    def paint(self, canvas: npt.NDArray[np.uint8]) -> None:
        """Fill all polygons into a canvas (H, W, 4) of red, green, blue and class rank."""
        if not self._points:
            return
        world, rows = np.concatenate(self._points), self._rows()
        pixels, depth = self._camera.project(world, canvas.shape[:2])
        polygons, corners = rows[:, 1].astype(np.intp), rows[:, 2].astype(np.intp)
        ends = np.cumsum(polygons * corners)
        starts = ends - polygons * corners
        normals = _normals(world, starts)
        facing = ((np.array([0.0, self._camera.height_m, 0.0]) - world[starts]) * normals).sum(axis=1)
        seen = _in_view(pixels, depth, starts, canvas.shape[:2]) & ((facing > 0.0) | (rows[:, 9] == 0.0))
        normals = np.where(facing[:, None] > 0.0, normals, -normals)
        middle = np.add.reduceat(depth, starts) / (ends - starts)
        colours = self._shade(rows[:, 5:8], normals, rows[:, 8], middle)
        colours = np.concatenate([colours, rows[:, 4:5]], axis=1).astype(int)
        fixed = _to_fixed_point(pixels, canvas.shape[:2])
        order = np.argsort(-rows[:, 3], kind="stable")
        order = order[seen[order]]
        columns = (starts[order], ends[order], polygons[order], corners[order], colours[order])
        for start, end, count, length, colour in zip(*(c.tolist() for c in columns), strict=True):
            corner = fixed[start:end]
            outlines = [corner] if count == 1 else list(corner.reshape(count, length, 2))
            cv2.fillPoly(canvas, outlines, colour, cv2.LINE_8, _SUBPIXEL_BITS)

    def _rows(self) -> Floats:
        """One row an item, as the rows of `_batches`."""
        batches = np.array(self._batches, np.float64)
        items = batches[:, 0].astype(np.intp)
        rows = np.repeat(batches, items, axis=0)
        first = np.cumsum(items) - items
        for batch, columns, values in self._per_item:
            rows[first[batch] : first[batch] + items[batch], columns] = values
        return rows

    def _shade(self, albedo: Floats, normals: Floats, gain: Floats, distance_m: Floats) -> Floats:
        light = self._light
        level = light.ambient + light.sun * light.towards_sun[1]
        even = _EVEN * (0.5 * level + 0.5 * level.mean())
        gains = np.where(np.isnan(gain)[:, None], light.on(normals), np.nan_to_num(gain)[:, None] * even)
        hazy = light.through_haze(np.minimum(albedo * gains, 255.0), np.maximum(distance_m, 0.0))
        return np.clip(hazy, 0, 255)

    def paint_shadows(self, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """How much light the shadows take from the ground: (H, W) uint8, 255 for all of it."""
        hulls = []
        for ground, strength in self._shadows:
            flat = cv2.convexHull(ground[:, ::2].astype(np.float32))[:, 0]
            hulls.append((np.stack([flat[:, 0], np.zeros(len(flat)), flat[:, 1]], axis=1), round(255 * strength)))
        darkness = paint_flat(size, self._camera, hulls)
        sigma = size[1] / 640
        return cv2.GaussianBlur(darkness, (0, 0), sigma) if hulls and sigma > 0.2 else darkness


def paint_flat(size: tuple[int, int], camera: Camera, shapes: Sequence[tuple[Floats, int]]) -> npt.NDArray[np.uint8]:
    """A map (H, W) uint8 of what lies on the ground: (N, 3) corners in metres and value of each; later over earlier."""
    canvas = np.zeros(size, np.uint8)
    clipped = [(_clip_near(corners), value) for corners, value in shapes]
    clipped = [(corners, value) for corners, value in clipped if len(corners) > 2]
    if not clipped:
        return canvas
    fixed = _to_fixed_point(camera.project(np.concatenate([c for c, _ in clipped]), size)[0], size)
    start = 0
    for corners, value in clipped:
        cv2.fillPoly(canvas, [fixed[start : start + len(corners)]], (value,), cv2.LINE_8, _SUBPIXEL_BITS)
        start += len(corners)
    return canvas


def _to_fixed_point(pixels: Floats, size: tuple[int, int]) -> npt.NDArray[np.int32]:
    # OpenCV counts from pixel centres, and its fixed point overflows far outside the picture.
    limit = 8 * max(size) + 64
    return np.rint((np.clip(pixels, -limit, limit) - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _clip_near(ground: Floats, nearest_m: float = 1.0) -> Floats:
    """The part of a polygon (N, 3) that lies at Z >= nearest_m, by Sutherland and Hodgman's method."""
    inside = ground[:, 2] >= nearest_m
    if inside.all():
        return ground
    kept: list[Floats] = []
    for i, corner in enumerate(ground):
        before = ground[i - 1]
        if inside[i] != inside[i - 1]:
            kept.append(before + (corner - before) * (nearest_m - before[2]) / (corner[2] - before[2]))
        if inside[i]:
            kept.append(corner)
    return np.array(kept).reshape(-1, 3)


def _normals(world: Floats, starts: Counts) -> Floats:
    first = world[starts]
    a, b = (world[starts + 1] - first).T, (world[starts + 2] - first).T
    normals = np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]], axis=1)
    return normals / np.sqrt(np.maximum((normals * normals).sum(axis=1, keepdims=True), 1e-24))


def _in_view(pixels: Floats, depth: Floats, starts: Counts, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
    across = (high[:, 0] >= 0) & (low[:, 0] <= size[1]) & (high[:, 1] >= 0) & (low[:, 1] <= size[0])
    return across & (np.minimum.reduceat(depth, starts) > _NEAREST_M)
