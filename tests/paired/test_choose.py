"""Which method a metric gets, orientation, degenerate input, and the caveats that come with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from lmeval.errors import DataError, LmevalError, NotComparableError, NumericError
from lmeval.metrics import find_metric
from lmeval.paired import (
    BootstrapDifference,
    BoundedDifference,
    Difference,
    StepNoise,
    TangoDifference,
    TDifference,
    paired_difference,
)
from lmeval.paired.choose import Kind
from lmeval.paired.guarded import GuardedDifference
from lmeval.paired.skew import SkewedDifference
from lmeval.paired.units import design_effect
from lmeval.stats import FloatArray

KINDS: tuple[Kind, ...] = ("proportion", "mean", "ratio", "log_ratio", "bootstrap")


def table(scores: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    return np.column_stack([scores, np.ones(len(scores)) if weights is None else weights])


def mean_of(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[:, 0] / sums[:, 1])


def pair(kind: Kind, baseline: FloatArray, candidate: FloatArray, **options: Any) -> Difference:
    options = {"higher_is_better": True, "rng": np.random.default_rng(0)} | options
    return paired_difference(kind, baseline, candidate, options.pop("aggregate", mean_of), **options)


def flipped(n: int, gains: int, losses: int) -> tuple[FloatArray, FloatArray]:
    """0/1 scores of both models, the flips first."""
    baseline = np.zeros(n)
    baseline[gains : gains + losses] = 1
    candidate = np.zeros(n)
    candidate[:gains] = 1
    return table(baseline), table(candidate)


def continuous(seed: int, n: int = 300, shift: float = 0.0) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    baseline = rng.uniform(0.2, 0.8, size=n)
    return table(baseline), table(baseline + rng.uniform(-0.1, 0.1, size=n) + shift)


def texts(seed: int, n: int = 300, shift: float = 0.0, tail: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Nats and words of both models; `shift` more nats a word, `tail` times a skewed share of more."""
    rng = np.random.default_rng(seed)
    words = rng.integers(50, 400, size=n).astype(np.float64)
    nats = 3 * words
    more = shift + 0.01 * rng.normal(size=n) + tail * rng.exponential(size=n) ** 2
    return table(nats, words), table(nats + more * words, words)


def test_each_kind_has_its_method() -> None:
    clusters = [f"page {i // 3}" for i in range(300)]
    assert isinstance(pair("proportion", *flipped(300, 5, 9)), TangoDifference)
    assert isinstance(pair("mean", *continuous(0), bounds=(0.0, 1.0)), TDifference)
    assert isinstance(pair("log_ratio", *texts(0)), TDifference)
    assert isinstance(pair("bootstrap", *continuous(0), bounds=(0.0, 1.0)), BootstrapDifference)
    clustered = pair("proportion", *flipped(300, 5, 9), clusters=clusters)
    assert isinstance(clustered, GuardedDifference)
    assert isinstance(clustered.main, TDifference) and isinstance(clustered.guard, TangoDifference)
    assert clustered.num_clusters == clustered.guard.num_clusters == 100
    assert clustered.guard.df == pytest.approx(99)
    mixed = pair("proportion", *flipped(300, 5, 9), clusters=["page"] * 100 + [None] * 200)
    assert isinstance(mixed, GuardedDifference) and isinstance(mixed.guard, TangoDifference)
    assert mixed.guard.df == pytest.approx(300**2 / (100**2 + 200) - 1)  # what 201 such clusters are worth
    own = [f"page {i}" for i in range(300)]
    assert isinstance(pair("proportion", *flipped(300, 5, 9), clusters=own), TangoDifference)


def test_ties_among_shares_are_flips_but_for_the_halves() -> None:
    baseline, candidate = flipped(300, 5, 9)
    baseline[-1, 0] = candidate[-1, 0] = 0.5  # a tie under both models: no change
    found, whole = pair("proportion", baseline, candidate), pair("proportion", *flipped(300, 5, 9))
    assert isinstance(found, GuardedDifference) and isinstance(found.guard, BoundedDifference)
    assert found.guard.p_not_worse(0.03) == pytest.approx(whole.p_not_worse(0.03), abs=1e-9)


def test_few_or_lopsided_changes_of_a_mean_are_guarded() -> None:
    baseline, _ = continuous(0)
    few = baseline.copy()
    few[:4, 0] -= [0.1, -0.2, 0.15, 0.1]
    found = pair("mean", baseline, few, bounds=(0.0, 1.0))
    assert isinstance(found, GuardedDifference) and isinstance(found.guard, BoundedDifference)
    lopsided = baseline.copy()
    lopsided[:, 0] += np.where(np.arange(300) % 30 == 0, -0.2, 0.002)
    found = pair("mean", baseline, lopsided, bounds=(0.0, 1.0))
    assert isinstance(found, GuardedDifference)
    for margin in (0.0, 0.01, 0.03):
        both = (found.main, found.guard)
        assert found.p_not_worse(margin) == max(one.p_not_worse(margin) for one in both)
        assert found.p_worse(margin) == max(one.p_worse(margin) for one in both)
        assert found.p_better(margin) == max(one.p_better(margin) for one in both)
    assert found.delta == found.main.delta and found.stderr == found.main.stderr


def test_lopsided_perplexities_are_corrected_for_skewness() -> None:
    found = pair("log_ratio", *texts(1, tail=0.01), higher_is_better=False)
    assert isinstance(found, GuardedDifference) and isinstance(found.guard, SkewedDifference)
    # rare, large losses: the plain t-test would pass too easily
    assert found.guard.skew < 0
    assert found.guard.p_not_worse(0.03) > found.main.p_not_worse(0.03)


def test_more_is_better_after_orientation() -> None:
    baseline, worse = texts(2, shift=0.01)
    for kind in ("ratio", "log_ratio"):
        found = pair(kind, baseline, worse, higher_is_better=False)  # type: ignore[arg-type]
        assert found.delta == pytest.approx(-0.01, abs=0.002)
        assert found.p_worse(0.005) < 0.01 < found.p_not_worse(0.005)
    assert pair("bootstrap", *continuous(0, shift=0.05), higher_is_better=False).delta < 0
    assert pair("proportion", *flipped(300, 5, 9), higher_is_better=False).delta > 0


def test_one_percent_worse_is_a_margin_of_its_logarithm() -> None:
    """A candidate whose perplexity is 1 % up on every word, give or take."""
    baseline, _ = texts(3)
    words = baseline[:, 1]
    noise = np.random.default_rng(0).normal(0, 1e-4, size=len(words)) * words
    candidate = table(baseline[:, 0] + math.log(1.01) * words + noise, words)
    found = pair("log_ratio", baseline, candidate, higher_is_better=False)
    assert found.delta == pytest.approx(-math.log(1.01), abs=1e-4)
    assert found.p_not_worse(math.log(1.011)) < 1e-6
    assert found.p_worse(math.log(1.009)) < 1e-6


def make(kind: Kind, seed: int, n: int) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    if kind == "proportion":
        both = rng.integers(0, 2, size=n).astype(np.float64)
        return table(both), table(np.where(rng.random(n) < 0.1, 1 - both, both))
    if kind in ("ratio", "log_ratio"):
        return texts(seed, n, tail=0.01 * (seed % 2))
    return continuous(seed, n)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 99), st.integers(12, 60), st.booleans(), st.floats(0.001, 0.1))
def test_swapping_and_shuffling(kind: Kind, seed: int, n: int, clustered: bool, margin: float) -> None:
    baseline, candidate = make(kind, seed, n)
    clusters = [f"page {i // 2}" for i in range(n)] if clustered else None
    bounds = (-math.inf, math.inf) if kind in ("ratio", "log_ratio") else (0.0, 1.0)
    found = pair(kind, baseline, candidate, clusters=clusters, bounds=bounds)
    swapped = pair(kind, candidate, baseline, clusters=clusters, bounds=bounds)
    assert swapped.delta == pytest.approx(-found.delta, abs=1e-12)
    assert swapped.p_better(margin) == pytest.approx(found.p_worse(margin), abs=1e-9)
    assert swapped.interval(0.9) == pytest.approx([-end for end in reversed(found.interval(0.9))], abs=1e-9)
    if kind == "bootstrap":  # which documents are drawn depends on their order
        return
    order = np.random.default_rng(seed).permutation(n)
    names = None if clusters is None else [clusters[i] for i in order]
    shuffled = pair(kind, baseline[order], candidate[order], clusters=names, bounds=bounds)
    assert shuffled.p_not_worse(margin) == pytest.approx(found.p_not_worse(margin), abs=1e-9)
    assert shuffled.p_worse(margin) == pytest.approx(found.p_worse(margin), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 99), st.floats(0, 0.2), st.floats(0, 0.2), st.booleans())
def test_a_pass_and_a_fail_exclude_each_other(
    kind: Kind, seed: int, one: float, other: float, noisy: bool
) -> None:
    narrow, wide = sorted((one, other))
    bounds = (-math.inf, math.inf) if kind in ("ratio", "log_ratio") else (0.0, 1.0)
    noise = StepNoise(1e-4, 4, 5) if noisy else None
    found = pair(kind, *make(kind, seed, 50), bounds=bounds, step_noise=noise)
    assert found.p_not_worse(wide) <= found.p_not_worse(narrow) + 1e-9
    assert found.p_not_worse(narrow) + found.p_worse(narrow) >= 1 - 1e-9
    low, high = found.interval(0.9)
    assert low <= found.delta <= high
    if found.p_not_worse(narrow) < 0.0499:
        assert low > -narrow
    if found.p_worse(narrow) < 0.0499:
        assert high < -narrow


@pytest.mark.parametrize("kind", KINDS)
def test_one_document_claims_nothing_and_says_so(kind: Kind) -> None:
    found = pair(kind, *make(kind, 0, 1), bounds=(0.0, 1.0))
    assert found.n == 1
    assert any(caveat.blocks for caveat in found.caveats)
    assert found.p_not_worse(0.5) > 0.05
    assert found.p_worse(0.5) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_one_cluster_claims_nothing_and_says_so(kind: Kind) -> None:
    found = pair(kind, *make(kind, 0, 40), clusters=["page"] * 40, bounds=(0.0, 1.0))
    assert found.stderr is None
    assert found.num_clusters == 1
    assert any(caveat.blocks and "cluster" in caveat.text for caveat in found.caveats)
    assert found.p_not_worse(0.9) == found.p_worse(0.9) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_equal_models_are_no_evidence_of_a_difference(kind: Kind) -> None:
    baseline, _ = make(kind, 0, 40)
    found = pair(kind, baseline, baseline.copy(), bounds=(0.0, 1.0))
    assert found.delta == 0
    assert found.p_better() >= 0.5 and found.p_worse(0.0) >= 0.5
    assert found.p_worse(0.01) > 0.5


@pytest.mark.parametrize("kind", ["proportion", "mean", "bootstrap"])
def test_equal_bounded_scores_show_only_what_so_many_documents_can(kind: Kind) -> None:
    """A t-test would call 40 equal documents proof of anything."""
    for n, shown in ((40, False), (400, True)):
        baseline, _ = make(kind, 0, n)
        found = pair(kind, baseline, baseline.copy(), bounds=(0.0, 1.0))
        assert (found.p_not_worse(0.01) < 0.05) is shown


@pytest.mark.parametrize("kind", ["ratio", "log_ratio"])
def test_equal_likelihoods_of_every_document_are_equal_models(kind: Kind) -> None:
    """A likelihood that agrees to the last bit on every document is no coincidence."""
    baseline, _ = texts(0, 40)
    found = pair(kind, baseline, baseline.copy(), higher_is_better=False)
    assert found.stderr == 0
    assert found.p_not_worse(0.001) == 0.0
    assert found.interval(0.9) == (0.0, 0.0)
    assert any("same under both models" in caveat.text and not caveat.blocks for caveat in found.caveats)


def test_the_same_change_of_every_document_is_blocked() -> None:
    baseline, _ = texts(0, 40)
    candidate = baseline + 0.01 * baseline[:, 1:] * [1.0, 0.0]
    found = pair("log_ratio", baseline, candidate, higher_is_better=False)
    assert any("same amount" in caveat.text and caveat.blocks for caveat in found.caveats)


def test_caveats_of_small_and_lopsided_samples() -> None:
    def texts_of(found: Difference) -> dict[str, bool]:
        return {caveat.text: caveat.blocks for caveat in found.caveats}

    assert pair("proportion", *flipped(300, 8, 9)).caveats == ()
    assert "Only 7 of 300 documents flipped" in next(iter(texts_of(pair("proportion", *flipped(300, 3, 4)))))
    assert texts_of(pair("log_ratio", *texts(0, 8))).popitem()[1] is True  # 8 documents
    assert pair("log_ratio", *texts(0, 300)).caveats == ()
    baseline, candidate = texts(0, 300)
    candidate[0, 0] += 2000
    carried = texts_of(pair("log_ratio", baseline, candidate))
    assert any("carries" in text and blocks for text, blocks in carried.items())
    clusters = [f"page {i // 20}" for i in range(300)]
    few = texts_of(pair("mean", *continuous(0), clusters=clusters, bounds=(0.0, 1.0)))
    assert few == {"There are only 15 clusters.": False}
    uneven = ["page"] * 200 + [None] * 100  # type: ignore[list-item]
    worth = texts_of(pair("mean", *continuous(0), clusters=uneven, bounds=(0.0, 1.0)))
    assert worth == {"There are only 101 clusters, which for their sizes are worth 2.": True}
    bootstrap = pair("bootstrap", *continuous(0))
    assert bootstrap.caveats == ()
    baseline, candidate = continuous(0)
    candidate[5:] = baseline[5:]
    assert any(caveat.blocks for caveat in pair("bootstrap", baseline, candidate).caveats)


def test_step_noise_reaches_every_method() -> None:
    noise = StepNoise(1e-3, 4, 5)
    for kind in KINDS:
        for clusters in (None, [f"page {i // 2}" for i in range(120)]):
            pairs = make(kind, 0, 120)
            plain = pair(kind, *pairs, clusters=clusters, bounds=(0.0, 1.0))
            noisy = pair(kind, *pairs, clusters=clusters, bounds=(0.0, 1.0), step_noise=noise)
            assert noisy.stderr is not None and plain.stderr is not None
            assert noisy.stderr > plain.stderr
            assert noisy.p_not_worse(0.1) > plain.p_not_worse(0.1)
            assert noisy.delta == plain.delta


def test_a_design_effect_is_1_for_clusters_that_agree_no_more_than_chance() -> None:
    rng = np.random.default_rng(0)
    index = np.repeat(np.arange(500), 4)
    alone = (rng.random(2000) < 0.2) * rng.choice([-1.0, 1.0], size=2000)
    whole = np.repeat((rng.random(500) < 0.2) * rng.choice([-1.0, 1.0], size=500), 4)
    assert design_effect(alone, index) == pytest.approx(1.0, abs=0.15)
    assert design_effect(whole, index) == pytest.approx(4.0, abs=0.1)
    assert design_effect(np.zeros(2000), index) == 4.0
    single = np.zeros(2000)
    single[7] = -1
    assert design_effect(single, index) == pytest.approx((1 + 4) / 2, abs=0.01)
    uneven = np.repeat([0, 1, 2, 3], [12, 2, 1, 1])  # by hand: 16 documents, sum m^2 = 150, sum m^3 = 1738
    d = np.repeat([1.0, -1.0, 0.0, 1.0], [12, 2, 1, 1])
    sums = [12 * (1 - 11 / 16), 2 * (-1 - 11 / 16), -11 / 16, 1 - 11 / 16]
    robust, alone = 4 / 3 * sum(s**2 for s in sums) / 16**2, d.var() / 15
    pulled = 0.75 / (1 - 2 * 1738 / (16 * 150) + 150 / 16**2)
    assert design_effect(d, uneven) == pytest.approx((9 * robust / alone * pulled + 150 / 16) / 10, abs=1e-9)


def test_clustered_flips_never_claim_more_than_the_cluster_robust_t() -> None:
    baseline, candidate = flipped(300, 4, 12)
    clusters = [f"page {i // 3}" for i in range(300)]
    found = pair("proportion", baseline, candidate, clusters=clusters)
    d = candidate[:, 0] - baseline[:, 0]
    sums = (d - d.mean()).reshape(100, 3).sum(axis=1)
    stderr = math.sqrt(100 / 99 * (sums**2).sum()) / 300
    robust = student.sf((d.mean() + 0.05) / stderr, 99)
    assert isinstance(found, GuardedDifference)
    assert found.main.p_not_worse(0.05) == pytest.approx(robust, abs=1e-12)
    assert found.p_not_worse(0.05) >= robust


@pytest.mark.parametrize(
    ("baseline", "candidate", "error", "words"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), NotComparableError, "pair up"),
        (np.ones((0, 2)), np.ones((0, 2)), DataError, "no documents"),
        (np.ones((3, 2)), np.array([[1.0, 1], [math.nan, 1], [1, 1]]), NumericError, "candidate"),
        (np.ones((3, 2)), np.array([[1.0, 1], [1, 2], [1, 1]]), NotComparableError, "tokenizers"),
        (np.array([[1.0, 0], [2, 0]]), np.array([[1.0, 0], [2, 0]]), NumericError, "no units"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    baseline: FloatArray, candidate: FloatArray, error: type[LmevalError], words: str
) -> None:
    with pytest.raises(error, match=words):
        pair("ratio", baseline, candidate)


def test_a_nan_names_its_document() -> None:
    baseline, candidate = continuous(0, 5)
    candidate[3, 0] = math.inf
    with pytest.raises(NumericError) as caught:
        pair("mean", baseline, candidate)
    assert "document 3 of 5" in str(caught.value)


def test_real_metrics_of_a_corpus() -> None:
    """MCC's statistics: 20 % of the documents are of the rarer class, and the candidate is a little worse."""
    rng, metric = np.random.default_rng(0), find_metric("mcc")
    label = rng.random(400) < 0.2

    def statistics(wrong: float) -> FloatArray:
        answer = np.where(rng.random(400) < wrong, ~label, label)
        columns = [~answer & ~label, answer & label, ~answer, answer, ~label, label]
        return np.column_stack(columns).astype(np.float64)

    found = pair(
        "bootstrap", statistics(0.05), statistics(0.25), aggregate=metric.aggregate, bounds=metric.bounds
    )
    assert found.p_worse(0.05) < 0.01
    assert found.p_not_worse(0.05) > 0.99


def test_one_changed_translation_among_many_is_judged_by_what_it_could_do() -> None:
    """BLEU counts as bounded, so that a batch size that changes one text in 1,000 can still pass."""
    metric, rng = find_metric("bleu"), np.random.default_rng(0)
    total = rng.integers(8, 30, size=1000)
    matches = [rng.binomial(np.maximum(total - order, 1), 0.6) for order in range(4)]
    totals = [np.maximum(total - order, 1) for order in range(4)]
    before = np.column_stack([total, total, *matches, *totals]).astype(np.float64)
    after = before.copy()
    after[0, 2:6] -= 1
    found = pair("bootstrap", before, after, aggregate=metric.aggregate, bounds=metric.bounds)
    assert isinstance(found, GuardedDifference)
    assert [(caveat.text[:18], caveat.blocks) for caveat in found.caveats] == [("Only 1 of 1000 cha", False)]
    assert found.p_not_worse(1.0) < 0.01  # one point of BLEU
    assert found.p_not_worse(0.1) > 0.05
