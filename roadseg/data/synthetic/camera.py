"""The pinhole camera and the road it stands on.

World axes, in metres: X right, Y up with 0 on the road, Z ahead; the camera is at (0, height, 0) and looks along Z,
pitched down. Road coordinates: `u` is the distance from the road's centre line along X, positive right, and `s` equals
Z. Pixel (row r, column c) covers x in [c, c + 1) and y in [r, r + 1).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera over the road, without roll and with square pixels.

    Attributes:
        height_m: metres above the road.
        pitch_rad: radians that the optical axis points below the horizon.
        focal_widths: focal length in image widths, so that a scene is the same world at any size.
        mirrored: whether the picture is flipped left to right, which turns right-hand traffic into left-hand.
    """

    height_m: float
    pitch_rad: float
    focal_widths: float
    mirrored: bool = False

    def project(self, points: npt.ArrayLike, size: tuple[int, int]) -> tuple[Floats, Floats]:
        """Project world points.

        Args:
            points: (N, 3) metres.
            size: (H, W) of the picture in px.

        Returns:
            (N, 2) x and y in px, and (N,) depth along the optical axis in metres. A point is in front of the camera
            only where its depth is positive; x and y mean nothing elsewhere.
        """
        world = np.asarray(points, np.float64)
        height, width = size
        sine, cosine = np.sin(self.pitch_rad), np.cos(self.pitch_rad)
        above = world[:, 1] - self.height_m
        depth = cosine * world[:, 2] - sine * above
        safe = np.where(np.abs(depth) < 1e-6, 1e-6, depth)
        focal = self.focal_widths * width
        x = 0.5 * width + (-focal if self.mirrored else focal) * world[:, 0] / safe
        y = 0.5 * height - focal * (cosine * above + sine * world[:, 2]) / safe
        return np.stack([x, y], axis=1), depth

    def horizon_px(self, size: tuple[int, int]) -> float:
        """Row coordinate y of the horizon in px, for a picture of (H, W) px."""
        return 0.5 * size[0] - self.focal_widths * size[1] * float(np.tan(self.pitch_rad))

    def ground_of_rows(self, y: Floats, size: tuple[int, int]) -> tuple[Floats, Floats]:
        """Where picture rows below the horizon meet the road's plane.

        Args:
            y: (R,) row coordinates in px, below the horizon.
            size: (H, W) of the picture in px.

        Returns:
            (R,) distance Z in metres, and (R,) metres of X for each px to the right of the picture's middle.
        """
        focal = self.focal_widths * size[1]
        slope = (0.5 * size[0] - y) / focal
        sine, cosine = np.sin(self.pitch_rad), np.cos(self.pitch_rad)
        reach = self.height_m / np.maximum(sine - slope * cosine, 1e-9)
        return reach * (cosine + slope * sine), (-reach if self.mirrored else reach) / focal


@dataclass(frozen=True)
class Frame:
    """A place on the road to build an object at: local (right, up, forward) metres become world metres.

    Attributes:
        origin: (3,) world metres.
        axes: (3, 3) unit vectors right, up and forward, one a row.
    """

    origin: Floats
    axes: Floats

    def to_world(self, local: npt.ArrayLike) -> Floats:
        """World points of local ones, both (..., 3) metres."""
        return np.asarray(local, np.float64) @ self.axes + self.origin


@dataclass(frozen=True)
class RoadCurve:
    """The road's centre line: X = offset + heading * s + curvature * L^2 * log(cosh(s / L)), with L = 60 m.

    Near the camera that is the parabola of a circular arc; far away it goes straight on, so that no road turns back.

    Attributes:
        offset_m: X of the centre line beside the camera.
        heading: slope dX/dZ of the road beside the camera.
        curvature_per_m: 1 / radius beside the camera; positive bends right.
    """

    offset_m: float
    heading: float = 0.0
    curvature_per_m: float = 0.0

    _REACH_M = 60.0

    def centre(self, s: npt.ArrayLike) -> Floats:
        """X of the centre line in metres, at distances s in metres."""
        ahead = np.asarray(s, np.float64)
        if ahead.ndim == 0:  # builders ask for thousands of single places, where math is ten times as quick
            share = abs(float(ahead)) / self._REACH_M
            bend = (
                self.curvature_per_m * self._REACH_M**2 * (share + math.log1p(math.exp(-2.0 * share)) - math.log(2.0))
            )
            return np.asarray(self.offset_m + self.heading * float(ahead) + bend)
        scaled = np.abs(ahead) / self._REACH_M
        log_cosh = scaled + np.log1p(np.exp(-2.0 * scaled)) - np.log(2.0)  # cosh itself overflows far away
        return self.offset_m + self.heading * ahead + self.curvature_per_m * self._REACH_M**2 * log_cosh

    def place(self, u: npt.ArrayLike, s: npt.ArrayLike, y: npt.ArrayLike = 0.0) -> Floats:
        """World points (..., 3) in metres of road coordinates u, s and height y, which are broadcast together."""
        x = self.centre(s) + np.asarray(u, np.float64)
        points = np.empty((*np.broadcast_shapes(x.shape, np.shape(y)), 3))
        points[..., 0], points[..., 1], points[..., 2] = x, y, s
        return points

    def frame(self, u: float, s: float, backwards: bool = False) -> Frame:
        """A frame at (u, s) that faces along the road, or against it."""
        slope = self.heading + self.curvature_per_m * self._REACH_M * math.tanh(s / self._REACH_M)
        turn = -1.0 if backwards else 1.0
        x, z = turn * slope / math.hypot(slope, 1.0), turn / math.hypot(slope, 1.0)
        return Frame(self.place(u, s), np.array([(z, 0.0, -x), (0.0, 1.0, 0.0), (x, 0.0, z)]))
