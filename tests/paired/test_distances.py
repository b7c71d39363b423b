"""Differences of calibration errors, whose estimates noise makes larger by different amounts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from lmeval.metrics import find_metric
from lmeval.metrics.classification import NUM_BINS
from lmeval.paired import Difference, DistanceDifference, paired_difference
from lmeval.stats import Distance, FloatArray

ALPHA = 0.05
RUNS = 120
# of so many runs whose rate is ALPHA, more than this happen to one test in ten thousand
MOST_FALSE = scipy_stats.binom.isf(1e-4, RUNS, ALPHA) / RUNS


def table(confidence: FloatArray, right: FloatArray) -> FloatArray:
    found = np.zeros((len(confidence), NUM_BINS + 1))
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    found[np.arange(len(confidence)), bins] = confidence - right
    found[:, -1] = 1
    return found


def two_models(
    rng: np.random.Generator, n: int, before: float, after: float, alike: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Statistics of two models that are so much overconfident: their true calibration errors.

    Of a share of the documents, `alike`, the second is right where the first is, up to that.
    """
    confidence, draw = rng.uniform(0.4, 1, n), rng.random(n)
    other = np.where(rng.random(n) < alike, draw, rng.random(n))
    right = [(u < confidence - over).astype(float) for u, over in ((draw, before), (other, after))]
    return table(confidence, right[0]), table(confidence, right[1])


def difference(name: str, before: FloatArray, after: FloatArray, distance: Distance | None) -> Difference:
    metric = find_metric(name)
    return paired_difference(
        metric.interval,
        before,
        after,
        metric.aggregate,
        higher_is_better=metric.higher_is_better,
        distance=distance,
        bounds=metric.bounds,
        rng=np.random.default_rng(0),
    )


def ece_difference(before: FloatArray, after: FloatArray) -> Difference:
    return difference("ece", before, after, find_metric("ece").distance)


def test_a_worse_model_seldom_passes_because_the_better_one_looks_worse_than_it_is() -> None:
    rng = np.random.default_rng(1)
    pairs = [two_models(rng, 300, 0.0, 0.1) for _ in range(RUNS)]
    false = np.mean([ece_difference(*pair).p_not_worse(0.1) <= ALPHA for pair in pairs])
    assert false <= MOST_FALSE
    told = np.mean([difference("ece", *pair, None).p_not_worse(0.1) <= ALPHA for pair in pairs[:40]])
    assert told > 0.3  # what resamples alone say


def test_a_model_that_is_no_worse_seldom_fails() -> None:
    rng = np.random.default_rng(2)
    half = np.arange(NUM_BINS) % 2 == 0
    false = []
    for _ in range(RUNS):
        confidence = rng.uniform(0.4, 1, 1000)
        in_half = half[np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)]
        error = float(np.where(in_half, 0.2, 0.0).mean())  # as far from calibrated in all, but elsewhere
        before = table(confidence, (rng.random(1000) < confidence - error).astype(float))
        after = table(confidence, (rng.random(1000) < confidence - np.where(in_half, 0.2, 0.0)).astype(float))
        false.append(ece_difference(before, after).p_worse(0.0) <= ALPHA)
    assert np.mean(false) <= MOST_FALSE


def test_a_much_worse_model_fails_and_one_that_answers_alike_passes() -> None:
    rng = np.random.default_rng(3)
    assert ece_difference(*two_models(rng, 2000, 0.05, 0.25, 0.9)).p_worse(0.02) < 0.01
    assert ece_difference(*two_models(rng, 2000, 0.1, 0.1, 0.99)).p_not_worse(0.03) < 0.01


@pytest.mark.parametrize("name", ["ece", "stereotype_distance"])
def test_the_same_answers_differ_by_nothing(name: str) -> None:
    rng = np.random.default_rng(4)
    before, _ = two_models(rng, 100, 0.1, 0.1)
    if name == "stereotype_distance":
        before = np.column_stack([(rng.random(100) < 0.6).astype(float), np.ones(100)])
    found = difference(name, before, before, find_metric(name).distance)
    assert isinstance(found, DistanceDifference)
    assert (found.delta, found.too_good, found.too_bad) == (0, 0, 0)


def test_what_noise_may_have_added_is_told_on_each_side() -> None:
    """One gap: a mean far from 0 and one at 0, whose noise is known."""
    rng = np.random.default_rng(5)
    ideal = Distance(0.5)
    far = np.column_stack([(rng.random(4000) < 0.9).astype(float), np.ones(4000)])
    near = np.column_stack([(rng.random(4000) < 0.5).astype(float), np.ones(4000)])
    found = difference("stereotype_distance", near, far, ideal)
    assert isinstance(found, DistanceDifference)
    # |noise| of a share of 0.5 and of 0.9 is so large on average
    most = [np.sqrt(2 / np.pi * p * (1 - p) / 4000) for p in (0.5, 0.9)]
    assert (found.too_good, found.too_bad) == pytest.approx(most, rel=0.03)
    assert found.delta == pytest.approx(-0.4, abs=0.03)


def test_the_interval_is_dual_to_the_tests() -> None:
    found = ece_difference(*two_models(np.random.default_rng(6), 800, 0.05, 0.15, 0.5))
    low, high = found.interval(0.9)
    assert low < found.delta < high
    assert found.p_not_worse(-low) == pytest.approx(0.05, abs=0.001)
    assert found.p_worse(-high) == pytest.approx(0.05, abs=0.001)
    assert found.p_better(low) == pytest.approx(0.05, abs=0.001)
