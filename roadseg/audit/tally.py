"""Which labels occur, how often, and whereabouts in the picture."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_SAMPLED_SIDE = 64


@dataclass
class LabelCount:
    """Sums over masks for one label.

    Attributes:
        pixels: number of pixels.
        frames: number of masks that it occurs in.
        sampled: pixels of a coarse grid.
        height: sum of the grid pixels' places, 0 at the top of the picture, 1 at its bottom.
    """

    pixels: int = 0
    frames: int = 0
    sampled: int = 0
    height: float = 0.0


@dataclass
class LabelTally:
    """Sums over masks.

    Attributes:
        labels: by label id.
        masks: number of masks that could be read.
        binary: number of them that hold nothing but 0 and 255, the latter being a label of the table.
    """

    labels: defaultdict[int, LabelCount] = field(default_factory=lambda: defaultdict(LabelCount))
    masks: int = 0
    binary: int = 0

    def add(
        self, labels: npt.NDArray[np.integer], values: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
    ) -> None:
        """Count a mask.

        Args:
            labels: (H, W) of the mask.
            values: that occur in it.
            counts: their pixels.
        """
        self.masks += 1
        rows, columns = (max(1, side // _SAMPLED_SIDE) for side in labels.shape)
        grid = labels[rows // 2 :: rows, columns // 2 :: columns]
        place = np.repeat((np.arange(len(grid)) + 0.5) / len(grid), grid.shape[1])
        flat = grid.ravel().astype(np.int64)
        sampled = np.bincount(flat)
        height = np.bincount(flat, place)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            entry = self.labels[value]
            entry.pixels += count
            entry.frames += 1
            if value < len(sampled):
                entry.sampled += int(sampled[value])
                entry.height += float(height[value])

    def merge(self, other: "LabelTally") -> None:
        """Add the sums of other masks."""
        self.masks += other.masks
        self.binary += other.binary
        for value, count in other.labels.items():
            entry = self.labels[value]
            entry.pixels += count.pixels
            entry.frames += count.frames
            entry.sampled += count.sampled
            entry.height += count.height
