"""t-tests of a paired difference: of a mean, of a ratio over documents, robust to clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lmeval.paired.base import Caveat, StepNoise, upper_tail, with_noise
from lmeval.paired.units import ClusterIndex, ratio_variance
from lmeval.stats import FloatArray, t_quantile

_ROUNDING = 1e-13  # a spread below this share of the values is what adding them up leaves behind


@dataclass(frozen=True, slots=True)
class TDifference:
    """A difference with a standard error and its degrees of freedom, step noise included in both."""

    delta: float
    stderr: float | None
    df: float
    n: int
    method: str
    num_clusters: int | None = None
    caveats: tuple[Caveat, ...] = ()

    def _p_above(self, threshold: float) -> float:
        """One-sided p of H0: delta <= threshold."""
        if self.stderr is None:
            return 1.0
        if self.stderr == 0:  # every document agrees to the last bit; `caveats` say what that proves
            return 0.0 if self.delta > threshold else 1.0
        return float(upper_tail((self.delta - threshold) / self.stderr, self.df))

    def p_not_worse(self, margin: float) -> float:
        """One-sided p of H0: delta <= -margin. Small: PASS."""
        return self._p_above(-margin)

    def p_better(self, margin: float = 0.0) -> float:
        """One-sided p of H0: delta <= margin. Small: superior."""
        return self._p_above(margin)

    def p_worse(self, margin: float) -> float:
        """One-sided p of H0: delta >= -margin. Small: FAIL."""
        if self.stderr is None:
            return 1.0
        if self.stderr == 0:
            return 0.0 if self.delta < -margin else 1.0
        return float(upper_tail((-margin - self.delta) / self.stderr, self.df))

    def interval(self, confidence: float) -> tuple[float, float]:
        """The t interval; without a standard error, everything."""
        if self.stderr is None:
            return -math.inf, math.inf
        half = t_quantile(self.df, confidence) * self.stderr
        return self.delta - half, self.delta + half


def t_difference(
    numerators: FloatArray,
    weights: FloatArray,
    index: ClusterIndex | None,
    *,
    method: str,
    size: float,
    step_noise: StepNoise | None = None,
    caveats: tuple[Caveat, ...] = (),
) -> TDifference:
    """The t-test of sum(numerators) / sum(weights), both of shape (n,).

    Args:
        numerators: Oriented differences of the documents.
        weights: 1 for a mean; tokens, words or bytes for a ratio.
        index: Clusters, where they bind.
        method: What it is called; clusters are added to it.
        size: How large the compared values are: a spread below its rounding counts as none.
        step_noise: Added to the squared standard error.
        caveats: Kept.
    """
    n, delta = len(numerators), float(numerators.sum() / weights.sum())
    num_clusters = None if index is None else int(index.max()) + 1
    units = n if num_clusters is None else num_clusters
    name = method if num_clusters is None else f"{method}, robust to {num_clusters} clusters"
    if units < 2:
        return TDifference(delta, None, 0, n, name, num_clusters, caveats)
    variance = float(ratio_variance(numerators, weights, index))
    if variance <= (_ROUNDING * size) ** 2:
        variance = 0.0
    squared, df = with_noise(variance, units - 1, step_noise)
    return TDifference(delta, math.sqrt(squared), float(df), n, name, num_clusters, caveats)
