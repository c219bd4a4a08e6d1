"""How far two scores of the same things agree on their order, with 95 % intervals over the things."""

from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr

RESAMPLES = 2000  # of the bootstrap
TOP = 0.1  # the share that precision looks at


def agreement(score: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """Return Kendall's tau-b with its bootstrap interval, Spearman's rho and the precision of the best tenth.

    Args:
        score, truth: float [n], larger is better; ties are allowed, NaN counts as worst.

    Returns:
        {"tau", "low", "high", "spearman", "precision"}; None where it is undefined, as for a constant score.
    """
    score, truth = _ordered(score), _ordered(truth)
    low, high = interval_of(tau_samples(score, truth, resamples(len(score))))
    return {
        "tau": number(kendalltau(score, truth).statistic),
        "low": low,
        "high": high,
        "spearman": number(spearmanr(score, truth).statistic) if len(set(score)) > 1 < len(set(truth)) else None,
        "precision": precision(score, truth),
    }


def ceiling(columns: np.ndarray) -> dict[str, Any]:
    """Return the agreement of seed against seed, the mean over all pairs of columns [seeds,n], seeds >= 2."""
    pairs = [(a, b) for a in range(len(columns)) for b in range(a)]
    found = [agreement(columns[a], columns[b]) for a, b in pairs]
    weights = resamples(columns.shape[1])
    samples = np.mean([tau_samples(_ordered(columns[a]), _ordered(columns[b]), weights) for a, b in pairs], 0)
    low, high = interval_of(samples)
    means = {
        name: None if any(one[name] is None for one in found) else float(np.mean([one[name] for one in found]))
        for name in ("tau", "spearman", "precision")
    }
    return means | {"low": low, "high": high, "genotypes": columns.shape[1]}


def advantage(score: np.ndarray, other: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """Return tau(score) - tau(other) against the truth, with its paired bootstrap interval: {"tau", "low", "high"}."""
    score, other, truth = map(_ordered, (score, other, truth))
    weights = resamples(len(truth))
    low, high = interval_of(tau_samples(score, truth, weights) - tau_samples(other, truth, weights))
    return {
        "tau": number(kendalltau(score, truth).statistic - kendalltau(other, truth).statistic),
        "low": low,
        "high": high,
    }


def precision(score: np.ndarray, truth: np.ndarray, share: float = TOP) -> float:
    """Return which part of the best `share` by score is among the best `share` by truth, ties broken at random."""
    top = top_count(len(score), share)
    return float(_membership(score, top) @ _membership(truth, top) / top)


def top_count(n: int, share: float = TOP) -> int:
    """Return how many of n are its best `share`, at least one."""
    return max(1, round(share * n))


def _membership(values: np.ndarray, top: int) -> np.ndarray:
    """Return float [n], the probability of being among the best `top` when ties are broken at random."""
    last = np.sort(values)[-top]
    above, tied = values > last, values == last
    return above + tied * (top - above.sum()) / tied.sum()


def resamples(n: int) -> np.ndarray:
    """Return float [RESAMPLES,n]: how often each of n things is in each bootstrap sample, always the same draws."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float64)


def tau_samples(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b float [B] of each sample of weights [B,n] (Kendall 1945; a copy is tied with itself).

    tau_b = sum_ij w_i w_j s_ij t_ij / sqrt(sum_ij w_i w_j |s_ij| sum_ij w_i w_j |t_ij|), s and t the signs of the
    differences of x and y; NaN where all are tied.
    """
    s, t = (np.sign(values[:, None] - values) for values in (x, y))

    def total(pairs):
        return ((weights @ pairs) * weights).sum(1)

    with np.errstate(invalid="ignore", divide="ignore"):
        return total(s * t) / np.sqrt(total(np.abs(s)) * total(np.abs(t)))


def interval_of(samples: np.ndarray) -> tuple[float | None, float | None]:
    """Return the 2.5 % and 97.5 % points of the samples that are defined."""
    known = samples[np.isfinite(samples)]
    return tuple(map(float, np.quantile(known, (0.025, 0.975)))) if known.size else (None, None)


def number(value: float) -> float | None:
    """Return a finite float, or None."""
    return float(value) if np.isfinite(value) else None


def _ordered(values: np.ndarray) -> np.ndarray:
    """Return finite float64 values in the same order, what is NaN or -inf being less than the rest."""
    values = np.asarray(values, np.float64)
    fine = np.isfinite(values)
    lowest = values[fine].min() - 1.0 if fine.any() else 0.0
    return np.where(fine, values, lowest)
