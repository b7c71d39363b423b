"""The methods of `paired_difference`: each takes oriented differences per document and puts its tests together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lmeval.paired.base import BoolArray, Difference, StepNoise
from lmeval.paired.bootstrap import UNDEFINED, BootstrapDifference, bootstrap_difference, leave_one_out
from lmeval.paired.caveats import (
    FEW_CHANGES,
    ROUNDING,
    changed_caveats,
    flip_caveats,
    is_lopsided,
    shape_caveats,
    size_caveats,
    skew_per_root,
    spread_caveats,
)
from lmeval.paired.guarded import GuardedDifference
from lmeval.paired.score import bounded_difference
from lmeval.paired.skew import SkewedDifference
from lmeval.paired.student import TDifference, t_difference
from lmeval.paired.tango import TangoDifference
from lmeval.paired.units import ClusterIndex, by_unit, cluster_sums, design_effect, pull, worth
from lmeval.stats import Aggregate, FloatArray

# The level of a one-sided t-test at 5 % is off by 0.11 skewness / sqrt(n) (the Edgeworth expansion, Hall 1992): by
# 0.4 points at this limit
_LOPSIDED = 0.04
# Below it the largest clusters decide: 100 clusters of 1 to 40 documents erred 7 % of the time at 5 %
_EVEN = 0.8
_MOST = 0.9  # a smaller share of changed documents is sparse where they are few


def of_flips(differences: FloatArray, index: ClusterIndex | None, noise: StepNoise | None) -> Difference:
    """0/1 scores: Tango; where clusters bind, the cluster-robust t and Tango with their design effect."""
    n, gains, losses = len(differences), int((differences > 0).sum()), int((differences < 0).sum())
    if index is None:
        return TangoDifference(gains, losses, n, step_noise=noise, caveats=flip_caveats(gains, losses, n))
    ones = np.ones(n)
    main = t_difference(differences, ones, index, method="paired t", size=1.0, step_noise=noise)
    sizes = cluster_sums(ones, index)
    caveats = size_caveats(len(sizes), sizes, is_bounded=True)
    if main.stderr is None:
        return replace(main, caveats=caveats)
    effect = design_effect(differences, index)
    guard = TangoDifference(gains, losses, n, main.num_clusters, effect, worth(sizes) - 1, noise)
    return GuardedDifference(main, guard, caveats)


def of_scores(
    differences: FloatArray,
    index: ClusterIndex | None,
    *,
    reach: float,
    size: float,
    is_share: bool,
    noise: StepNoise | None,
) -> Difference:
    """A mean of scores: paired t, and a guard where few documents changed or the changes are lopsided.

    Args:
        differences: Shape (n,).
        index: Clusters, where they bind.
        reach: The largest difference there can be; may be infinite.
        size: How large the scores are.
        is_share: 0/1 scores but for ties, which are halves: always guarded.
        noise: Step noise.
    """
    ones = np.ones(len(differences))
    main = t_difference(differences, ones, index, method="paired t", size=size, step_noise=noise)
    changed = np.abs(differences) > ROUNDING * size
    if main.stderr is None or not math.isfinite(reach):
        return _unbounded(main, differences, ones, index, changed, size, noise)
    sizes = None if index is None else cluster_sums(ones, index)
    caveats = size_caveats(len(by_unit(ones, index)), sizes, is_bounded=True)
    if not is_share and not _is_sparse_or_lopsided(changed, differences - main.delta, index):
        careful = main if sizes is None else evened(main, sizes)
        return (
            GuardedDifference(main, careful, caveats) if careful != main else replace(main, caveats=caveats)
        )
    guard = bounded_difference(
        np.where(changed, differences, 0.0),
        reach,
        df=worth(sizes) - 1 if sizes is not None else math.inf if is_share else len(differences) - 1,
        num_clusters=main.num_clusters,
        design_effect=1.0 if index is None else design_effect(differences, index),
        step_noise=noise,
    )
    return GuardedDifference(main, guard, caveats)


def evened(main: TDifference, sizes: FloatArray) -> TDifference:
    """The t-test with what unequal clusters take from its variance and degrees of freedom; sizes of shape (C,)."""
    assert main.stderr is not None
    count = worth(sizes)
    if count >= _EVEN * len(sizes):
        return main
    stderr, df = main.stderr * math.sqrt(pull(sizes)), min(main.df, count - 1)
    return replace(main, stderr=stderr, df=df, method=f"clusters worth {count:.0f} of equal size")


def of_ratios(
    differences: FloatArray,
    weights: FloatArray,
    index: ClusterIndex | None,
    *,
    method: str,
    size: float,
    noise: StepNoise | None,
) -> Difference:
    """Perplexities and bits per byte: the ratio estimator over documents, whose differences have no bounds.

    Args:
        differences: Of the numerators, shape (n,).
        weights: Shape (n,).
        index: Clusters, where they bind.
        method: What it is called.
        size: How large the ratio is.
        noise: Step noise.
    """
    main = t_difference(differences, weights, index, method=method, size=size, step_noise=noise)
    changed = np.abs(differences) > ROUNDING * size * weights
    return _unbounded(main, differences, weights, index, changed, size, noise)


def _unbounded(
    main: TDifference,
    differences: FloatArray,
    weights: FloatArray,
    index: ClusterIndex | None,
    changed: BoolArray,
    size: float,
    noise: StepNoise | None,
) -> Difference:
    """A t-test of what no bounds hold, corrected for skewness where it is lopsided."""
    residuals = by_unit(differences - main.delta * weights, index)
    unit = "document" if index is None else "cluster"
    caveats = size_caveats(len(residuals), _sizes(index), is_bounded=False)
    caveats += spread_caveats(differences / np.where(weights > 0, weights, 1.0), size)
    if main.stderr is None or not main.stderr or not changed.any():
        return replace(main, caveats=caveats)
    caveats += shape_caveats(residuals, unit)
    careful = main if index is None else evened(main, cluster_sums(weights, index))
    assert careful.stderr is not None
    if is_lopsided(residuals, _LOPSIDED):
        # what noise adds to the variance has no skewness
        share = 1 - (noise.added if noise else 0.0) / main.stderr**2
        skew = skew_per_root(residuals) * max(share, 0.0) ** 1.5
        corrected = SkewedDifference(main.delta, careful.stderr, careful.df, skew, main.n, main.num_clusters)
        return GuardedDifference(main, corrected, caveats)
    return GuardedDifference(main, careful, caveats) if careful != main else replace(main, caveats=caveats)


def of_resamples(
    baseline: FloatArray,
    candidate: FloatArray,
    difference: Aggregate,
    index: ClusterIndex | None,
    *,
    reach: float,
    rng: np.random.Generator,
    noise: StepNoise | None,
    centred: bool = False,
) -> Difference:
    """Metrics of a whole corpus: paired bootstrap, and a guard where few documents changed or lopsidedly.

    The guard takes the jackknife's pseudo-values for the documents' differences. For `centred` see the bootstrap.
    """
    pairs, changed = np.hstack([baseline, candidate]), _any((baseline != candidate).any(axis=1), index)
    units = by_unit(pairs, index)
    main = bootstrap_difference(
        units,
        difference,
        rng,
        n=len(baseline),
        num_clusters=None if index is None else len(units),
        step_noise=noise,
        centred=centred,
    )
    if main.stderr is None:
        caveats = main.caveats or size_caveats(len(units), _sizes(index), is_bounded=True)
        return replace(main, caveats=caveats)
    return guard_resamples(main, leave_one_out(units, difference), changed, _sizes(index), reach, noise)


def guard_resamples(
    main: BootstrapDifference,
    pseudo: FloatArray,
    changed: BoolArray,
    sizes: FloatArray | None,
    reach: float,
    noise: StepNoise | None,
) -> Difference:
    """A bootstrap with its guard, where few documents (or clusters) changed or the changes are lopsided.

    Args:
        main: The bootstrap.
        pseudo: The jackknife's pseudo-values, shape (u,).
        changed: Which units have other statistics than before, shape (u,).
        sizes: Documents of each cluster, shape (u,); None where units are documents.
        reach: The most that the metric can differ; may be infinite.
        noise: Step noise, which is in `main` already.
    """
    if not np.isfinite(pseudo).all():
        return replace(main, caveats=(UNDEFINED,))
    count, residuals = len(pseudo), pseudo - pseudo.mean()
    lopsided = is_lopsided(residuals, _LOPSIDED)
    if math.isfinite(reach):
        caveats = size_caveats(count, sizes, is_bounded=True) + changed_caveats(changed, is_bounded=True)
        if not lopsided and not _few(changed):
            return replace(main, caveats=caveats)
        # a cluster moves the corpus by as much as all its documents could
        widest = reach if sizes is None else reach * count * float(sizes.max() / sizes.sum())
        guard = bounded_difference(residuals + main.delta, widest, df=count - 1, step_noise=noise)
        return GuardedDifference(main, guard, caveats)
    caveats = size_caveats(count, sizes, is_bounded=False)
    caveats += changed_caveats(changed, is_bounded=False)
    if changed.any():
        caveats += shape_caveats(residuals, "document" if sizes is None else "cluster")
    variance = float(residuals @ residuals) / (count * (count - 1))
    if not lopsided or variance == 0:
        return replace(main, caveats=caveats)
    total = variance + (noise.added if noise else 0.0)
    skew = skew_per_root(residuals) * (variance / total) ** 1.5
    corrected = SkewedDifference(main.delta, math.sqrt(total), main.df, skew, main.n, main.num_clusters)
    return GuardedDifference(main, corrected, caveats)


def _is_sparse_or_lopsided(changed: BoolArray, residuals: FloatArray, index: ClusterIndex | None) -> bool:
    """Whether few of the documents, or of the clusters, changed, or either change lopsidedly."""
    sparse = _few(changed) or is_lopsided(residuals, _LOPSIDED)
    if index is None or sparse:
        return sparse
    return _few(_any(changed, index)) or is_lopsided(cluster_sums(residuals, index), _LOPSIDED)


def _few(changed: BoolArray) -> bool:
    """Whether few units changed, and not simply because there are few."""
    return bool(changed.sum() < min(FEW_CHANGES, _MOST * len(changed)))


def _any(changed: BoolArray, index: ClusterIndex | None) -> BoolArray:
    """Which units hold a changed document: (n,) -> (u,)."""
    return np.asarray(by_unit(changed.astype(np.float64), index) > 0)


def _sizes(index: ClusterIndex | None) -> FloatArray | None:
    """Documents of each cluster."""
    return None if index is None else np.bincount(index).astype(np.float64)
