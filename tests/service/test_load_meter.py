"""What the meter says, against what is worked out by hand."""

import pytest

from roadseg_service.scheduling.load import LoadMeter


@pytest.fixture
def meter(clock):
    return LoadMeter(clock)


def answer_after(meter, clock, *seconds):
    for each in seconds:
        clock.now += each
        meter.answered()


def test_nothing_is_known_before_the_first_request(meter, clock):
    clock.now += 100
    assert meter.seconds_each == 0


def test_first_answer_counts_fully(meter, clock):
    meter.began()
    answer_after(meter, clock, 2)
    meter.ended()
    assert meter.seconds_each == 2


def test_weighted_mean_of_three_answers(meter, clock):
    meter.began(3)
    answer_after(meter, clock, 2, 1, 4)
    meter.ended(3)
    weights = [0.95**2, 0.95, 1]
    assert meter.seconds_each == pytest.approx((2 * weights[0] + 1 * weights[1] + 4) / sum(weights))


def test_time_without_work_is_not_measured(meter, clock):
    meter.began()
    answer_after(meter, clock, 2)
    meter.ended()
    clock.now += 3600
    meter.began()
    answer_after(meter, clock, 2)
    assert meter.seconds_each == pytest.approx(2)


def test_requests_that_end_without_an_answer_do_not_make_it_look_fast(meter, clock):
    meter.began(65)
    clock.now += 3
    for _ in range(64):  # all at once, as when a proxy before the service restarts
        meter.ended()
    answer_after(meter, clock, 1)
    assert meter.seconds_each == 4


def test_a_batch_of_eight_is_an_eighth_each_however_it_lies_to_the_last_answer(meter, clock):
    meter.began(800)
    for _ in range(100):
        clock.now += 4
        for _ in range(8):
            meter.answered()
    just_after = meter.seconds_each
    clock.now += 4
    meter.answered()
    just_before_the_rest = meter.seconds_each
    assert 0.25 * 1.5 < just_after < 0.5 < just_before_the_rest < 0.5 * 1.5


def test_follows_a_change_within_some_fifty_answers(meter, clock):
    meter.began(200)
    answer_after(meter, clock, *[1] * 60)
    answer_after(meter, clock, *[0.1] * 60)
    assert 0.1 <= meter.seconds_each < 0.15


def test_an_answer_that_is_overdue_counts_before_it_is_there(meter, clock):
    meter.began(2)
    clock.now += 5
    assert meter.seconds_each == 5
    meter.answered()
    assert meter.seconds_each == 5
    clock.now += 30
    assert meter.seconds_each == pytest.approx((0.95 * 5 + 30) / 1.95)


def test_one_long_stop_is_soon_forgotten(meter, clock):
    meter.began(200)
    answer_after(meter, clock, *[0.1] * 60, 20)
    assert meter.seconds_each < 1.5
    answer_after(meter, clock, *[0.1] * 60)
    assert meter.seconds_each < 0.2


def test_answers_without_any_time_between_them(meter, clock):
    meter.began(2)
    meter.answered()
    meter.answered()
    assert meter.seconds_each == 0
    answer_after(meter, clock, 1)
    assert meter.seconds_each == pytest.approx(1 / (1 + 0.95 + 0.95**2))
