"""Score tests against likelihoods maximised by brute force; t-tests and the ratio against scipy and a fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import norm, ttest_1samp

from lmeval.paired import TangoDifference, paired_difference
from lmeval.paired.score import bounded_difference, bounded_variance
from lmeval.paired.trinomial import tango_variance
from lmeval.stats import FloatArray

CASES = [
    (3, 9, 200, 0.01),
    (0, 6, 300, 0.01),
    (12, 0, 60, 0.05),
    (40, 70, 1000, 0.02),
    (1, 1, 20, 0.2),
    (30, 30, 80, 0.0),
    (5, 2, 100, -0.03),
]


def likeliest_loss_rate(gains: int, losses: int, n: int, margin: float) -> float:
    """The loss rate q that maximises the likelihood while the gain rate is q - margin."""

    def minus_log_likelihood(q: float) -> float:
        rates = [(gains, q - margin), (losses, q), (n - gains - losses, 1 - 2 * q + margin)]
        return -sum(count * math.log(rate) for count, rate in rates if count)

    low, high = max(0.0, margin), (1 + margin) / 2
    found = minimize_scalar(
        minus_log_likelihood, bounds=(low + 1e-14, high - 1e-14), method="bounded", options={"xatol": 1e-15}
    )
    # the ends are attained only where the count of the vanishing rate is 0; search does not reach them
    q = float(found.x)
    return low if gains == 0 and q - low < 1e-5 else q


@pytest.mark.parametrize(("gains", "losses", "n", "margin"), CASES)
def test_tango_maximises_the_constrained_likelihood(gains: int, losses: int, n: int, margin: float) -> None:
    q = likeliest_loss_rate(gains, losses, n, margin)

    # a numeric search finds the place of a flat maximum to half its digits only: polish by the slope's root
    def slope(x: float) -> float:
        parts = [(gains, x - margin, 1.0), (losses, x, 1.0), (n - gains - losses, 1 - 2 * x + margin, -2.0)]
        return sum(count * sign / rate for count, rate, sign in parts if count)

    if q > max(0.0, margin):
        from scipy.optimize import brentq

        q = brentq(slope, max(q * 0.999, max(0.0, margin) + 1e-13), q * 1.001, xtol=1e-16, rtol=1e-15)
    expected = 2 * q - margin - margin**2
    assert float(tango_variance(gains, losses, n, -margin)) == pytest.approx(expected, abs=1e-9)
    z = ((gains - losses) / n + margin) / math.sqrt(expected / n)
    assert TangoDifference(gains, losses, n)._score_p(-margin) == pytest.approx(norm.sf(z), abs=1e-9)


@pytest.mark.parametrize("threshold", [-0.2, -0.05, 0.02, 0.3])
def test_the_bounded_test_maximises_the_likelihood_over_values_and_both_ends(threshold: float) -> None:
    """Probabilities of the observed values and of -1 and 1, as likely as can be under a mean of `threshold`."""
    rng = np.random.default_rng(0)
    values = np.array([-0.6, -0.1, 0.0, 0.2, 0.5])
    counts = rng.integers(1, 9, size=5).astype(np.float64)
    support = np.concatenate([values, [-1.0, 1.0]])
    constraints = [
        {"type": "eq", "fun": lambda p: p.sum() - 1},
        {"type": "eq", "fun": lambda p: p @ support - threshold},
    ]
    start = np.full(7, 1 / 7)
    found = minimize(
        lambda p: -counts @ np.log(p[:5]),
        start,
        bounds=[(1e-12, 1)] * 5 + [(0, 1)] * 2,
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    expected = found.x @ (support - threshold) ** 2
    assert bounded_variance(values, counts, threshold, 1.0) == pytest.approx(expected, rel=1e-5)


def table(scores: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    return np.column_stack([scores, np.ones(len(scores)) if weights is None else weights])


def mean_of(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[:, 0] / sums[:, 1])


@pytest.mark.parametrize("n", [60, 400])
def test_means_are_scipys_t_test(n: int) -> None:
    rng = np.random.default_rng(n)
    baseline, candidate = rng.uniform(size=n), rng.uniform(size=n)
    found = paired_difference(
        "mean", table(baseline), table(candidate), mean_of, higher_is_better=True, bounds=(0, 1), rng=rng
    )
    d = candidate - baseline
    for margin in (0.0, 0.01, 0.05):
        assert found.p_not_worse(margin) == pytest.approx(
            ttest_1samp(d, -margin, alternative="greater").pvalue, abs=1e-9
        )
        assert found.p_worse(margin) == pytest.approx(
            ttest_1samp(d, -margin, alternative="less").pvalue, abs=1e-9
        )
    interval = ttest_1samp(d, 0).confidence_interval(0.9)
    assert found.interval(0.9) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_a_ratio_is_a_regression_through_the_origin() -> None:
    """The estimator's residuals are those of a fit with weights 1 / w; its error follows from them by HC1."""
    rng = np.random.default_rng(1)
    w = rng.integers(20, 200, size=300).astype(np.float64)
    nats = 3 * w + rng.normal(0, np.sqrt(w))
    change = rng.normal(0.001, 0.02, size=300) * w
    found = paired_difference(
        "log_ratio", table(nats, w), table(nats + change, w), mean_of, higher_is_better=False, rng=rng
    )
    # least squares of d / sqrt(w) on sqrt(w) is sum d / sum w
    slope, *_ = np.linalg.lstsq(np.sqrt(w)[:, None], change / np.sqrt(w), rcond=None)
    scores = np.sqrt(w) * (change / np.sqrt(w) - slope[0] * np.sqrt(w))
    stderr = math.sqrt(300 / 299 * (scores @ scores)) / w.sum()
    assert found.delta == pytest.approx(-slope[0], abs=1e-12)
    assert found.stderr == pytest.approx(stderr, abs=1e-12)


def test_the_bounded_test_with_every_value_seen_is_an_unconstrained_tilt() -> None:
    """With both ends observed the tilted shares sum to 1 and have the threshold for a mean."""
    differences = np.array([-1.0, -0.5, 0.0, 0.0, 0.25, 1.0])
    found = bounded_difference(differences, 1.0)
    for threshold in (-0.3, 0.1):
        variance = bounded_variance(found.values, found.counts, threshold, 1.0)
        bet = (found.delta - threshold) / variance
        shares = found.counts / 6 / (1 + bet * (found.values - threshold))
        assert shares.sum() == pytest.approx(1, abs=1e-9)
        assert shares @ found.values == pytest.approx(threshold, abs=1e-9)
        assert shares @ (found.values - threshold) ** 2 == pytest.approx(variance, abs=1e-9)
