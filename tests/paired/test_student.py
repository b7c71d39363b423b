"""t-tests: formulas in a loop, clusters, ratios, skewness, and what they say when nothing varies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew

from lmeval.paired import StepNoise, TDifference
from lmeval.paired.caveats import skew_per_root
from lmeval.paired.skew import SkewedDifference
from lmeval.paired.student import t_difference
from lmeval.paired.units import cluster_index, cluster_sums, ratio_variance

T = TDifference(delta=-0.003, stderr=0.004, df=30, n=31, method="paired t")
SKEWED = st.builds(
    SkewedDifference,
    st.floats(-0.1, 0.1),
    st.floats(0.001, 0.1),
    st.floats(3, 500),
    st.one_of(st.floats(-0.6, 0.6), st.sampled_from([0.0, 5e-324, 1e-12, -1e-9, 1e-8])),
    st.just(50),
)


def test_clusters_are_numbered_and_only_where_they_bind() -> None:
    assert cluster_index(None) is None
    assert cluster_index(["a", "b", None, None]) is None  # no two documents share one
    index = cluster_index(["a", None, "a", None, "b"])
    assert index is not None
    assert index.tolist() == [0, 1, 0, 2, 3]
    assert cluster_sums(np.arange(10.0).reshape(5, 2), index).tolist() == [[4, 6], [2, 3], [6, 7], [8, 9]]


def test_a_cluster_robust_error_in_a_loop() -> None:
    rng = np.random.default_rng(0)
    d, names = rng.normal(size=40), [f"page {i}" for i in rng.integers(0, 9, size=40)]
    mean, squares = d.mean(), 0.0
    for name in set(names):
        squares += sum(d[i] - mean for i in range(40) if names[i] == name) ** 2
    count = len(set(names))
    expected = math.sqrt(count / (count - 1) * squares) / 40
    found = t_difference(d, np.ones(40), cluster_index(names), method="paired t", size=1.0)
    assert found.stderr == pytest.approx(expected, abs=1e-12)
    assert (found.df, found.num_clusters, found.n) == (count - 1, count, 40)
    assert "9 clusters" in found.method


def test_a_ratio_in_a_loop() -> None:
    d, w = [2.0, -1.0, 0.5, 3.0], [10.0, 5.0, 2.0, 8.0]
    delta = 4.5 / 25
    expected = math.sqrt(4 / 3 * sum((a - delta * b) ** 2 for a, b in zip(d, w, strict=True))) / 25
    found = t_difference(np.array(d), np.array(w), None, method="ratio", size=1.0)
    assert (found.delta, found.stderr) == (delta, pytest.approx(expected, abs=1e-15))
    # every document in a cluster of its own is no cluster at all
    own = ratio_variance(np.array(d), np.array(w), np.arange(4))
    assert math.sqrt(own) == pytest.approx(expected, abs=1e-15)


def test_many_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(1)
    d, w, index = rng.normal(size=(30, 5)), rng.uniform(1, 9, size=(30, 5)), rng.integers(0, 6, size=30)
    for clusters in (None, index):
        together = ratio_variance(d, w, clusters)
        alone = [float(ratio_variance(d[:, i], w[:, i], clusters)) for i in range(5)]
        assert together == pytest.approx(alone, abs=1e-15)


@pytest.mark.parametrize("units", ["documents", "clusters"])
def test_one_unit_claims_nothing(units: str) -> None:
    n = 1 if units == "documents" else 4
    index = None if units == "documents" else np.zeros(4, dtype=np.int64)
    found = t_difference(np.ones(n), np.ones(n), index, method="paired t", size=1.0)
    assert found.stderr is None
    assert found.p_not_worse(10) == found.p_worse(-10) == found.p_better() == 1.0
    assert found.interval(0.9) == (-math.inf, math.inf)


def test_rounding_is_no_spread() -> None:
    d = np.full(50, 0.1 + 0.2) - np.full(50, 0.3)  # 5.6e-17 each, and what the mean leaves
    d[::2] += 1e-17
    found = t_difference(d, np.ones(50), None, method="paired t", size=0.3)
    assert found.stderr == 0.0
    assert (found.p_not_worse(0.01), found.p_worse(0.01)) == (0.0, 1.0)
    assert found.p_better() in (0.0, 1.0)
    same = TDifference(0.0, 0.0, 49, 50, "paired t")
    assert same.p_better() == same.p_worse(0.0) == 1.0  # no difference is no evidence of one


@settings(deadline=None)
@given(st.floats(0, 0.02), st.floats(0, 0.02))
def test_margins(one: float, other: float) -> None:
    narrow, wide = sorted((one, other))
    assert T.p_not_worse(wide) <= T.p_not_worse(narrow)
    assert T.p_worse(wide) >= T.p_worse(narrow)
    assert T.p_not_worse(wide) + T.p_worse(wide) == pytest.approx(1)
    turned = TDifference(-T.delta, T.stderr, T.df, T.n, T.method)
    assert turned.p_better(wide) == pytest.approx(T.p_worse(wide), abs=1e-15)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
def test_the_interval_holds_what_neither_test_rejects(confidence: float) -> None:
    low, high = T.interval(confidence)
    assert T.p_not_worse(-low) == pytest.approx((1 - confidence) / 2, abs=1e-12)
    assert T.p_worse(-high) == pytest.approx((1 - confidence) / 2, abs=1e-12)


def test_step_noise_by_welch_and_satterthwaite() -> None:
    d, noise = np.random.default_rng(2).normal(size=50), StepNoise(0.01, 4, 5)
    plain = t_difference(d, np.ones(50), None, method="paired t", size=1.0)
    noisy = t_difference(d, np.ones(50), None, method="paired t", size=1.0, step_noise=noise)
    a, b = (plain.stderr or 0) ** 2, 0.01 * 6 / 5
    assert noisy.stderr == pytest.approx(math.sqrt(a + b), abs=1e-12)
    assert noisy.df == pytest.approx((a + b) ** 2 / (a**2 / 49 + b**2 / 4), abs=1e-9)


@settings(deadline=None)
@given(SKEWED, st.sampled_from([0.8, 0.9, 0.95]))
def test_the_skewed_interval_holds_what_neither_test_rejects(
    found: SkewedDifference, confidence: float
) -> None:
    low, high = found.interval(confidence)
    assert low < high
    assert found.p_not_worse(-low) == pytest.approx((1 - confidence) / 2, abs=1e-9)
    assert found.p_worse(-high) == pytest.approx((1 - confidence) / 2, abs=1e-9)


@settings(deadline=None)
@given(SKEWED, st.floats(-0.3, 0.3))
def test_turning_a_skewed_difference_round(found: SkewedDifference, margin: float) -> None:
    turned = SkewedDifference(-found.delta, found.stderr, found.df, -found.skew, found.n)
    assert turned.p_better(margin) == pytest.approx(found.p_worse(margin), abs=1e-12)
    assert found.p_not_worse(margin) + found.p_worse(margin) == pytest.approx(1, abs=1e-12)


def test_skewness() -> None:
    x = np.random.default_rng(3).exponential(size=200)
    assert skew_per_root(x - x.mean()) == pytest.approx(float(skew(x)) / math.sqrt(200), abs=1e-12)
    assert skew_per_root(np.zeros(4)) == 0.0
