"""The method for a metric's kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from lmeval.errors import DataError, NotComparableError, NumericError
from lmeval.paired.base import Difference, StepNoise
from lmeval.paired.bootstrap import difference_of
from lmeval.paired.distances import of_distances
from lmeval.paired.methods import of_flips, of_ratios, of_resamples, of_scores
from lmeval.paired.units import by_unit, cluster_index
from lmeval.stats import Aggregate, Distance, FloatArray

Kind = Literal[
    "proportion", "mean", "ratio", "log_ratio", "bootstrap"
]  # metrics.base.Interval, which lies above


def paired_difference(
    kind: Kind,
    baseline: FloatArray,
    candidate: FloatArray,
    aggregate: Aggregate,
    *,
    higher_is_better: bool,
    distance: Distance | None = None,
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
        distance: `Metric.distance`: what makes the metric a distance, if it is one.
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
    index, sign, (low, high) = cluster_index(clusters), 1.0 if higher_is_better else -1.0, bounds
    if kind == "bootstrap":
        signed = difference_of(aggregate, sign)
        told = of_resamples(
            baseline,
            candidate,
            signed,
            index,
            reach=high - low,
            rng=rng,
            noise=step_noise,
            centred=distance is not None,
        )
        if distance is None:
            return told
        before, after = (by_unit(distance.gaps(table), index) for table in (baseline, candidate))
        return of_distances(told, before, after)
    if kind in ("ratio", "log_ratio"):
        weights, change = _same_weights(baseline, candidate), sign * (candidate - baseline)[:, 0]
        size = float(np.abs(baseline[:, 0]).sum() / weights.sum())
        method = "paired t, ratio over documents" + (", log scale" if kind == "log_ratio" else "")
        return of_ratios(change, weights, index, method=method, size=size, noise=step_noise)
    before, after = (table[:, 0] / table[:, 1] for table in (baseline, candidate))
    change, is_share = sign * (after - before), kind == "proportion"
    if is_share and np.isin([before, after], (0.0, 1.0)).all():
        return of_flips(change, index, step_noise)
    reach, size = 1.0 if is_share else high - low, float(np.abs([before, after]).max())
    return of_scores(change, index, reach=reach, size=size, is_share=is_share, noise=step_noise)


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
