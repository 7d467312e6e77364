"""Scenes: picture and mask of a seed at a size."""

import operator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadseg.data.synthetic.barriers import add_barriers
from roadseg.data.synthetic.buildings import add_buildings
from roadseg.data.synthetic.decals import draw_decals
from roadseg.data.synthetic.display import DisplayList, paint_flat
from roadseg.data.synthetic.furniture import add_furniture
from roadseg.data.synthetic.ground import paint_ground
from roadseg.data.synthetic.layout import SceneLayout, plan_scene
from roadseg.data.synthetic.nature import add_horizon, add_vegetation
from roadseg.data.synthetic.photograph import develop
from roadseg.data.synthetic.sky import paint_sky
from roadseg.data.synthetic.vehicles import add_traffic
from roadseg.errors import ConfigError

MAX_SIZE = (4096, 8192)
"""Largest (H, W) in px that a scene is rendered at."""

_SUPERSAMPLED_PIXELS = 4_000_000  # larger pictures are painted at their own size, which saves four fifths of the memory


@dataclass(frozen=True)
class Scene:
    """A picture and its exact labels.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 class ids of the taxonomy `hdmap-synthetic`; every pixel has one.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]


def render_scene(seed: int, size: tuple[int, int] = (384, 640)) -> Scene:
    """Render the scene of a seed; the same seed shows the same world at any size.

    Args:
        seed: a non-negative integer.
        size: (H, W) in px, from (1, 1) to (4096, 8192).

    Returns:
        The scene; equal arguments give equal bytes.

    Raises:
        ConfigError: when the seed is negative or no integer, or the size is out of range.
    """
    checked = check_size(size)
    return render_layout(plan_scene(check_seed(seed)), checked)


def render_layout(layout: SceneLayout, size: tuple[int, int]) -> Scene:
    """Render a planned scene, for example one whose camera was replaced by a known one.

    Args:
        layout: the plan, from `plan_scene`.
        size: (H, W) in px.

    Raises:
        ConfigError: when the size is out of range.
    """
    height, width = check_size(size)
    factor = 2 if height * width <= _SUPERSAMPLED_PIXELS else 1
    fine = (height * factor, width * factor)
    canvas = np.empty((*fine, 4), np.uint8)
    display = build_world(layout)
    paint_sky(canvas, layout)
    decals = paint_flat(fine, layout.camera, draw_decals(layout, layout.random(3)))
    paint_ground(canvas, layout, display.paint_shadows(fine), decals)
    display.paint(canvas)
    return Scene(*develop(canvas, layout, factor))


def build_world(layout: SceneLayout) -> DisplayList:
    """Everything that stands on the ground of a planned scene."""
    display = DisplayList(layout.camera, layout.light)
    rng = layout.random(2)
    add_horizon(display, layout, rng)
    built = add_buildings(display, layout, rng)
    add_vegetation(display, layout, built, rng)
    add_barriers(display, layout, rng)
    add_furniture(display, layout, rng)
    add_traffic(display, layout, rng)
    return display


def check_seed(seed: int) -> int:
    """The seed as a plain integer.

    Raises:
        ConfigError: when it is negative or no integer.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise ConfigError(f"scene seed is {seed!r}; give an integer of 0 or more")
    return number


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size as two plain integers.

    Raises:
        ConfigError: when it is not two integers within 1..4096 and 1..8192.
    """
    try:
        height, width = (operator.index(v) for v in size)
    except (TypeError, ValueError):
        height, width = 0, 0
    if not (1 <= height <= MAX_SIZE[0] and 1 <= width <= MAX_SIZE[1]):
        raise ConfigError(
            f"scene size is {size!r}; give (height, width) in px from (1, 1) to ({MAX_SIZE[0]}, {MAX_SIZE[1]})"
        )
    return height, width
