"""Tango's score test of 0/1 scores: the share of documents gained minus the share lost.

Where documents share clusters, the variance is multiplied by a design effect (Rao & Scott 1992, Biometrics 48).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lmeval.paired.base import Caveat, StepNoise, invert, upper_tail, with_noise
from lmeval.paired.trinomial import exact_tail, tango_variance

# With more flips the exact tail and the normal one agree to a tenth, at any level that a suite corrects to
_FEW_FLIPS = 200


@dataclass(frozen=True, slots=True)
class TangoDifference:
    """The share of gains minus the share of losses among n documents.

    A claim that the models differ (FAIL, worse, better) also needs the exact tail where flips are few. The claim
    that they do not (PASS) is Tango's alone, and so is the interval.
    """

    gains: int  # documents only the candidate got right
    losses: int  # documents only the baseline got right
    n: int
    num_clusters: int | None = None
    design_effect: float = 1.0  # how much clusters widen the variance
    df: float = math.inf  # of that widening
    step_noise: StepNoise | None = None
    caveats: tuple[Caveat, ...] = ()

    @property
    def delta(self) -> float:
        """Share of gains minus share of losses."""
        return (self.gains - self.losses) / self.n

    @property
    def stderr(self) -> float | None:
        """From the observed flips; the tests use the variance under their hypothesis."""
        if self.n < 2 or self.df == 0:
            return None
        flips = (self.gains + self.losses) / self.n
        variance = (flips - self.delta**2) / (self.n - 1) * self.design_effect
        return math.sqrt(with_noise(variance, self.df, self.step_noise)[0])

    @property
    def method(self) -> str:
        """For tables and records."""
        if self.num_clusters is not None:
            return f"Tango score test, design effect {self.design_effect:.1f}"
        return "Tango score test, exact tail" if self._is_exact else "Tango score test"

    @property
    def _is_exact(self) -> bool:
        return self.num_clusters is None and self.gains + self.losses <= _FEW_FLIPS

    def _score_p(self, threshold: float) -> float:
        """One-sided p of H0: delta <= threshold, by the normal tail."""
        if self.df == 0:
            return 1.0
        variance = float(tango_variance(self.gains, self.losses, self.n, min(max(threshold, -1.0), 1.0)))
        squared, df = with_noise(variance / self.n * self.design_effect, self.df, self.step_noise)
        if squared == 0:  # a threshold of 0 without flips, or one at the end of the range
            return 0.5 if abs(threshold) < 1 or threshold == self.delta else float(threshold > self.delta)
        return float(upper_tail((self.delta - threshold) / math.sqrt(squared), df))

    def _p_above(self, threshold: float) -> float:
        """One-sided p of H0: delta <= threshold."""
        p = self._score_p(threshold)
        if p < 0.5 and 0 <= threshold < 1 and self._is_exact:
            return max(p, exact_tail(self.gains, self.losses, self.n, threshold))
        return p

    def _turned(self) -> TangoDifference:
        return replace(self, gains=self.losses, losses=self.gains)

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
        """Tango's interval: the differences that his test rejects on neither side at (1 - confidence) / 2."""
        alpha, turned = (1 - confidence) / 2, self._turned()
        low = invert(self._score_p, alpha, self.delta, -1.0)
        return low, -invert(turned._score_p, alpha, turned.delta, -1.0)
