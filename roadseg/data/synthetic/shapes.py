"""Solids and flat shapes as corner arrays in metres; solids' faces wind so that their normals point outwards."""

import numpy as np
import numpy.typing as npt

from roadseg.data.synthetic.camera import Floats


def box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> Floats:
    """The five visible faces of a box: (5, 4, 3): far, left, right, top, near."""
    (x0, x1), (y0, y1), (z0, z1) = x, y, z
    return np.array([
        [(x1, y0, z1), (x1, y1, z1), (x0, y1, z1), (x0, y0, z1)],
        [(x0, y0, z1), (x0, y1, z1), (x0, y1, z0), (x0, y0, z0)],
        [(x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)],
        [(x0, y1, z0), (x0, y1, z1), (x1, y1, z1), (x1, y1, z0)],
        [(x0, y0, z0), (x0, y1, z0), (x1, y1, z0), (x1, y0, z0)],
    ])  # fmt: skip


def prism(profile: npt.ArrayLike, half_widths: npt.ArrayLike) -> tuple[Floats, Floats]:
    """A convex side profile, extruded to both sides.

    Args:
        profile: (N, 2) z and y of its corners, clockwise seen from the right (rear bottom, rear top, front top, ...).
        half_widths: (N,) half the width at each corner.

    Returns:
        The two sides (2, N, 3), left then right, and the N - 1 faces between consecutive corners (N - 1, 4, 3), each
        as bottom left, top left, top right, bottom right seen from outside; the underside is left out.
    """
    z, y = np.asarray(profile, np.float64).T
    half = np.asarray(half_widths, np.float64)
    left, right = np.stack([-half, y, z], axis=1), np.stack([half, y, z], axis=1)
    faces = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
    return np.stack([left[::-1], right]), faces


def inset(quad: Floats, across: tuple[float, float], up: tuple[float, float]) -> Floats:
    """Part of a quad: (4, 3) corners, bottom left first, clockwise; shares 0..1 from the left and from the bottom."""
    return grid(quad, np.array([across]), np.array([up]))[0]


def grid(quad: Floats, columns: Floats, rows: Floats) -> Floats:
    """Panes of a facade.

    Args:
        quad: (4, 3) bottom left, top left, top right, bottom right.
        columns: (C, 2) shares of the width where panes begin and end.
        rows: (R, 2) shares of the height where panes begin and end.

    Returns:
        (R * C, 4, 3) panes, wound as the quad.
    """
    bottom_left, top_left, top_right, bottom_right = quad
    a = columns[None, :, [0, 0, 1, 1]].reshape(1, -1, 4, 1)
    b = rows[:, None, [0, 1, 1, 0]].reshape(-1, 1, 4, 1)
    low = bottom_left + (bottom_right - bottom_left) * a
    high = top_left + (top_right - top_left) * a
    return (low + (high - low) * b).reshape(-1, 4, 3)


def strip(path: npt.ArrayLike, widths: npt.ArrayLike) -> Floats:
    """A bar along a path in the local X-Y plane, as one quad a segment.

    Args:
        path: (N, 3) its middle line.
        widths: (N,) its width at each point.

    Returns:
        (N - 1, 4, 3).
    """
    middle = np.asarray(path, np.float64)
    along = np.empty((len(middle), 2))
    along[0], along[-1] = middle[1, :2] - middle[0, :2], middle[-1, :2] - middle[-2, :2]
    along[1:-1] = middle[2:, :2] - middle[:-2, :2]
    along /= np.sqrt(np.maximum((along * along).sum(axis=1, keepdims=True), 1e-18))
    offset = np.zeros_like(middle)
    offset[:, 0], offset[:, 1] = -along[:, 1], along[:, 0]
    offset *= 0.5 * np.asarray(widths, np.float64)[:, None]
    left, right = middle + offset, middle - offset
    return np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)


def disc(radius: float, corners: int = 12, turn: float = 0.0) -> Floats:
    """A regular polygon (corners, 3) in the local X-Y plane around the origin; turn is a share of one corner."""
    angle = (np.arange(corners) + turn) * (2 * np.pi / corners)
    return np.stack([radius * np.sin(angle), radius * np.cos(angle), np.zeros(corners)], axis=1)


def ragged_discs(
    rng: np.random.Generator, middles: Floats, radii: Floats, corners: int = 10, raggedness: float = 0.28
) -> Floats:
    """Irregular round blobs facing the camera: middles (B, 3), radii (B, 2) across and up -> (B, corners, 3)."""
    angle = (np.arange(corners) + rng.uniform(0, 1, (len(middles), 1))) * (2 * np.pi / corners)
    reach = 1.0 + raggedness * rng.uniform(-1, 1, angle.shape)
    flat = np.stack([radii[:, :1] * reach * np.cos(angle), radii[:, 1:] * reach * np.sin(angle)], axis=-1)
    blobs = np.repeat(middles[:, None], corners, axis=1)
    blobs[..., :2] += flat
    return blobs
