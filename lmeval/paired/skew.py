"""A t-test that allows for skewness: the monotone cubic correction of Hall (1992, JRSS B 54, 221-228).

For scores without bounds whose documents differ lopsidedly. With T the t statistic and a = skewness / sqrt(n), the
corrected statistic is T + a T^2 / 3 + a^2 T^3 / 27 + a / 6 = ((1 + a T / 3)^3 - 1) / a + a / 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lmeval.paired.base import upper_tail


@dataclass(frozen=True, slots=True)
class SkewedDifference:
    """A difference with a standard error, its degrees of freedom and the skewness of what it is a mean of."""

    delta: float
    stderr: float
    df: float
    skew: float  # skewness over sqrt(n)
    n: int
    num_clusters: int | None = None
    caveats: tuple[()] = ()
    method: str = "corrected for skewness"

    def _corrected(self, threshold: float) -> float:
        t, a = (self.delta - threshold) / self.stderr, self.skew
        return t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6

    def p_not_worse(self, margin: float) -> float:
        """One-sided p of H0: delta <= -margin. Small: PASS."""
        return float(upper_tail(self._corrected(-margin), self.df))

    def p_better(self, margin: float = 0.0) -> float:
        """One-sided p of H0: delta <= margin. Small: superior."""
        return self.p_not_worse(-margin)

    def p_worse(self, margin: float) -> float:
        """One-sided p of H0: delta >= -margin. Small: FAIL."""
        return float(upper_tail(-self._corrected(-margin), self.df))

    def interval(self, confidence: float) -> tuple[float, float]:
        """What neither test rejects at (1 - confidence) / 2."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.df, (1 + confidence) / 2))
        return self.delta - self._t(half) * self.stderr, self.delta - self._t(-half) * self.stderr

    def _t(self, corrected: float) -> float:
        """The t statistic whose correction that is."""
        a = self.skew
        if abs(a) < 1e-30:
            return corrected
        inside = a * (corrected - a / 6)
        if inside > -0.5:  # the cube root less 1, with all its digits where it is near 0
            return 3 / a * math.expm1(math.log1p(inside) / 3)
        return 3 / a * (math.cbrt(1 + inside) - 1)
