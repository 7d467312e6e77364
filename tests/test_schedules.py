"""The learning-rate schedule, by hand."""

import pytest

from roadseg.schedules import warmup_cosine, warmup_poly


def test_warms_up_linearly_then_decays_to_zero():
    factor = warmup_poly(total_steps=110, warmup_steps=10, power=0.9)
    assert [factor(i) for i in range(3)] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert factor(10) == 1.0
    assert factor(60) == pytest.approx(0.5**0.9)
    assert factor(110) == 0.0 and factor(500) == 0.0


def test_a_short_run_does_not_end_inside_its_warm_up():
    factor = warmup_poly(total_steps=20, warmup_steps=1500, power=1.0)
    assert max(factor(i) for i in range(20)) == 1.0
    assert factor(19) == pytest.approx(1 / 18)


def test_no_warm_up_begins_at_the_full_rate():
    assert warmup_poly(10, 0, 1.0)(0) == 1.0


def test_the_cosine_warms_up_linearly_then_decays_to_zero():
    factor = warmup_cosine(total_steps=130, warmup_steps=10)
    assert [factor(i) for i in (0, 1, 9)] == pytest.approx([1 / 11, 2 / 11, 10 / 11])
    # cos 0, 60, 90, 120 and 180 degrees are 1, 1/2, 0, -1/2 and -1.
    assert [factor(10 + i) for i in (0, 40, 60, 80, 120)] == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])
    assert factor(500) == 0.0
    assert warmup_cosine(20, 1500)(2) == 1.0, "a short run warms up for a tenth of it"
