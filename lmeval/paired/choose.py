"""The method for a metric's kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from lmeval.errors import DataError, NotComparableError, NumericError
from lmeval.paired.base import Caveat, Difference, StepNoise
from lmeval.paired.bootstrap import bootstrap_difference, difference_of, leave_one_out
from lmeval.paired.caveats import changed_caveats, flip_caveats, spread_caveats, unit_caveats
from lmeval.paired.guarded import BoolArray, GuardedDifference, needs_guard
from lmeval.paired.score import bounded_difference
from lmeval.paired.student import (
    ClusterIndex,
    cluster_index,
    cluster_sums,
    ratio_variance,
    t_difference,
)
from lmeval.paired.tango import TangoDifference
from lmeval.stats import Aggregate, FloatArray

Kind = Literal[
    "proportion", "mean", "ratio", "log_ratio", "bootstrap"
]  # metrics.base.Interval, which lies above

_ROUNDING = 1e-12  # of the compared values: a smaller difference is what adding them up leaves behind


def paired_difference(
    kind: Kind,
    baseline: FloatArray,
    candidate: FloatArray,
    aggregate: Aggregate,
    *,
    higher_is_better: bool,
    clusters: Sequence[str | None] | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    rng: np.random.Generator,
    step_noise: StepNoise | None = None,
) -> Difference:
    """The difference between two models on the same documents, by the method of the metric's kind.

    Args:
        kind: `Metric.interval`. log_ratio: the difference is that of logarithms, so "at most 1 % worse" is a
            margin of ln 1.01. All others are on the metric's own scale.
        baseline: Statistics, shape (n, K); the columns are (numerator, weight) for all kinds but bootstrap.
        candidate: The same of the same documents in the same order.
        aggregate: `Metric.aggregate`, (R, K) sums to (R,) values; used by the bootstrap.
        higher_is_better: Where not, differences are turned round.
        clusters: The cluster (passage, page) of each document; None: a document of its own.
        bounds: `Metric.bounds`, of one document's score too. Without them, few changed documents cannot be judged.
        rng: Seeded; draws the bootstrap.
        step_noise: Training noise to add to the squared standard error, where checkpoints are compared.

    Raises:
        NumericError: NaN or infinity among the statistics, or weights that sum to nothing.
        NotComparableError: The shapes or the documents' weights differ.
        DataError: There are no documents.
    """
    _require_pairs(baseline, candidate, clusters)
    index, sign = cluster_index(clusters), 1.0 if higher_is_better else -1.0
    if kind == "bootstrap":
        return _of_resamples(
            baseline, candidate, difference_of(aggregate, sign), index, bounds, rng, step_noise
        )
    if kind in ("ratio", "log_ratio"):
        weights = _same_weights(baseline, candidate)
        method = "paired t, ratio over documents" + (", log scale" if kind == "log_ratio" else "")
        return _of_ratios(sign * (candidate - baseline)[:, 0], weights, index, method, baseline, step_noise)
    scores = [table[:, 0] / table[:, 1] for table in (baseline, candidate)]
    differences = sign * (scores[1] - scores[0])
    is_share = kind == "proportion"
    if is_share and all(np.isin(column, (0.0, 1.0)).all() for column in scores):
        return _of_flips(differences, index, step_noise)
    low, high = (0.0, 1.0) if is_share and not np.isfinite(bounds).all() else bounds
    size = max(float(np.abs(column).max()) for column in scores)
    return _of_scores(differences, index, high - low, size, is_share, step_noise)


def _require_pairs(
    baseline: FloatArray, candidate: FloatArray, clusters: Sequence[str | None] | None
) -> None:
    if baseline.shape != candidate.shape:
        raise NotComparableError(
            f"The statistics of {len(baseline)} and {len(candidate)} documents do not pair up: shapes "
            f"{baseline.shape} and {candidate.shape}.",
            fix="compare runs of the same task version, documents and metric",
        )
    if len(baseline) == 0:
        raise DataError("There are no documents to compare.", fix="see the task's split and --limit")
    assert clusters is None or len(clusters) == len(baseline), "one cluster name per document"
    for name, table in (("baseline", baseline), ("candidate", candidate)):
        rows = np.flatnonzero(~np.isfinite(table).all(axis=1))
        if len(rows):
            raise NumericError(
                f"A score of the {name} is not a number.",
                where=f"document {rows[0]} of {len(table)}, counted from 0",
                fix=f"run the {name} again",
            )


def _same_weights(baseline: FloatArray, candidate: FloatArray) -> FloatArray:
    weights = baseline[:, 1]
    if not np.allclose(weights, candidate[:, 1], rtol=1e-9, atol=0):
        raise NotComparableError(
            "The two runs count other units in the same documents: their tokenizers differ.",
            fix="compare bits_per_byte or byte_ppl, which weigh every document by its bytes",
        )
    if weights.sum() <= 0:
        raise NumericError("The documents hold no units to count, so there is no ratio to compare.")
    return weights


def _of_flips(differences: FloatArray, index: ClusterIndex | None, noise: StepNoise | None) -> Difference:
    """0/1 scores: Tango; where clusters bind, the cluster-robust t and Tango with their design effect."""
    n, gains, losses = len(differences), int((differences > 0).sum()), int((differences < 0).sum())
    if index is None:
        return TangoDifference(gains, losses, n, step_noise=noise, caveats=flip_caveats(gains, losses, n))
    caveats = _unit_caveats(differences, np.ones(n), index, is_guarded=True)
    main = t_difference(differences, np.ones(n), index, method="paired t", size=1.0, step_noise=noise)
    assert main.num_clusters is not None
    effect = design_effect(differences, index)
    guard = TangoDifference(gains, losses, n, main.num_clusters, effect, noise)
    return GuardedDifference(main, guard, caveats)


def _of_scores(
    differences: FloatArray,
    index: ClusterIndex | None,
    reach: float,
    size: float,
    is_share: bool,
    noise: StepNoise | None,
) -> Difference:
    """A mean of scores: paired t, and the score test where few documents changed or the changes are lopsided."""
    ones, residuals = np.ones(len(differences)), differences - differences.mean()
    main = t_difference(differences, ones, index, method="paired t", size=size, step_noise=noise)
    units = residuals if index is None else cluster_sums(residuals, index)
    changed = np.abs(differences) > _ROUNDING * size
    is_guarded = math.isfinite(reach) and len(units) > 1
    if not is_share:  # shares with ties are flips but for the ties: always both
        is_guarded &= needs_guard(changed, residuals) or needs_guard(_any(changed, index), units)
    caveats = _unit_caveats(differences, ones, index, is_guarded=is_guarded)
    if not is_guarded:
        return replace(main, caveats=caveats + spread_caveats(differences, size))
    guard = bounded_difference(
        np.where(changed, differences, 0.0),
        reach,
        df=math.inf if is_share and index is None else len(units) - 1,
        num_clusters=main.num_clusters,
        design_effect=1.0 if index is None else design_effect(differences, index),
        step_noise=noise,
    )
    return GuardedDifference(main, guard, caveats)


def _of_ratios(
    differences: FloatArray,
    weights: FloatArray,
    index: ClusterIndex | None,
    method: str,
    baseline: FloatArray,
    noise: StepNoise | None,
) -> Difference:
    """Perplexities and bits per byte: the ratio estimator over documents, whose differences have no bounds."""
    size = float(np.abs(baseline[:, 0]).sum() / weights.sum())
    main = t_difference(differences, weights, index, method=method, size=size, step_noise=noise)
    caveats = _unit_caveats(differences, weights, index, is_guarded=False)
    per_unit = differences / np.where(weights > 0, weights, 1.0)
    return replace(main, caveats=caveats + spread_caveats(per_unit, size))


def _of_resamples(
    baseline: FloatArray,
    candidate: FloatArray,
    difference: Aggregate,
    index: ClusterIndex | None,
    bounds: tuple[float, float],
    rng: np.random.Generator,
    noise: StepNoise | None,
) -> Difference:
    """Metrics of a whole corpus: paired bootstrap; where few documents changed or lopsidedly, the score test too.

    The score test takes the jackknife's pseudo-values for the documents' differences.
    """
    n, pairs = len(baseline), np.hstack([baseline, candidate])
    changed = (baseline != candidate).any(axis=1)
    units = pairs if index is None else cluster_sums(pairs, index)
    sizes = None if index is None else cluster_sums(np.ones(n), index)
    main = bootstrap_difference(
        units, difference, rng, n=n, num_clusters=None if index is None else len(units), step_noise=noise
    )
    if main.stderr is None:
        return (
            main
            if main.caveats
            else replace(main, caveats=unit_caveats(units[:, 0], sizes, is_guarded=False))
        )
    pseudo = leave_one_out(units, difference)
    residuals = pseudo - pseudo.mean()
    reach = (bounds[1] - bounds[0]) * (1.0 if sizes is None else float(sizes.max()) * len(units) / n)
    changed_units = _any(changed, index)
    is_guarded = math.isfinite(reach) and needs_guard(changed_units, residuals)
    caveats = unit_caveats(residuals, sizes, is_guarded=is_guarded)
    if not is_guarded:
        return replace(main, caveats=caveats + changed_caveats(changed_units))
    guard = bounded_difference(residuals + main.delta, reach, df=len(units) - 1, step_noise=noise)
    return GuardedDifference(main, guard, caveats)


def _any(changed: BoolArray, index: ClusterIndex | None) -> BoolArray:
    """Whether any document of a cluster changed: (n,) -> (u,)."""
    return changed if index is None else np.asarray(cluster_sums(changed.astype(np.float64), index) > 0)


def _unit_caveats(
    numerators: FloatArray, weights: FloatArray, index: ClusterIndex | None, *, is_guarded: bool
) -> tuple[Caveat, ...]:
    residuals = numerators - numerators.sum() / weights.sum() * weights
    if index is None:
        return unit_caveats(residuals, None, is_guarded=is_guarded)
    sizes = cluster_sums(np.ones(len(weights)), index)
    return unit_caveats(cluster_sums(residuals, index), sizes, is_guarded=is_guarded)


def design_effect(differences: FloatArray, index: ClusterIndex) -> float:
    """How much clusters widen the variance of a mean: cluster-robust over independent, at least 1.

    As long as few clusters hold a change, how alike their documents are cannot be seen: the estimate is drawn to
    the most it could be (whole clusters changing together) with the weight of one such cluster.

    Args:
        differences: Shape (n,).
        index: Shape (n,), of more than one cluster.
    """
    ones = np.ones(len(differences))
    sizes = cluster_sums(ones, index)
    most = float((sizes**2).sum() / sizes.sum())
    changed = int((cluster_sums(np.abs(differences), index) > 0).sum())
    independent = float(ratio_variance(differences, ones, None))
    if changed == 0 or independent == 0:
        return most
    seen = max(1.0, float(ratio_variance(differences, ones, index)) / independent)
    return (changed * seen + most) / (changed + 1)
