"""Rank agreement: known by hand, equal to SciPy's under resampling, and exact about ties."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from atnas_jax.study.agreement import advantage, agreement, ceiling, precision, resamples, tau_samples, top_count

RNG = np.random.default_rng(3)


def test_one_swap_of_four_by_hand():
    """Of 6 pairs one is discordant: tau 4/6; rho 1 - 6*2/60; the best one is another one."""
    found = agreement(np.asarray([1.0, 2.0, 4.0, 3.0]), np.asarray([10.0, 20.0, 30.0, 40.0]))
    assert found["tau"] == pytest.approx(4 / 6) and found["spearman"] == pytest.approx(0.8)
    assert found["precision"] == 0.0 and -1 <= found["low"] < found["tau"] < found["high"] <= 1


def test_perfect_reversed_and_constant_scores():
    truth = np.arange(20.0)
    same, back, flat = (agreement(score, truth) for score in (truth**3, -truth, np.ones(20)))
    assert [same[name] for name in ("tau", "low", "high", "spearman", "precision")] == pytest.approx([1.0] * 5)
    assert [back[name] for name in ("tau", "low", "high", "spearman", "precision")] == pytest.approx([-1.0] * 4 + [0.0])
    assert [flat[name] for name in ("tau", "low", "high", "spearman")] == [None] * 4
    assert flat["precision"] == pytest.approx(2 / 20)  # chance


@pytest.mark.parametrize("levels", [1000, 4])
def test_a_weighted_tau_is_that_of_the_sample(levels):
    """Of resampled things, with copies of each and with ties."""
    x, y = RNG.integers(0, levels, (2, 12)).astype(float)
    weights = resamples(12)[:20]
    found = tau_samples(x, y, weights)
    for row, tau in zip(weights.astype(int), found):
        assert tau == pytest.approx(kendalltau(np.repeat(x, row), np.repeat(y, row)).statistic)
    assert tau_samples(x, y, np.ones((1, 12)))[0] == pytest.approx(kendalltau(x, y).statistic)


def test_precision_of_the_best_tenth():
    assert [top_count(n) for n in (2, 14, 32, 35)] == [1, 1, 3, 4]
    truth = np.arange(30.0)
    score = truth.copy()
    score[29] = -1  # one of the best three is taken for the worst
    assert precision(score, truth) == pytest.approx(2 / 3)
    tied = np.where(truth >= 24, 1.0, 0.0)  # three of these six, at random
    assert precision(tied, truth) == pytest.approx(1 / 2)


def test_what_could_not_be_scored_counts_as_worst():
    truth, score = np.arange(6.0), np.arange(6.0)
    score[0] = -np.inf
    assert agreement(score, truth)["tau"] == pytest.approx(1.0)
    score[0], score[5] = 0.0, np.nan
    assert agreement(score, truth)["tau"] == pytest.approx(5 / 15)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Of normal pairs with correlation r, tau is 2/pi asin(r); a percentile bootstrap of 40 is a little too narrow."""
    expected, hits = 2 / np.pi * np.arcsin(0.7), 0
    for _ in range(60):
        x, noise = RNG.normal(size=(2, 40))
        found = agreement(0.7 * x + np.sqrt(1 - 0.49) * noise, x)
        hits += found["low"] <= expected <= found["high"]
    assert 50 <= hits <= 60


def test_an_advantage_is_paired():
    """A score with little noise is ahead of one with much, and the interval excludes zero; none is ahead of itself."""
    truth = RNG.normal(size=40)
    near, far = truth + 0.2 * RNG.normal(size=40), truth + 3 * RNG.normal(size=40)
    found = advantage(near, far, truth)
    assert found["tau"] == pytest.approx(agreement(near, truth)["tau"] - agreement(far, truth)["tau"])
    assert 0 < found["low"] < found["tau"] < found["high"]
    assert advantage(near, near, truth) == {"tau": 0.0, "low": 0.0, "high": 0.0}


def test_the_ceiling_is_the_mean_over_pairs_of_seeds():
    columns = RNG.normal(size=(3, 15)) * 0.3 + np.arange(15.0)
    found = ceiling(columns)
    pairs = [kendalltau(columns[a], columns[b]).statistic for a, b in ((0, 1), (0, 2), (1, 2))]
    assert found["tau"] == pytest.approx(np.mean(pairs)) and found["genotypes"] == 15
    assert found["low"] <= found["tau"] <= found["high"]
