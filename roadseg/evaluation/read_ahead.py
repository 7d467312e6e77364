"""Frames in order, the next ones being decoded while one is segmented and counted."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from roadseg.evaluation.frames import ScoredFrame, ScoredFrames

AHEAD = 2
"""Frames that wait decoded; one of 3840x2160 takes 33 MB."""


def read_ahead(frames: ScoredFrames, ahead: int = AHEAD) -> Iterator[tuple[int, ScoredFrame]]:
    """(index, frame) of every frame, in order; at most `ahead` are read before they are asked for.

    One thread reads, since decoding leaves Python to others. A caller who stops early closes the generator, which
    waits for the frame that is under way and reads no other.

    Raises:
        DataError: when a frame cannot be read, after those before it.
    """
    waiting: deque[tuple[int, Future[ScoredFrame]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        try:
            for index in range(len(frames)):
                waiting.append((index, reader.submit(frames.read, index)))
                if len(waiting) > ahead:
                    first, frame = waiting.popleft()
                    yield first, frame.result()
            for first, frame in waiting:
                yield first, frame.result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
