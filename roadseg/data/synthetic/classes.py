"""Class ids of the synthetic taxonomy, and the order in which classes win a pixel that they share."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

SYNTHETIC_TAXONOMY = "hdmap-synthetic"
"""Name of the taxonomy that the scenes are labelled in."""


class Label(IntEnum):
    """Class ids, in the order of roadseg/taxonomies/hdmap-synthetic.yaml."""

    ROAD = 0
    LANE_MARKING = 1
    SIDEWALK = 2
    BARRIER = 3
    POLE = 4
    STREET_LIGHT = 5
    TRAFFIC_SIGN = 6
    TRAFFIC_LIGHT = 7
    BUILDING = 8
    VEGETATION = 9
    TERRAIN = 10
    SKY = 11
    VEHICLE = 12


# Thin things last: where two classes cover half a pixel each, the later one takes it, so that a pole two subpixels wide
# is not lost by where the raster happens to fall.
_BY_RANK = (
    Label.SKY, Label.TERRAIN, Label.ROAD, Label.SIDEWALK, Label.BUILDING, Label.VEGETATION, Label.VEHICLE,
    Label.BARRIER, Label.LANE_MARKING, Label.POLE, Label.STREET_LIGHT, Label.TRAFFIC_SIGN, Label.TRAFFIC_LIGHT,
)  # fmt: skip

RANK = {label: rank for rank, label in enumerate(_BY_RANK)}
"""Label -> its rank, which is what the canvas holds in its fourth channel."""

LABEL_OF_RANK: npt.NDArray[np.uint8] = np.array(_BY_RANK, np.uint8)
"""(13,) class id of each rank."""
