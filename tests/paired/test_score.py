"""The score test for bounded differences: Tango's where they are flips, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmeval.paired import StepNoise, TangoDifference
from lmeval.paired.score import bounded_difference, bounded_variance
from lmeval.stats import FloatArray

# to four digits: at 1e-300 the variance itself is no number
THRESHOLDS = st.integers(-4000, 4000).map(lambda ten_thousandths: ten_thousandths / 10_000)


@st.composite
def samples(draw: st.DrawFn) -> FloatArray:
    """Differences within [-1, 1], most of them 0."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    values = np.round(rng.uniform(-1, 1, size=draw(st.integers(3, 80))), draw(st.integers(0, 3)))
    return np.asarray(values * (rng.random(len(values)) < draw(st.sampled_from([0.1, 0.5, 1.0]))))


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 400), THRESHOLDS)
def test_it_is_tangos_for_flips(gains: int, losses: int, same: int, threshold: float) -> None:
    n = gains + losses + same
    differences = np.repeat([1.0, -1.0, 0.0], [gains, losses, same])
    tango = TangoDifference(gains, losses, n)
    found = bounded_difference(differences, 1.0)
    assert found.p_better(threshold) == pytest.approx(tango._score_p(threshold), abs=1e-9)
    assert found.delta == pytest.approx(tango.delta, abs=1e-12)
    assert found.stderr == pytest.approx(tango.stderr, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(samples(), st.sampled_from([0.8, 0.9, 0.98]))
def test_the_interval_holds_what_neither_test_rejects(differences: FloatArray, confidence: float) -> None:
    found = bounded_difference(differences, 1.0, df=len(differences) - 1)
    low, high = found.interval(confidence)
    assert -1 <= low <= found.delta + 1e-12 <= high + 2e-12 <= 1 + 3e-12
    if low > -1:
        assert found.p_not_worse(-low) == pytest.approx((1 - confidence) / 2, abs=1e-8)
    if high < 1:
        assert found.p_worse(-high) == pytest.approx((1 - confidence) / 2, abs=1e-8)


@settings(deadline=None, max_examples=40)
@given(samples(), st.floats(0, 0.4), st.floats(0, 0.4))
def test_swap_order_and_margin(differences: FloatArray, one: float, other: float) -> None:
    narrow, wide = sorted((one, other))
    found, turned = bounded_difference(differences, 1.0), bounded_difference(-differences, 1.0)
    shuffled = bounded_difference(np.random.default_rng(0).permutation(differences), 1.0)
    assert turned.p_better(narrow) == pytest.approx(found.p_worse(narrow), abs=1e-9)
    assert shuffled.p_worse(wide) == pytest.approx(found.p_worse(wide), abs=1e-9)
    assert found.p_not_worse(wide) <= found.p_not_worse(narrow) + 1e-9
    assert found.p_worse(wide) >= found.p_worse(narrow) - 1e-9


def test_the_reach_of_a_document_is_what_decides_about_no_change() -> None:
    same = np.zeros(300)
    assert bounded_difference(same, 1.0).p_not_worse(0.01) < 0.05
    assert bounded_difference(same, 2.0).p_not_worse(0.01) > 0.05  # a Brier score can move by 2
    assert bounded_difference(same, 1.0).p_better() == bounded_difference(same, 1.0).p_worse(0.0) == 0.5


def test_a_difference_beyond_the_reach_widens_it() -> None:
    assert bounded_difference(np.array([0.0, 3.0]), 1.0).reach == 3.0


def test_the_variance_at_the_estimate_is_the_observed_one() -> None:
    values = np.array([-0.5, 0.0, 0.25])
    counts = np.array([2.0, 5.0, 3.0])
    differences = np.repeat(values, counts.astype(int))
    found = bounded_variance(values, counts, float(differences.mean()), 1.0)
    assert found == pytest.approx(differences.var(), abs=1e-12)


def test_outside_the_range_nothing_is_left_to_test() -> None:
    found = bounded_difference(np.array([0.5, -0.2, 0.0]), 1.0)
    assert found.p_not_worse(1.0) == 0.0
    assert found.p_worse(1.5) == 1.0
    assert bounded_difference(np.array([0.5, -0.2]), 1.0, df=0).p_not_worse(0.9) == 1.0
    assert bounded_difference(np.array([0.5]), 1.0).stderr is None


def test_step_noise_is_added() -> None:
    differences = np.array([0.5, -0.2, 0.0, 0.0])
    plain = bounded_difference(differences, 1.0)
    noisy = bounded_difference(differences, 1.0, step_noise=StepNoise(0.01, 4, 5))
    assert noisy.stderr == pytest.approx(np.sqrt((plain.stderr or 0) ** 2 + 0.012))
    assert noisy.p_not_worse(0.3) > plain.p_not_worse(0.3)
