"""Times of several runs, taken in turn, and what they come to."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_REPEATS = 3


@dataclass(frozen=True)
class Spread:
    """What a run's times come to, in seconds.

    Attributes:
        median_s: half of the runs took less.
        low_s: a quarter of the runs took less.
        high_s: a quarter of the runs took more.
        fastest_s: of all.
        repeats: how many were timed.
    """

    median_s: float
    low_s: float
    high_s: float
    fastest_s: float
    repeats: int


def summarise(seconds: Sequence[float]) -> Spread:
    """Median and quartiles, interpolated linearly between the runs beside them.

    Raises:
        ValueError: when there are none.
    """
    if not seconds:
        raise ValueError("no times were taken")
    low, median, high = np.quantile(np.asarray(seconds, np.float64), [0.25, 0.5, 0.75]).tolist()
    return Spread(median, low, high, min(seconds), len(seconds))


def interleaved_times(
    runs: Sequence[Callable[[], object]],
    repeats: int,
    *,
    warm_ups: int = 2,
    longest_s: float = float("inf"),
    shuffle_seed: int | None = None,
    pause_s: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    after_round: Callable[[], object] | None = None,
) -> list[list[float]]:
    """Seconds of each run, all in turn, after warming up: a slow spell of the machine then hits all alike.

    Args:
        runs: functions without arguments.
        repeats: how often each runs.
        warm_ups: how often each runs before, in turn too.
        longest_s: no round begins after this time once each has run three times.
        shuffle_seed: in each round the runs come in another order, drawn from this seed, so that none always follows
            the same other one; None keeps the order given.
        pause_s: sleep before each timed run. Idle threads of an engine spin for some milliseconds after its run, and
            would take cores from the next one.
        clock: gives seconds.
        after_round: called after each round, for a progress bar.

    Returns:
        A list a run, in the order of `runs`, of as many times as there were rounds.
    """
    for _ in range(warm_ups):
        for run in runs:
            run()
    taken: list[list[float]] = [[] for _ in runs]
    order = list(range(len(runs)))
    shuffler = None if shuffle_seed is None else random.Random(shuffle_seed)
    begun = clock()
    for done in range(repeats):
        if done >= LEAST_REPEATS and clock() - begun > longest_s:
            break
        if shuffler is not None:
            shuffler.shuffle(order)
        for index in order:
            if pause_s:
                time.sleep(pause_s)
            start = clock()
            runs[index]()
            taken[index].append(clock() - start)
        if after_round is not None:
            after_round()
    return taken
