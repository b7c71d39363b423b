"""What a suite can resolve: the formula, its inverse, and that it is the power of the tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from lmeval.paired import (
    TangoDifference,
    detectable_flip_margin,
    documents_needed,
    flip_documents_needed,
    flip_sd,
    minimum_detectable_effect,
)
from lmeval.paired.trinomial import flip_counts, tango_z


def test_a_flip_rate_is_a_standard_deviation() -> None:
    differences = np.repeat([1.0, -1.0, 0.0], [3, 7, 90])
    assert flip_sd(0.1, -0.04) == pytest.approx(differences.std(), abs=1e-12)
    assert flip_sd(0.0) == 0.0


def test_the_formula() -> None:
    expected = (norm.ppf(0.99) + norm.ppf(0.9)) * 0.3 / math.sqrt(400)
    assert minimum_detectable_effect(0.3, 400, alpha=0.01, power=0.9) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.floats(0.01, 2), st.floats(0.001, 0.2), st.floats(0.001, 0.2), st.floats(0.3, 0.99))
def test_documents_needed_is_the_fewest(sd: float, effect: float, alpha: float, power: float) -> None:
    n = documents_needed(sd, effect, alpha=alpha, power=power)
    assert minimum_detectable_effect(sd, n, alpha=alpha, power=power) <= effect * (1 + 1e-12)
    if n > 1:
        assert minimum_detectable_effect(sd, n - 1, alpha=alpha, power=power) > effect * (1 - 1e-12)


@pytest.mark.parametrize(("n", "rate"), [(1000, 0.1), (2000, 0.2)])
def test_equal_models_pass_as_often_as_planned(n: int, rate: float) -> None:
    margin = minimum_detectable_effect(flip_sd(rate), n)
    gains, losses, probability = flip_counts(n, rate / 2, rate / 2)
    passed = norm.sf(tango_z(gains, losses, float(n), -margin)) < 0.05
    assert float(probability[passed].sum()) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("n", "rate"), [(200, 0.02), (200, 0.1), (1000, 0.01), (5000, 0.005)])
def test_with_few_flips_the_margin_allows_for_the_variance_under_the_hypothesis(n: int, rate: float) -> None:
    margin = detectable_flip_margin(rate, n)
    assert margin > minimum_detectable_effect(flip_sd(rate), n)
    gains, losses, probability = flip_counts(n, rate / 2, rate / 2)
    passed = norm.sf(tango_z(gains, losses, float(n), -margin)) < 0.05
    assert float(probability[passed].sum()) == pytest.approx(0.82, abs=0.03)


def test_without_flips_it_is_what_tangos_test_needs() -> None:
    assert flip_documents_needed(0.0, 0.01) == 268
    assert TangoDifference(0, 0, 268).p_not_worse(0.01) < 0.05 < TangoDifference(0, 0, 267).p_not_worse(0.01)
    z2 = norm.ppf(0.95) ** 2
    assert detectable_flip_margin(0.0, 100) == pytest.approx(z2 / (100 + z2), abs=1e-9)
    assert detectable_flip_margin(1.0, 2, power=0.99) == 1.0  # no margin of a share is wide enough


@settings(deadline=None)
@given(st.floats(0, 0.5), st.floats(0.004, 0.3), st.floats(0.5, 0.99))
def test_flip_documents_needed_is_the_fewest(rate: float, margin: float, power: float) -> None:
    n = flip_documents_needed(rate, margin, power=power)
    assert detectable_flip_margin(rate, n, power=power) <= margin * (1 + 1e-6)
    if n > 1:
        assert detectable_flip_margin(rate, n - 1, power=power) > margin * (1 - 1e-6)
