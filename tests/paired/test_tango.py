"""Tango's test of flips: literal values, its claims about no flips, and its symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from lmeval.paired import StepNoise, TangoDifference
from lmeval.paired.trinomial import exact_tail, flip_counts, tango_variance, tango_z

MARGINS = st.floats(0.0, 0.3)


@st.composite
def flips(draw: st.DrawFn) -> TangoDifference:
    n = draw(st.integers(2, 3000))
    gains = draw(st.integers(0, n))
    return TangoDifference(gains, draw(st.integers(0, n - gains)), n)


@st.composite
def few_flips(draw: st.DrawFn) -> TangoDifference:
    n = draw(st.integers(30, 3000))
    return TangoDifference(draw(st.integers(0, 14)), draw(st.integers(0, 14)), n)


# gains, losses, n, margin -> z by the gate's formula, with a pocket calculator's steps:
# B = x01 (1 - m) + x10 (1 + m) + 2 n m; q = (B + sqrt(B^2 - 8 n x10 m (1 + m))) / 4n
@pytest.mark.parametrize(
    ("gains", "losses", "n", "margin", "z"),
    [
        (0, 0, 268, 0.01, 1.645316),  # sqrt(2.68 / 0.99)
        (0, 0, 100, 0.04, 2.041241),  # sqrt(4 / 0.96)
        (20, 30, 1000, 0.01, 0.0),
        (12, 3, 200, 0.02, 3.097746),
        (1, 12, 44, 0.0, -3.050851),  # no margin: McNemar's (1 - 12) / sqrt(13)
    ],
)
def test_z_is_the_gates_formula(gains: int, losses: int, n: int, margin: float, z: float) -> None:
    assert float(tango_z(gains, losses, n, -margin)) == pytest.approx(z, abs=2e-6)


def test_the_interval_without_flips() -> None:
    """44 patients of whom none changed: z^2 / (n + z^2) on either side, as Tango 1998 derives."""
    low, high = TangoDifference(0, 0, 44).interval(0.95)
    z2 = norm.ppf(0.975) ** 2
    assert (low, high) == pytest.approx((-z2 / (44 + z2), z2 / (44 + z2)), abs=1e-12)


@pytest.mark.parametrize(("n", "shown"), [(267, False), (268, True)])
def test_without_flips_one_point_is_shown_from_268_documents_on(n: int, shown: bool) -> None:
    same = TangoDifference(0, 0, n)
    assert (same.p_not_worse(0.01) < 0.05) is shown
    assert (same.interval(0.9)[0] > -0.01) is shown
    assert same.p_worse(0.01) > 0.5
    assert same.p_better() == same.p_worse(0.0) == 0.5  # no flips are no evidence of anything
    assert same.stderr == 0.0


def test_the_tail_is_the_normal_one_for_a_pass() -> None:
    assert TangoDifference(12, 3, 200).p_not_worse(0.02) == pytest.approx(
        norm.sf(float(tango_z(12, 3, 200, -0.02))), abs=1e-14
    )


def test_the_tail_of_a_fail_is_exact_with_few_flips_and_normal_with_many() -> None:
    few, many = TangoDifference(0, 5, 300), TangoDifference(200, 260, 3000)
    # none gained and few lost: the most likely rates are a loss in a hundred and no gain
    assert few.p_worse(0.01) == pytest.approx(binom.sf(4, 300, 0.01), abs=1e-9)
    assert norm.cdf(float(tango_z(0, 6, 300, -0.01))) < 0.05 < TangoDifference(0, 6, 300).p_worse(0.01)
    assert few.method != many.method
    assert many.p_worse(0.01) == pytest.approx(norm.cdf(float(tango_z(200, 260, 3000, -0.01))), abs=1e-14)


def test_counts_and_their_probabilities_are_all_there() -> None:
    for n, gain, loss in ((1, 0.2, 0.1), (50, 0.0, 0.03), (5000, 0.1, 0.11), (40, 0.5, 0.5)):
        gains, losses, probability = flip_counts(n, gain, loss)
        assert probability.sum() == pytest.approx(1, abs=1e-9)
        assert probability @ gains == pytest.approx(n * gain, abs=1e-7)
        assert probability @ losses == pytest.approx(n * loss, abs=1e-7)
        assert (gains + losses <= n).all()


def test_the_exact_tail_is_a_sum_over_all_counts() -> None:
    gains, losses, n, threshold = 4, 1, 25, 0.05
    variance = float(tango_variance(gains, losses, n, threshold))
    loss_rate = (variance - threshold + threshold**2) / 2
    gain_rate, seen, total = loss_rate + threshold, float(tango_z(gains, losses, n, threshold)), 0.0
    for a in range(n + 1):
        for b in range(n + 1 - a):
            if float(tango_z(a, b, n, threshold)) >= seen - 1e-9:
                ways = math.comb(n, a) * math.comb(n - a, b)
                total += ways * gain_rate**a * loss_rate**b * (1 - gain_rate - loss_rate) ** (n - a - b)
    assert exact_tail(gains, losses, n, threshold) == pytest.approx(total, abs=1e-9)


@settings(deadline=None)
@given(flips(), MARGINS)
def test_swapping_the_models_swaps_everything(found: TangoDifference, margin: float) -> None:
    swapped = TangoDifference(found.losses, found.gains, found.n)
    assert swapped.delta == -found.delta
    assert swapped.stderr == found.stderr
    assert swapped.p_better(margin) == found.p_worse(margin)
    assert swapped.p_worse(margin) == found.p_better(margin)
    low, high = found.interval(0.9)
    assert swapped.interval(0.9) == pytest.approx((-high, -low), abs=1e-12)


@settings(deadline=None)
@given(flips(), MARGINS, MARGINS)
def test_a_wider_margin_is_easier_to_pass(found: TangoDifference, one: float, other: float) -> None:
    narrow, wide = sorted((one, other))
    assert found.p_not_worse(wide) <= found.p_not_worse(narrow) + 1e-12
    assert found._turned()._score_p(wide) >= found._turned()._score_p(narrow) - 1e-12


@settings(deadline=None)
@given(flips(), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_interval_holds_what_the_score_test_does_not_reject(
    found: TangoDifference, confidence: float
) -> None:
    alpha = (1 - confidence) / 2
    low, high = found.interval(confidence)
    assert -1 <= low <= found.delta <= high <= 1
    if low > -1:
        assert found.p_not_worse(-low) == pytest.approx(alpha, abs=1e-9) or found.p_not_worse(-low) >= alpha
        assert found._score_p(low) == pytest.approx(alpha, abs=1e-9)
    if high < 1:
        assert found._turned()._score_p(-high) == pytest.approx(alpha, abs=1e-9)


@settings(deadline=None)
@given(few_flips(), MARGINS)
def test_a_fail_never_claims_more_than_the_score_test(found: TangoDifference, margin: float) -> None:
    assert found.p_worse(margin) >= found._turned()._score_p(margin)
    assert 0 <= found.p_worse(margin) <= 1


@settings(deadline=None)
@given(flips())
def test_z_is_zero_at_the_estimate(found: TangoDifference) -> None:
    assert float(tango_z(found.gains, found.losses, found.n, found.delta)) == pytest.approx(0, abs=1e-6)


@settings(deadline=None)
@given(flips(), st.floats(-0.5, 0.5))
def test_many_at_once_are_each_alone(found: TangoDifference, threshold: float) -> None:
    gains = np.array([found.gains, 0.0, found.losses])
    losses = np.array([found.losses, 0.0, found.gains])
    together = tango_z(gains, losses, found.n, threshold)
    alone = [float(tango_z(g, x, found.n, threshold)) for g, x in zip(gains, losses, strict=True)]
    assert together == pytest.approx(alone, abs=1e-12)


def test_margins_at_the_ends_of_the_range() -> None:
    found = TangoDifference(3, 5, 100)
    assert found.p_not_worse(1.0) == 0.0
    assert found.p_worse(1.0) == 1.0
    assert found.p_better(1.0) == 1.0
    assert TangoDifference(0, 10, 10).interval(0.9)[0] == -1.0


def test_step_noise_widens_everything_and_takes_its_degrees_of_freedom() -> None:
    noise = StepNoise(variance=1e-4, df=4, num_checkpoints=5)
    plain, noisy = TangoDifference(20, 25, 1000), TangoDifference(20, 25, 1000, step_noise=noise)
    assert plain.stderr is not None
    assert noisy.stderr == pytest.approx(math.sqrt(plain.stderr**2 + 1.2e-4))
    assert noisy.p_not_worse(0.03) > plain.p_not_worse(0.03)
    low, high = noisy.interval(0.9)
    assert low < plain.interval(0.9)[0] < plain.interval(0.9)[1] < high
    assert noisy.p_not_worse(-low) == pytest.approx(0.05, abs=1e-9)


def test_a_design_effect_is_a_smaller_sample() -> None:
    clustered = TangoDifference(20, 40, 1000, num_clusters=10**9, design_effect=4.0)
    smaller = TangoDifference(5, 10, 250)
    assert clustered.p_not_worse(0.05) == pytest.approx(smaller._score_p(-0.05), abs=1e-7)
