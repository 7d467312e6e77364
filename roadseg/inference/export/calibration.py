"""Frames to make an int8 network with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadseg.inference.export.verify import VerificationFrames


@dataclass(frozen=True)
class Calibration:
    """Frames to make an int8 network with.

    Attributes:
        images: (H, W, 3) uint8 RGB each, at least one: the values inside the network are measured on them. Some hundred
            pictures of the roads, cameras and weather that will be segmented are plenty.
        frames: others, to find out on them which layers must not be quantised, with labels where there are any; None
            takes the images, without labels. The finished model has to be judged on yet others.
        keep_layers: whether to look for such layers at all; if not, everything is quantised that can be, however much
            that hurts: it shows what int8 is worth at most in time.
    """

    images: Sequence[npt.NDArray[np.uint8]]
    frames: VerificationFrames | None = None
    keep_layers: bool = True
