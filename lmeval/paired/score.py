"""The score test of the mean of bounded differences: Tango's, for scores that are not only 0 and 1.

The most likely distribution under H0: mean = theta is that of the empirical likelihood (Owen 2001) over the
observed values and the two ends of the range. Its variance is (mean - theta) / bet, where `bet` maximises
sum log(1 + bet (d_i - theta)); for differences of -1, 0 and 1 it is Tango's. A t-test trusts the observed
variance instead, and passes when the rare, large losses happen to be missing from the sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lmeval.paired.base import Caveat, StepNoise, invert, upper_tail, with_noise
from lmeval.stats import FloatArray

_BISECTIONS = 60  # halve a range to below the last bit
_ROUNDING = 1e-12


def bounded_variance(differences: FloatArray, counts: FloatArray, threshold: float, reach: float) -> float:
    """Variance of one difference, at its most likely if the mean were `threshold`.

    Args:
        differences: Distinct values, shape (k,), within [-reach, reach].
        counts: How often each occurs, shape (k,).
        threshold: In (-reach, reach).
        reach: The largest difference that can be.
    """
    shares, away = counts / counts.sum(), differences - threshold
    distance = float(shares @ away)
    if distance < 0:
        away, threshold, distance = -away, -threshold, -distance
    largest = 1 / (reach + threshold)  # the bet that a difference of -reach would lose all of
    if distance <= _ROUNDING * reach:  # the bet is too small to be found
        return max(float(shares @ away**2), distance / largest)
    # the slope of the mean log wealth falls from `distance` at no bet
    low, high = 0.0, largest
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        rising = float(shares @ (away / (1 + middle * away))) > 0
        low, high = (middle, high) if rising else (low, middle)
    return distance / high


@dataclass(frozen=True, slots=True)
class BoundedDifference:
    """The mean of differences within [-reach, reach]."""

    values: FloatArray  # (k,) distinct differences
    counts: FloatArray  # (k,)
    reach: float
    df: float = math.inf
    num_clusters: int | None = None
    design_effect: float = 1.0
    step_noise: StepNoise | None = None
    caveats: tuple[Caveat, ...] = ()
    method: str = "score test"

    @property
    def n(self) -> int:
        """Documents."""
        return int(self.counts.sum())

    @property
    def delta(self) -> float:
        """Mean difference."""
        return float(self.values @ self.counts) / self.n

    @property
    def stderr(self) -> float | None:
        """From the observed spread; the tests use the variance under their hypothesis."""
        if self.n < 2 or self.df == 0:
            return None
        spread = float(self.counts @ (self.values - self.delta) ** 2) / (self.n - 1)
        return math.sqrt(with_noise(spread / self.n * self.design_effect, self.df, self.step_noise)[0])

    def _p_above(self, threshold: float) -> float:
        """One-sided p of H0: delta <= threshold."""
        if self.df == 0:
            return 1.0
        inside = abs(threshold) < self.reach
        variance = bounded_variance(self.values, self.counts, threshold, self.reach) if inside else 0.0
        squared, df = with_noise(variance / self.n * self.design_effect, self.df, self.step_noise)
        if squared == 0:  # a threshold of 0 where nothing changed, or one at the end of the range
            return 0.5 if inside or threshold == self.delta else float(threshold > self.delta)
        return float(upper_tail((self.delta - threshold) / math.sqrt(squared), df))

    def _turned(self) -> BoundedDifference:
        return replace(self, values=-self.values)

    def p_not_worse(self, margin: float) -> float:
        """One-sided p of H0: delta <= -margin. Small: PASS."""
        return self._p_above(-margin)

    def p_better(self, margin: float = 0.0) -> float:
        """One-sided p of H0: delta <= margin. Small: superior."""
        return self._p_above(margin)

    def p_worse(self, margin: float) -> float:
        """One-sided p of H0: delta >= -margin. Small: FAIL."""
        return self._turned()._p_above(margin)

    def interval(self, confidence: float) -> tuple[float, float]:
        """The differences that the test rejects on neither side at (1 - confidence) / 2."""
        alpha, turned = (1 - confidence) / 2, self._turned()
        low = invert(self._p_above, alpha, self.delta, -self.reach)
        return low, -invert(turned._p_above, alpha, turned.delta, -self.reach)


def bounded_difference(
    differences: FloatArray,
    reach: float,
    *,
    df: float = math.inf,
    num_clusters: int | None = None,
    design_effect: float = 1.0,
    step_noise: StepNoise | None = None,
) -> BoundedDifference:
    """The score test of differences, shape (n,); `reach` is widened to hold them all."""
    values, counts = np.unique(differences, return_counts=True)
    widest = max(reach, float(np.abs(values).max()))
    return BoundedDifference(
        values, counts.astype(np.float64), widest, df, num_clusters, design_effect, step_noise
    )
