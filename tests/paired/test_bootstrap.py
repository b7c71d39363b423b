"""The paired bootstrap: a naive loop, its interval and p-values as one statement, clusters, seeds, noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

from lmeval.paired import BootstrapDifference, StepNoise
from lmeval.paired.bootstrap import (
    bootstrap_difference,
    difference_of,
    leave_one_out,
    resampled_differences,
)
from lmeval.stats import FloatArray


def f1(sums: FloatArray) -> FloatArray:
    return np.asarray(2 * sums[:, 0] / (sums[:, 1] + sums[:, 2]), dtype=np.float64)


def table(seed: int, n: int = 60) -> FloatArray:
    """Right, predicted and wanted words of both models, shape (n, 6)."""
    rng = np.random.default_rng(seed)
    wanted = rng.integers(2, 9, size=n)
    sides = []
    for skill in (0.6, 0.55):
        predicted = rng.integers(2, 9, size=n)
        sides.append(np.column_stack([rng.binomial(np.minimum(wanted, predicted), skill), predicted, wanted]))
    return np.hstack(sides).astype(np.float64)


def found(seed: int = 0, *, sign: float = 1.0, noise: StepNoise | None = None) -> BootstrapDifference:
    return bootstrap_difference(
        table(seed),
        difference_of(f1, sign),
        np.random.default_rng(7),
        n=60,
        num_clusters=None,
        step_noise=noise,
        resamples=999,
    )


def test_a_naive_loop() -> None:
    pairs, drawn = table(1, 23), np.random.default_rng(5).integers(0, 23, size=(40, 23))
    expected = []
    for rows in drawn:
        sums = [0.0] * 6
        for row in rows:
            for column in range(6):
                sums[column] += pairs[row, column]
        candidate = 2 * sums[3] / (sums[4] + sums[5])
        expected.append(candidate - 2 * sums[0] / (sums[1] + sums[2]))
    values = resampled_differences(pairs, difference_of(f1, 1.0), np.random.default_rng(5), 40)
    assert values == pytest.approx(expected, abs=1e-12)


def test_p_values_count_resamples_beyond_the_threshold() -> None:
    difference, margin = found(), 0.05
    share = (sum(value <= -margin for value in difference.resampled) + 1) / 1000
    expected = t.cdf(norm.ppf(share) * math.sqrt(59 / 60), 59)
    assert difference.p_not_worse(margin) == pytest.approx(expected, abs=1e-12)
    share = (sum(value >= -margin for value in difference.resampled) + 1) / 1000
    assert difference.p_worse(margin) == pytest.approx(
        t.cdf(norm.ppf(share) * math.sqrt(59 / 60), 59), abs=1e-12
    )


def test_differences_are_signed() -> None:
    """A test of absolute differences would call the resamples on the wrong side a success."""
    difference = found()
    assert difference.resampled.min() < 0 < difference.resampled.max()
    turned = found(sign=-1.0)
    assert turned.delta == -difference.delta
    assert turned.resampled == pytest.approx(-difference.resampled[::-1], abs=1e-15)
    assert turned.p_better(0.01) == difference.p_worse(0.01)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 50), st.sampled_from([0.6, 0.8, 0.9, 0.95, 0.98]))
def test_the_interval_holds_what_neither_test_rejects(seed: int, confidence: float) -> None:
    difference, alpha = found(seed), (1 - confidence) / 2
    low, high = difference.interval(confidence)
    step = 1e-9
    assert difference.p_not_worse(-low) >= alpha > difference.p_not_worse(-low + step)
    assert difference.p_worse(-high) >= alpha > difference.p_worse(-high - step)


@settings(deadline=None)
@given(st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_wider_margin_is_easier_to_pass(one: float, other: float) -> None:
    difference = found()
    narrow, wide = sorted((one, other))
    assert difference.p_not_worse(wide) <= difference.p_not_worse(narrow)
    assert difference.p_worse(wide) >= difference.p_worse(narrow)


def test_too_few_resamples_for_a_level_give_no_end() -> None:
    difference = found()
    assert difference.interval(1 - 1e-5) == (-math.inf, math.inf)


def test_the_seed_decides() -> None:
    assert np.array_equal(found().resampled, found().resampled)


def test_the_spread_is_the_standard_error_and_noise_widens_it() -> None:
    plain, noisy = found(), found(noise=StepNoise(0.001, 4, 5))
    assert plain.stderr == pytest.approx(np.std(plain.resampled, ddof=1), abs=1e-12)
    # t of 4 degrees of freedom has variance 2
    assert noisy.stderr == pytest.approx(math.sqrt(float(plain.stderr or 0) ** 2 + 2 * 0.0012), rel=0.15)
    assert noisy.p_not_worse(0.1) > plain.p_not_worse(0.1)


def test_one_document_or_an_undefined_metric_claims_nothing() -> None:
    one = bootstrap_difference(
        table(0, 1), difference_of(f1, 1.0), np.random.default_rng(0), n=1, num_clusters=None
    )
    assert (one.stderr, one.p_not_worse(9), one.p_worse(-9)) == (None, 1.0, 1.0)
    assert one.interval(0.9) == (-math.inf, math.inf)
    holes = np.zeros((5, 6))
    holes[0] = 1  # a resample without it divides nothing by nothing
    with np.errstate(invalid="ignore"):
        undefined = bootstrap_difference(
            holes, difference_of(f1, 1.0), np.random.default_rng(0), n=5, num_clusters=None
        )
    assert undefined.stderr is None
    assert [caveat.blocks for caveat in undefined.caveats] == [True]


def test_pseudo_values_by_leaving_each_out() -> None:
    pairs, change = table(3, 12), difference_of(f1, 1.0)
    whole = float(change(pairs.sum(axis=0, keepdims=True))[0])
    expected = []
    for i in range(12):
        rest = np.delete(pairs, i, axis=0).sum(axis=0, keepdims=True)
        expected.append(12 * whole - 11 * float(change(rest)[0]))
    assert leave_one_out(pairs, change) == pytest.approx(expected, abs=1e-10)
