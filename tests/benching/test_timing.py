"""Runs timed in turn, and what their times come to, against computation by hand."""

import random

import pytest

from roadseg.benching.timing import interleaved_times, summarise


class Clock:
    """Seconds that pass only when something says that it took some."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def takes(self, seconds):
        def run():
            self.now += seconds

        return run


def test_median_and_quartiles_are_those_of_hand_computation():
    found = summarise([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.low_s, found.median_s, found.high_s) == (2.0, 3.0, 4.0)
    assert (found.fastest_s, found.repeats) == (1.0, 5)
    # Four times: the quartiles lie a quarter of the way between neighbours.
    found = summarise([10.0, 20.0, 40.0, 80.0])
    assert (found.low_s, found.median_s, found.high_s) == (17.5, 30.0, 50.0)


def test_one_time_is_its_own_median_and_quartiles():
    found = summarise([0.25])
    assert (found.low_s, found.median_s, found.high_s, found.repeats) == (0.25, 0.25, 0.25, 1)


def test_a_single_slow_spell_does_not_move_the_median():
    assert summarise([1.0] * 14 + [1000.0]).median_s == 1.0


def test_no_times_have_no_median():
    with pytest.raises(ValueError, match="no times"):
        summarise([])


def test_each_run_gets_its_own_times_whatever_the_order():
    clock = Clock()
    times = interleaved_times(
        [clock.takes(1.0), clock.takes(0.25), clock.takes(4.0)], 7, shuffle_seed=3, warm_ups=0, clock=clock
    )
    assert times == [[1.0] * 7, [0.25] * 7, [4.0] * 7]


def test_rounds_are_complete_and_shuffled_as_the_seed_says():
    def order_of(seed):
        order = []
        runs = [lambda name=name: order.append(name) for name in range(6)]
        interleaved_times(runs, 5, warm_ups=2, shuffle_seed=seed)
        return [order[i : i + 6] for i in range(0, len(order), 6)]

    rounds = order_of(8)
    assert len(rounds) == 7 and all(sorted(own) == list(range(6)) for own in rounds)
    assert rounds[:2] == [list(range(6))] * 2  # warming up keeps the order
    shuffler, expected = random.Random(8), list(range(6))
    for own in rounds[2:]:
        shuffler.shuffle(expected)
        assert own == expected
    assert order_of(8) == rounds and order_of(9) != rounds


def test_the_time_limit_keeps_three_rounds():
    clock = Clock()
    assert interleaved_times([clock.takes(10.0)], 9, longest_s=1.0, clock=clock) == [[10.0] * 3]
    assert len(interleaved_times([clock.takes(0.3)], 9, longest_s=1.0, clock=clock)[0]) == 4


def test_the_pause_comes_before_the_run_and_is_not_timed(monkeypatch):
    clock, slept = Clock(), []

    def sleep(seconds):
        slept.append(seconds)
        clock.now += seconds

    monkeypatch.setattr("time.sleep", sleep)
    assert interleaved_times([clock.takes(1.0)], 4, pause_s=0.5, clock=clock) == [[1.0] * 4]
    assert slept == [0.5] * 4


def test_a_progress_bar_is_told_of_each_round():
    told = []
    interleaved_times([lambda: None], 4, after_round=lambda: told.append(1))
    assert len(told) == 4
