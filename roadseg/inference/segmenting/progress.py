"""What a run tells while it goes on: a bar on a terminal, a line a minute in a log."""

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from roadseg.errors import plural
from roadseg.inference.segmenting.frame import Outcome, readable_error

LINE_EVERY_S = 60.0

ESTIMATE_IS_OFF_BY = 0.02
"""Share of frames: containers without a table of them state a number that follows from rate and length."""


class Progress:
    """Shows on standard error how far a run is, and which images failed.

    Args:
        total: images and videos of the run.
        clock: gives seconds.

    Attributes:
        reported: images and videos that are finished, in whatever way.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.reported = 0
        self._total = total
        self._skipped = self._failed = self._frames = 0
        self._clock = clock
        self._begun = self._told = clock()
        # None: no bar where standard error is no terminal
        self._bar = tqdm(total=total, unit="image", smoothing=0.1, dynamic_ncols=True, disable=None)

    def report(self, outcome: Outcome) -> None:
        """Count an image or a video that is finished."""
        self.reported += 1
        if outcome.error is not None:
            self._failed += 1
            tqdm.write(f"error: {readable_error(outcome.error)}", file=sys.stderr)
        elif outcome.row is None:
            self._skipped += 1
            if not self._bar.disable:
                self._bar.initial += 1  # not counted into the rate
        else:
            _tell_missing_frames(outcome)
        self._bar.update(1)
        self._tell_now_and_then()

    def video_frames(self, count: int) -> None:
        """Count frames of a video that are finished."""
        self._frames += count
        self._bar.set_postfix_str(plural(self._frames, "video frame"))
        self._tell_now_and_then()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def __enter__(self) -> "Progress":
        """Nothing is left to do."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Close it."""
        self.close()

    def _tell_now_and_then(self) -> None:
        now = self._clock()
        if self._bar.disable and now - self._told >= LINE_EVERY_S:
            self._told = now
            print(self._line(now - self._begun), file=sys.stderr, flush=True)

    def _line(self, elapsed_s: float) -> str:
        parts = [f"{self.reported} of {plural(self._total, 'image')}"]
        done = self.reported - self._skipped
        if self._frames:  # how long a video takes is not known from the images
            parts.append(f"{plural(self._frames, 'video frame')}")
        elif done:
            rate = done / elapsed_s
            left = tqdm.format_interval(max(0, self._total - self.reported) / rate)
            parts.append(f"{told_rate(rate)}, {left} left")
        parts += [f"{self._skipped} done before"] if self._skipped else []
        parts += [f"{self._failed} failed"] if self._failed else []
        return ", ".join(parts)


def told_rate(images_per_s: float) -> str:
    """A rate in words: three digits, or all before the point."""
    return f"{images_per_s:.3g} images/s" if images_per_s < 100 else f"{images_per_s:.0f} images/s"


def _tell_missing_frames(outcome: Outcome) -> None:
    """Of a video that ends before its file says: damaged in the middle, if the file does not merely estimate."""
    row = outcome.row or {}
    there, said = row.get("frames"), row.get("frames_said")
    if isinstance(there, int) and isinstance(said, int) and said - there > max(1, ESTIMATE_IS_OFF_BY * said):
        name = outcome.relative.encode("utf-8", "backslashreplace").decode()
        words = f"warning: {name}: {there} frames could be decoded, the file states {said}; if it is damaged, repair it"
        tqdm.write(f"{words} and segment it again", file=sys.stderr)
