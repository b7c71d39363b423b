from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from lmeval.gate.bounds import BootstrapLevel, Level, ScoreLevel, level_of, summed_by_cluster
from lmeval.metrics import find_metric
from lmeval.metrics.base import Interval, exp_of_mean, mean_of
from lmeval.metrics.classification import NUM_BINS
from lmeval.stats import FloatArray


def scores(values: list[float]) -> FloatArray:
    return np.column_stack([values, np.ones(len(values))])


def level(
    kind: Interval, table: FloatArray, clusters: list[str | None] | None = None, seed: int = 0
) -> Level | None:
    aggregate = exp_of_mean if kind == "log_ratio" else mean_of
    return level_of(kind, table, aggregate, clusters=clusters, rng=np.random.default_rng(seed))


def found(*args: object, **kwargs: object) -> Level:
    one = level(*args, **kwargs)  # type: ignore[arg-type]
    assert one is not None
    return one


def test_a_share_is_judged_by_the_score_test() -> None:
    share = found("proportion", scores([1.0] * 37 + [0.0] * 13))
    # z of the score test, its variance under the hypothesis
    z = (37 / 50 - 0.6) / math.sqrt(0.6 * 0.4 / 50)
    assert share.p_above(0.6) == pytest.approx(scipy_stats.norm.sf(z), abs=1e-12)
    assert share.p_below(0.6) == pytest.approx(scipy_stats.norm.cdf(z), abs=1e-12)
    wilson = scipy_stats.binomtest(37, 50).proportion_ci(0.9, method="wilson")
    assert share.interval(0.9) == pytest.approx((wilson.low, wilson.high), abs=1e-9)


def test_a_mean_is_judged_by_a_t_test() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.2, 30)
    mean = found("mean", scores(values.tolist()))
    above = scipy_stats.ttest_1samp(values, 0.35, alternative="greater")
    assert mean.p_above(0.35) == pytest.approx(above.pvalue, abs=1e-12)
    assert mean.p_below(0.35) == pytest.approx(1 - above.pvalue, abs=1e-12)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean.interval(0.9) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_perplexity_is_judged_on_the_log_scale_by_residuals_of_documents() -> None:
    rng = np.random.default_rng(2)
    table = np.column_stack([rng.gamma(9, 30, 40), rng.integers(20, 200, 40).astype(float)])
    ppl = found("log_ratio", table)
    ratio = table[:, 0].sum() / table[:, 1].sum()
    residuals = table[:, 0] - ratio * table[:, 1]
    stderr = math.sqrt(40 / 39 * (residuals**2).sum()) / table[:, 1].sum()
    assert ppl.value == pytest.approx(math.exp(ratio), rel=1e-12)
    assert ppl.stderr == pytest.approx(ppl.value * stderr, rel=1e-12)
    bound = ppl.value * 1.1
    assert ppl.p_below(bound) == pytest.approx(
        scipy_stats.t.cdf((ratio - math.log(bound)) / stderr, 39), abs=1e-12
    )
    assert ppl.p_above(0) == 0
    low, high = ppl.interval(0.9)
    half = scipy_stats.t.ppf(0.95, 39) * stderr
    assert (low, high) == pytest.approx((math.exp(ratio - half), math.exp(ratio + half)), rel=1e-9)


@pytest.mark.parametrize("kind", ["proportion", "mean", "ratio", "log_ratio", "bootstrap"])
def test_the_interval_is_dual_to_the_tests(kind: Interval) -> None:
    rng = np.random.default_rng(3)
    values = (rng.random(80) < 0.7).astype(float) if kind == "proportion" else rng.gamma(4, 0.2, 80)
    one = found(kind, scores(values.tolist()))
    low, high = one.interval(0.9)
    tolerance = 0.002 if isinstance(one, BootstrapLevel) else 1e-9
    assert one.p_above(low) == pytest.approx(0.05, abs=tolerance)
    assert one.p_below(high) == pytest.approx(0.05, abs=tolerance)
    assert low < one.value < high


def test_a_cluster_counts_as_one_draw() -> None:
    rng = np.random.default_rng(4)
    passages = rng.normal(0.5, 0.3, 12)
    values = np.repeat(passages, 5)
    clusters: list[str | None] = [f"passage {i // 5}" for i in range(60)]
    clustered = found("mean", scores(values.tolist()), clusters)
    # documents of one passage that say the same are worth one: the t-test over passages
    alone = scipy_stats.ttest_1samp(passages, 0.4, alternative="greater")
    assert clustered.n == 12
    assert clustered.p_above(0.4) == pytest.approx(alone.pvalue, abs=1e-12)
    assert found("mean", scores(values.tolist())).p_above(0.4) < clustered.p_above(0.4)


def test_zero_one_scores_in_clusters_are_no_independent_trials() -> None:
    clusters: list[str | None] = [f"page {i // 4}" for i in range(40)]
    one = found("proportion", scores([float(i // 4 % 2) for i in range(40)]), clusters)
    assert not isinstance(one, ScoreLevel)
    assert "clusters" in one.method


def test_clusters_of_one_document_change_nothing() -> None:
    table = scores([1.0, 0.0, 1.0, 1.0])
    alone = found("proportion", table, ["a", None, "b", None])
    assert alone == found("proportion", table)


def test_statistics_are_summed_by_cluster() -> None:
    table = np.array([[1.0, 1], [2, 1], [4, 1], [8, 1], [16, 1]])
    summed = summed_by_cluster(table, ["x", None, "x", None, "y"])
    assert summed.tolist() == [[5, 2], [2, 1], [8, 1], [16, 1]]


def test_documents_that_all_score_the_same_are_not_believed_at_any_n() -> None:
    few = found("mean", scores([0.7] * 5))
    assert few.p_above(0.6) > 0.3  # a t-test would say 0
    assert level("ratio", scores([0.7] * 5)) is None
    assert level("mean", scores([0.7])) is None


@pytest.mark.parametrize(("bound", "above", "below"), [(-0.5, 0, 1), (0, 0, 1), (1, 1, 0), (1.5, 1, 0)])
def test_no_share_lies_beyond_zero_and_one(bound: float, above: float, below: float) -> None:
    share = ScoreLevel(0.5, 10)
    assert (share.p_above(bound), share.p_below(bound)) == (above, below)


def test_perfect_and_empty_shares_at_the_ends() -> None:
    assert ScoreLevel(1.0, 10).p_below(1.0) == 1
    assert ScoreLevel(0.0, 10).p_above(0.0) == 1
    assert ScoreLevel(1.0, 200).p_above(0.98) < 0.05 < ScoreLevel(1.0, 100).p_above(0.98)


def test_a_bootstrap_can_show_no_less_than_its_resamples() -> None:
    one = found("bootstrap", scores([0.1, 0.2, 0.3, 0.4]))
    assert one.p_above(-1.0) == 1 / 2001
    assert one.p_below(-1.0) == 1.0


# ---- distances, which noise makes larger ----

ALPHA = 0.05
RUNS = 400
# of 400 runs whose rate is ALPHA, more than this happen to one test in ten thousand
MOST_FALSE = scipy_stats.binom.isf(1e-4, RUNS, ALPHA) / RUNS


def calibration_table(rng: np.random.Generator, n: int, overconfident: float) -> FloatArray:
    """Statistics of `ece`, shape (n, NUM_BINS + 1), of a model whose true calibration error is known."""
    confidence = rng.uniform(0.4, 1, n)
    right = rng.random(n) < confidence - overconfident
    table = np.zeros((n, NUM_BINS + 1))
    table[np.arange(n), np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)] = confidence - right
    table[:, -1] = 1
    return table


def distance_level(name: str, table: FloatArray, clusters: list[str | None] | None = None) -> Level:
    metric = find_metric(name)
    one = level_of(
        metric.interval,
        table,
        metric.aggregate,
        distance=metric.distance,
        clusters=clusters,
        rng=np.random.default_rng(0),
    )
    assert one is not None
    return one


def share_table(rng: np.random.Generator, n: int, share: float) -> FloatArray:
    return scores((rng.random(n) < share).astype(float).tolist())


@pytest.mark.parametrize(("n", "truth", "bound"), [(100, 0.0, 0.03), (100, 0.1, 0.1), (400, 0.2, 0.2)])
def test_a_calibration_error_within_its_bound_seldom_fails(n: int, truth: float, bound: float) -> None:
    rng = np.random.default_rng(5)
    levels = [distance_level("ece", calibration_table(rng, n, truth)) for _ in range(RUNS)]
    assert np.mean([one.p_above(bound) <= ALPHA for one in levels]) <= MOST_FALSE
    if truth == bound:
        assert np.mean([one.p_below(bound) <= ALPHA for one in levels]) <= MOST_FALSE


def test_percentiles_of_resamples_would_fail_a_calibrated_model() -> None:
    rng, metric = np.random.default_rng(6), find_metric("ece")
    tables = [calibration_table(rng, 100, 0.0) for _ in range(20)]
    levels = [level_of("bootstrap", t, metric.aggregate, clusters=None, rng=rng) for t in tables]
    assert all(one is not None and one.p_above(0.03) <= ALPHA for one in levels)


def test_a_calibration_error_beyond_its_bound_is_seen() -> None:
    rng = np.random.default_rng(7)
    far = [distance_level("ece", calibration_table(rng, 1000, 0.3)) for _ in range(20)]
    assert all(one.p_above(0.1) <= ALPHA and one.p_below(0.5) <= ALPHA for one in far)


@pytest.mark.parametrize("truth", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("n", [100, 500])
def test_a_distance_of_a_share_from_its_ideal_seldom_errs_at_the_bound(n: int, truth: float) -> None:
    rng = np.random.default_rng(8)
    levels = [distance_level("stereotype_distance", share_table(rng, n, 0.5 + truth)) for _ in range(RUNS)]
    assert np.mean([one.p_above(truth) <= ALPHA for one in levels]) <= MOST_FALSE
    assert np.mean([one.p_below(truth) <= ALPHA for one in levels]) <= MOST_FALSE


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_a_share_far_from_its_ideal_is_seen_on_either_side(share: float) -> None:
    one = distance_level("stereotype_distance", share_table(np.random.default_rng(9), 300, share))
    assert one.value == pytest.approx(0.3, abs=0.06)
    assert one.p_above(0.15) < 1e-3 and one.p_below(0.45) < 1e-3
    assert one.p_above(0.45) > 0.99 and one.p_below(0.15) > 0.99


@pytest.mark.parametrize("name", ["ece", "stereotype_distance"])
@pytest.mark.parametrize("is_clustered", [True, False])
def test_the_interval_of_a_distance_is_dual_to_its_tests(name: str, is_clustered: bool) -> None:
    rng = np.random.default_rng(10)
    table = calibration_table(rng, 300, 0.25) if name == "ece" else share_table(rng, 300, 0.8)
    clusters: list[str | None] | None = [f"page {i // 2}" for i in range(300)] if is_clustered else None
    one = distance_level(name, table, clusters)
    assert one.n == (150 if is_clustered else 300)
    low, high = one.interval(0.9)
    assert one.p_above(low) == pytest.approx(0.05, abs=0.002)
    assert one.p_below(high) == pytest.approx(0.05, abs=0.002)
    assert 0 < low < one.value < high


@pytest.mark.parametrize("name", ["ece", "stereotype_distance"])
def test_a_distance_is_never_below_zero(name: str) -> None:
    rng = np.random.default_rng(11)
    table = calibration_table(rng, 50, 0.0) if name == "ece" else share_table(rng, 50, 0.5)
    one = distance_level(name, table)
    assert one.interval(0.9)[0] == 0
    assert one.p_below(0.0) == 1 and one.p_above(-0.1) == 0
