"""Times of phases, against sums by hand."""

import pytest

from roadseg_service.scheduling.phases import Phases, PhaseTimes


@pytest.mark.parametrize(
    ("spells", "seconds"),
    [
        ([(2, 10)], 2),
        ([(2, 10), (3, 15)], 5),  # one after the other
        ([(2, 10), (3, 11)], 3),  # 8..10 within 8..11
        ([(3, 11), (2, 10), (1, 20)], 4),
        ([(10, 10), (1, 3), (1, 9.5), (2, 11)], 11),
        ([(0, 5)], 0),
    ],
)
def test_time_in_which_steps_overlap_counts_once(spells, seconds):
    times = PhaseTimes()
    for took, ended in spells:
        times.add("queue", took, ended)
    assert times.seconds() == {"queue": pytest.approx(seconds)}


def test_each_step_is_told_whole_and_the_header_tells_what_was_covered():
    told = []
    phases = Phases(lambda *step: told.append(step))
    phases.add("upload", 0.25, 100.0)
    phases.add("queue", 2.0, 110.0)
    phases.add("queue", 3.0, 111.0)
    assert told == [("upload", 0.25, 100.0), ("queue", 2.0, 110.0), ("queue", 3.0, 111.0)]
    assert phases.server_timing() == "upload;dur=250.0, queue;dur=3000.0"
