"""Betting e-processes against a loop, a full enumeration, and what they promise at any stopping time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmeval.betting import FINAL_SHARE, SHARES, BettingDifference, log_wealth, wealth_needed
from lmeval.stats import FloatArray

Array = list[float]


def single(d: Array | FloatArray, span: float = 1.0) -> BettingDifference:
    return BettingDifference(np.asarray(d, dtype=float), np.ones(len(d)), 1, span)


def naive_wealth(gains: Array) -> list[float]:
    """One gambler per share, each with a tenth of the money, product by product."""
    purses = [1 / len(SHARES)] * len(SHARES)
    history = []
    for gain in gains:
        purses = [purse * (1 + share * gain) for purse, share in zip(purses, SHARES, strict=True)]
        history.append(sum(purses))
    return history


def naive_p_not_worse(d: Array, margin: float) -> float:
    """H0: delta <= -margin, for d in [-1, 1]: bets are shares of 1 / (1 - margin)."""
    history = naive_wealth([(x + margin) / (1 - margin) for x in d])
    return min(1.0, 1 / max(1.0, *history) / (1 - FINAL_SHARE))


def test_the_wealth_is_that_of_a_naive_loop() -> None:
    gains = np.random.default_rng(0).uniform(-1, 1.2, 400)
    assert np.exp(log_wealth(gains)) == pytest.approx(naive_wealth(gains.tolist()), rel=1e-9)


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.3])
def test_p_values_are_those_of_a_naive_loop(margin: float) -> None:
    d = np.random.default_rng(1).choice([-1.0, 0.0, 0.5, 1.0], 500, p=[0.03, 0.85, 0.06, 0.06])
    found = single(d)
    assert found.p_not_worse(margin) == pytest.approx(naive_p_not_worse(d.tolist(), margin), rel=1e-9)
    # the mirror: candidate and baseline change places, and so does the side of the margin
    assert found.p_worse(margin) == pytest.approx(naive_p_not_worse((-d).tolist(), -margin), rel=1e-9)
    assert found.p_better(margin) == pytest.approx(naive_p_not_worse(d.tolist(), -margin), rel=1e-9)


def test_a_score_of_other_bounds_is_the_same_bet_in_other_units() -> None:
    d = np.random.default_rng(2).uniform(-0.5, 0.6, 300)
    twice = single(2 * d, span=2.0)
    assert twice.p_not_worse(0.04) == pytest.approx(single(d).p_not_worse(0.02), rel=1e-9)
    assert twice.interval(0.9) == pytest.approx([2 * end for end in single(d).interval(0.9)], abs=1e-9)


@pytest.mark.parametrize(
    ("outcomes", "margin"), [([(-1, 0.3), (0, 0.5), (1, 0.2)], 0.1), ([(-1, 0.02), (0, 0.98)], 0.02)]
)
def test_wealth_is_1_in_expectation_at_the_margin(outcomes: list[tuple[float, float]], margin: float) -> None:
    assert sum(d * p for d, p in outcomes) == pytest.approx(-margin)
    for sign, worst in ((1, 1 - margin), (-1, 1 + margin)):
        for length in (1, 2, 5):
            expected = 0.0
            for path in itertools.product(outcomes, repeat=length):
                gains = np.array([sign * (d + margin) / worst for d, _ in path])
                expected += math.exp(log_wealth(gains)[-1]) * math.prod(p for _, p in path)
            assert expected == pytest.approx(1, abs=1e-12)


def test_clusters_of_any_size_keep_wealth_at_1_where_the_mean_over_documents_is_at_the_margin() -> None:
    # large clusters lose, single documents gain: the mean over clusters is far above -margin, over documents at it
    margin, share_large = 0.1, 0.25
    large, small = (4, -2.0), (1, 0.0)  # (size, sum of d)
    mean_size = share_large * 4 + (1 - share_large) * 1
    lift = (-margin * mean_size - share_large * large[1]) / (1 - share_large)
    small = (1, lift)
    assert share_large * large[1] + (1 - share_large) * lift == pytest.approx(-margin * mean_size)
    expected = 0.0
    for path in itertools.product([(large, share_large), (small, 1 - share_large)], repeat=4):
        gains = np.array([(total + margin * size) / (4 * (1 - margin)) for (size, total), _ in path])
        expected += math.exp(log_wealth(gains)[-1]) * math.prod(p for _, p in path)
    assert expected == pytest.approx(1, abs=1e-12)


def test_without_replacement_no_stopping_rule_gains_beyond_the_margin() -> None:
    # every order of a small set whose own mean is at the margin: P(wealth ever >= c) <= 1 / c
    d, margin = [-1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0], 1 / 7
    orders = set(itertools.permutations(d))
    peaks = [math.exp(log_wealth((np.array(order) + margin) / (1 - margin)).max()) for order in orders]
    for c in (1.2, 1.5, 2.0):
        assert np.mean([peak >= c for peak in peaks]) <= 1 / c


def test_one_cluster_is_one_bet_on_its_sum() -> None:
    sums, sizes = np.array([-1.0, 2.0, 0.0, 1.5]), np.array([1.0, 3.0, 2.0, 2.0])
    found = BettingDifference(sums, sizes, 5, 1.0)  # a cluster of 5 is still to come
    gains = [(total + 0.1 * size) / (5 * 0.9) for total, size in zip(sums, sizes, strict=True)]
    expected = min(1.0, 1 / max(1.0, *naive_wealth(gains)) / (1 - FINAL_SHARE))
    assert found.p_not_worse(0.1) == pytest.approx(expected, rel=1e-9)
    assert (found.n, found.num_clusters, found.delta) == (8, 4, pytest.approx(2.5 / 8))
    assert found.method == "betting e-process by cluster"


def test_no_flips_pass_and_steady_losses_fail() -> None:
    assert single(np.zeros(400)).p_not_worse(0.02) < 0.05 < single(np.zeros(400)).p_worse(0.02)
    worse = np.tile([-1.0, 0.0, 0.0, 0.0], 20)
    assert single(worse).p_worse(0.02) < 0.01
    assert single(worse).p_not_worse(0.02) == 1.0


def test_p_never_rises_again() -> None:
    rng = np.random.default_rng(3)
    d = np.concatenate([np.zeros(300), rng.choice([-1.0, 0.0], 300, p=[0.3, 0.7])])
    p_values = [single(d[:n]).p_not_worse(0.02) for n in range(10, 601, 10)]
    assert (np.diff(p_values) <= 0).all()
    assert p_values[29] == p_values[-1] < 0.05  # the losses that came later do not take it back


def test_a_wealth_of_wealth_needed_is_p_equal_to_alpha() -> None:
    assert 1 / wealth_needed(0.05) / (1 - FINAL_SHARE) == pytest.approx(0.05)


class Fixed:
    """A test of fixed size with given p-values."""

    def __init__(self, not_worse: float, worse: float) -> None:
        self.not_worse, self.worse = not_worse, worse

    def p_not_worse(self, margin: float) -> float:
        return self.not_worse

    def p_worse(self, margin: float) -> float:
        return self.worse


def test_the_last_test_spends_only_what_was_kept_for_it() -> None:
    d = np.tile([1.0, -1.0], 20)
    before = single(d)
    after = BettingDifference(before.sums, before.sizes, 1, 1.0, Fixed(0.009, 0.4))
    assert after.p_not_worse(0.02) == pytest.approx(0.009 / FINAL_SHARE)
    assert after.p_not_worse(0.02) < before.p_not_worse(0.02)
    assert after.p_worse(0.02) == before.p_worse(0.02)
    assert after.method == "betting e-process by document, then all documents at 0.2 alpha"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=60),
    st.sampled_from([0.5, 0.9]),
)
def test_an_interval_ends_where_the_tests_begin_to_reject(d: Array, confidence: float) -> None:
    found, alpha = single(d), (1 - confidence) / 2
    low, high = found.interval(confidence)
    assert -1 <= low <= high <= 1
    if low > -1:
        assert found.p_better(low - 1e-6) <= alpha < found.p_better(low + 1e-6)
    if high < 1:
        assert found.p_worse(-high - 1e-6) <= alpha < found.p_worse(-high + 1e-6)


def test_a_score_out_of_bounds_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="out of bounds"):
        single([0.0, 1.5])


def test_a_margin_beyond_all_scores_is_certain() -> None:
    assert single([-1.0]).p_not_worse(1.5) == 0.0
    assert single([-1.0]).p_better(1.0) == 1.0
