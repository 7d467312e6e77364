"""Confidence intervals against resampling written out, and how often they hold the truth."""

import numpy as np
import pytest

from roadseg.evaluation import bootstrap
from roadseg.evaluation.bootstrap import PoissonBootstrap, group_weights, interval


def frame(rng):
    return {"pairs": rng.integers(0, 9, (3, 2)), "sums": rng.integers(0, 9, 4)}


def zero():
    return {"pairs": np.zeros((3, 2), np.int64), "sums": np.zeros(4, np.int64)}


def test_replicates_are_the_sums_of_whole_groups_drawn_alike_for_both_models():
    rng = np.random.default_rng(0)
    groups = [0, 0, 1, 2, 1, 0, 3, 3]  # groups come up again after others
    first, second = [frame(rng) for _ in groups], [frame(rng) for _ in groups]
    resampled = PoissonBootstrap(zero(), 2, 50, seed=7)
    for group, counts in zip(groups, zip(first, second, strict=True), strict=True):
        resampled.add(group, counts)
    weights = np.stack([group_weights(7, group, 50) for group in groups])  # (frames, replicates)
    for model, own in enumerate((first, second)):
        for name in ("pairs", "sums"):
            expected = np.tensordot(weights.T, np.stack([counts[name] for counts in own]), 1)
            found = np.stack([resampled.replicate(i, model)[name] for i in range(50)])
            assert found.dtype == np.int64 and np.array_equal(found, expected)


def test_weights_are_poisson_of_mean_one_and_differ_by_group_and_seed():
    weights = np.stack([group_weights(0, group, 4000) for group in range(10)])
    assert weights.mean() == pytest.approx(1, abs=0.02) and weights.var() == pytest.approx(1, abs=0.04)
    assert abs(np.corrcoef(weights) - np.eye(10)).max() < 0.06
    assert not np.array_equal(group_weights(1, 0, 100), group_weights(0, 0, 100))


def test_intervals_agree_with_drawing_frames_with_replacement():
    rng = np.random.default_rng(1)
    total = rng.integers(50, 150, 200)
    right = rng.binomial(total, rng.beta(6, 3, 200))
    resampled = PoissonBootstrap({"n": np.zeros(2, np.int64)}, 1, 1000, seed=0)
    for group in range(200):
        resampled.add(group, [{"n": np.array([right[group], total[group]])}])
    ratios = np.array([np.divide(*resampled.replicate(i, 0)["n"]) for i in range(1000)])
    drawn = rng.integers(0, 200, (1000, 200))
    classic = right[drawn].sum(1) / total[drawn].sum(1)
    width = np.ptp(interval(classic))
    assert interval(ratios) == pytest.approx(interval(classic), abs=0.12 * width)


def test_what_makes_frames_hard_for_both_drops_out_of_the_difference():
    rng = np.random.default_rng(2)
    resampled = PoissonBootstrap({"n": np.zeros(2, np.int64)}, 2, 500, seed=0)
    for group in range(60):
        easy = rng.integers(0, 1000)
        resampled.add(group, [{"n": np.array([easy, 1010])}, {"n": np.array([easy + 10, 1010])}])
    ratios = np.array([[np.divide(*resampled.replicate(i, m)["n"]) for m in range(2)] for i in range(500)])
    assert np.ptp(interval(ratios[:, 0])) > 0.05
    assert interval(ratios[:, 1] - ratios[:, 0]) == pytest.approx((10 / 1010, 10 / 1010), abs=1e-12)


def test_memory_is_bounded_by_fewer_replicates(monkeypatch):
    monkeypatch.setattr(bootstrap, "LARGEST_BYTES", 8 * 2 * 10 * 300)
    assert PoissonBootstrap(zero(), 2, 1000, 0).replicates == 300
    assert PoissonBootstrap(zero(), 2, 200, 0).replicates == 200
    monkeypatch.setattr(bootstrap, "LARGEST_BYTES", 1)
    assert PoissonBootstrap(zero(), 2, 1000, 0).replicates == 100


def test_an_interval_needs_half_of_the_replicates():
    values = np.concatenate([np.full(50, np.nan), np.arange(50.0)])
    assert interval(values) == pytest.approx((49 * 0.025, 49 * 0.975))
    values[-1] = np.nan
    assert np.isnan(interval(values)).all()
    assert np.isnan(interval(np.full(9, np.nan))).all()


@pytest.mark.slow
def test_intervals_hold_the_true_difference_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    held, runs = 0, 400
    for _ in range(runs):
        resampled = PoissonBootstrap({"n": np.zeros(2, np.int64)}, 2, 300, seed=int(rng.integers(1 << 30)))
        for group in range(40):  # drives of very different length and difficulty; B is better by 0.05
            total, skill = rng.integers(20, 400), rng.beta(6, 4) * 0.9
            for _ in range(2):
                counts = [
                    {"n": np.array([rng.binomial(total, skill + gain), total])}
                    for gain in (0.0, 0.05 + rng.normal(0, 0.01))
                ]
                resampled.add(group, counts)
        ratios = np.array([[np.divide(*resampled.replicate(i, m)["n"]) for m in range(2)] for i in range(300)])
        low, high = interval(ratios[:, 1] - ratios[:, 0])
        held += low <= 0.05 <= high
    assert 0.90 <= held / runs <= 0.98, f"{held} of {runs}"
