"""Reading ahead: the frames as one by one, never too many, and an end to it."""

import threading
import time

import pytest

from roadseg.errors import DataError
from roadseg.evaluation.read_ahead import read_ahead


class Frames:
    """Numbers in place of frames; `broken` cannot be read."""

    def __init__(self, count, broken=None):
        self.count, self.broken, self.begun = count, broken, []

    def __len__(self):
        """Number of frames."""
        return self.count

    def read(self, index):
        self.begun.append(index)
        if index == self.broken:
            raise DataError(f"frame {index} is broken")
        return 10 * index


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_frames_come_in_order_each_once(count):
    frames = Frames(count)
    assert list(read_ahead(frames)) == [(i, 10 * i) for i in range(count)] and frames.begun == list(range(count))


def test_no_more_are_read_than_may_wait():
    frames = Frames(20)
    for index, _ in read_ahead(frames, ahead=3):
        time.sleep(0.005)
        assert len(frames.begun) <= index + 1 + 3
    assert len(frames.begun) == 20


def test_a_broken_frame_stops_it_after_those_before_it():
    running = read_ahead(Frames(6, broken=3))
    assert [next(running)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="frame 3 is broken"):
        next(running)


def test_a_caller_who_stops_early_leaves_no_thread_and_no_reading():
    frames = Frames(1000)
    running = read_ahead(frames)
    next(running)
    running.close()
    begun = len(frames.begun)
    time.sleep(0.02)
    assert begun <= 3 and len(frames.begun) == begun
    assert not any(thread.name.startswith("read-ahead") for thread in threading.enumerate())
