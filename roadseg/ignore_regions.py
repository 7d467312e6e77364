"""Parts of the image that show the camera's own car or rig: not trained on, not scored, not segmented."""

import hashlib
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from roadseg.errors import ConfigError
from roadseg.taxonomy import IGNORE_INDEX

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in parts of the image's width and height."""


class IgnoreRegions:
    """Polygons by camera.

    A pixel is ignored when its centre lies inside a polygon: the pixel in row i and column j of an image (H, W) has its
    centre at ((j + 0.5) / W, (i + 0.5) / H). A centre that lies exactly on an edge belongs to a polygon on its right or
    below, not to one on its left or above, so that polygons that share an edge share no pixel. Where a polygon crosses
    itself, the even-odd rule holds.

    Args:
        regions: each a mapping with `polygon`, a list of [x, y] in parts of the width and height of the image as it is
            displayed (0..1, x to the right, y down), and if wanted `frames`, a pattern of frame names such as
            "cam_front_*" (default: every frame; `*` matches slashes, too).
        source: where the regions come from, to begin an error with.

    Raises:
        ConfigError: when a region is no polygon.
    """

    def __init__(self, regions: Sequence[dict[str, Any]], source: str = "") -> None:
        prefix = f"{source}: " if source else ""
        self._regions = [_checked(f"{prefix}ignore region {i}", region) for i, region in enumerate(regions)]

    @property
    def digest(self) -> str:
        """SHA-256 of the regions, in hexadecimal; equal regions have equal ones, in any process."""
        return hashlib.sha256(json.dumps(self._regions).encode()).hexdigest()

    def covered(self, size: tuple[int, int], name: str = "") -> npt.NDArray[np.bool_] | None:
        """Where a frame is ignored.

        Args:
            size: (H, W) of the frame.
            name: of the frame.

        Returns:
            (H, W) bool, not to be written to; None when no region is meant for a frame of this name.
        """
        polygons = tuple(polygon for pattern, polygon in self._regions if fnmatchcase(name, pattern))
        return _draw(polygons, (int(size[0]), int(size[1]))) if polygons else None

    def apply(self, mask: npt.NDArray[np.uint8], name: str = "") -> npt.NDArray[np.uint8]:
        """The mask (H, W) uint8 with 255 in the regions of the frame of this name; a new array if there are any."""
        covered = self.covered(mask.shape, name)
        if covered is None:
            return mask
        ignored = mask.copy()
        np.copyto(ignored, IGNORE_INDEX, where=covered)
        return ignored


def load_regions(path: str | Path) -> IgnoreRegions:
    """Read ignore regions from a YAML file that holds a list of them; see `IgnoreRegions`.

    Raises:
        ConfigError: when the file is missing, no list, or a region is no polygon; the message names the file.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read ignore regions {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"ignore regions {path} is not a YAML file: {error}") from error
    if not isinstance(data, list) or not data:
        raise ConfigError(
            f"ignore regions {path}: expected a list of regions such as "
            f"'- polygon: [[0, 0.9], [1, 0.9], [1, 1], [0, 1]]', got {data!r}"
        )
    return IgnoreRegions(data, str(path))


@lru_cache(maxsize=16)
def _draw(polygons: tuple[Polygon, ...], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Union of polygons as (H, W) bool. Cached: the frames of a drive have one size and one camera."""
    drawn = np.zeros(size, bool)
    for polygon in polygons:
        drawn |= _fill(np.array(polygon) * (size[1], size[0]), size)
    drawn.setflags(write=False)
    return drawn


def _fill(corners: npt.NDArray[np.float64], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Pixels whose centres lie inside a polygon. OpenCV's fill rounds corners to pixels and adds the outline."""
    height, width = size
    crossings = np.zeros((height, width + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        # Rows whose centre line i + 0.5 the edge crosses; its lower end belongs to the next edge.
        rows = np.arange(_first_centre(min(y0, y1)), _first_centre(max(y0, y1)))
        x = x0 + (rows + 0.5 - y0) / (y1 - y0) * (x1 - x0) if len(rows) else np.zeros(0)
        np.add.at(crossings, (rows, np.clip(_first_centre(x), 0, width)), 1)
    return np.cumsum(crossings[:, :width], axis=1) % 2 == 1


def _first_centre(edge: Any) -> Any:
    """Index of the first pixel whose centre lies at or behind a position."""
    return np.ceil(edge - 0.5).astype(np.int64)


def _checked(where: str, region: Any) -> tuple[str, Polygon]:
    if not isinstance(region, dict) or "polygon" not in region or set(region) - {"polygon", "frames"}:
        raise ConfigError(f"{where}: expected a mapping with polygon, and if wanted frames; got {region!r}")
    try:
        polygon = np.array(region["polygon"], np.float64)
    except (TypeError, ValueError):
        polygon = np.zeros(0)
    if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3 or not ((polygon >= 0) & (polygon <= 1)).all():
        raise ConfigError(
            f"{where}: polygon is {region['polygon']!r}; use three or more [x, y], in parts of the image's width and "
            "height, each 0 to 1"
        )
    if np.linalg.matrix_rank(polygon - polygon[0]) < 2:
        raise ConfigError(f"{where}: the corners of polygon {region['polygon']!r} lie on one line and enclose nothing")
    pattern = region.get("frames", "*")
    if not isinstance(pattern, str) or not pattern:
        raise ConfigError(f"{where}: frames is {pattern!r}; use a pattern of frame names such as 'front_*'")
    return pattern, tuple((x, y) for x, y in polygon.tolist())
