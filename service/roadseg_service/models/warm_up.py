"""The first pass of a model, which compiles and allocates, before anybody waits for it."""

import threading
from collections.abc import Sequence

import numpy as np

from roadseg.inference.predictor import Predictor
from roadseg_service.models.sizes import Size
from roadseg_service.scheduling.jobs import Job

MOST_SIZES = 4

MOST_PIXELS = 10_000_000
"""A 4K frame is below it; a model is not kept waiting for the huge image that came once."""


class RecentSizes:
    """The sizes of the images that ran last, with the largest batch of each; any thread may use it.

    Args:
        first: the sizes before any image came.
    """

    def __init__(self, first: Sequence[Size]) -> None:
        """Begin with the first."""
        self._first = first
        self._sizes: dict[Size, int] = {}
        self._lock = threading.Lock()

    def note(self, jobs: Sequence[Job]) -> None:
        """Note a batch that ran."""
        size = jobs[0].size
        if size[0] * size[1] > MOST_PIXELS:
            return
        with self._lock:
            self._sizes[size] = max(len(jobs), self._sizes.pop(size, 0))  # popped, it goes to the end
            if len(self._sizes) > MOST_SIZES:
                del self._sizes[next(iter(self._sizes))]

    def latest_first(self) -> list[tuple[Size, int]]:
        """The sizes, each with its largest batch."""
        with self._lock:
            return list(reversed(self._sizes.items())) or [(size, 1) for size in self._first]


def warm_up(predictor: Predictor, sizes: Sequence[tuple[Size, int]]) -> None:
    """Segment a made frame at each size, in the order given, as the engine keeps its fastest ways for the first sizes.

    Args:
        predictor: what segments.
        sizes: and how many images at once. A model that takes one size only is warmed up at that.

    Raises:
        Exception: whatever the predictor raises; it cannot serve then.
    """
    if predictor.static_size is not None:
        batches = dict(sizes)
        sizes = [(predictor.static_size, batches.get(predictor.static_size, 1))]
    for (height, width), count in sizes:
        predictor.batch([_frame(height, width)] * count)


def _frame(height: int, width: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """A picture (H, W, 3) with every grey in it."""
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (height, width, 3)))
