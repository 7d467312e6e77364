"""The learning-rate schedule, by hand."""

import pytest

from roadseg.schedules import warmup_poly


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
