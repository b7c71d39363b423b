"""McNemar's exact test against scipy's binomial test, and Holm's correction by its definition."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from lmeval.paired import holm, mcnemar

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from(["less", "greater", "two-sided"]))
def test_mcnemar_is_scipys(gains: int, losses: int, alternative: str) -> None:
    found = mcnemar(gains, losses, alternative)  # type: ignore[arg-type]
    flips = gains + losses
    expected = binomtest(gains, flips, 0.5, alternative=alternative).pvalue if flips else 1.0
    assert found == pytest.approx(expected, abs=1e-9)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@settings(deadline=None)
@given(PROBABILITIES, st.floats(0.001, 0.2))
def test_holm_rejects_step_by_step(p: list[float], alpha: float) -> None:
    order, expected = sorted(range(len(p)), key=p.__getitem__), set()
    for step, which in enumerate(order):
        if p[which] * (len(p) - step) > alpha:
            break
        expected.add(which)
    assert {i for i, value in enumerate(holm(p)) if value <= alpha} == expected


@settings(deadline=None)
@given(PROBABILITIES)
def test_holm_lies_between_the_plain_p_and_bonferronis(p: list[float]) -> None:
    for plain, adjusted in zip(p, holm(p), strict=True):
        assert plain <= adjusted <= min(1.0, plain * len(p))
