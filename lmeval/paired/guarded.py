"""Two tests of one difference, of which the more careful one speaks; and when that is needed.

A t-test and a bootstrap trust the spread they see. Where few documents changed, or the changes are lopsided, the
rare large loss is likely to be missing, and they pass a worse model up to half of the time. There the score test
for bounded differences speaks too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lmeval.paired.base import Caveat, Difference
from lmeval.stats import FloatArray

BoolArray = npt.NDArray[np.bool_]

FEW_CHANGES = 30
# The level of a one-sided t-test at 5 % is off by 0.11 skewness / sqrt(n) (Hall 1992, the Edgeworth expansion):
# here by 0.4 points
_LOPSIDED = 0.04


@dataclass(frozen=True, slots=True)
class GuardedDifference:
    """A difference that claims only what both of its tests claim; delta and standard error are the first's."""

    main: Difference
    guard: Difference
    caveats: tuple[Caveat, ...] = ()

    @property
    def delta(self) -> float:
        """Candidate minus baseline."""
        return self.main.delta

    @property
    def stderr(self) -> float | None:
        """The main method's."""
        return self.main.stderr

    @property
    def n(self) -> int:
        """Documents."""
        return self.main.n

    @property
    def num_clusters(self) -> int | None:
        """None where every document is its own cluster."""
        return self.main.num_clusters

    @property
    def method(self) -> str:
        """For tables and records."""
        return f"{self.main.method}; {self.guard.method}"

    def p_not_worse(self, margin: float) -> float:
        """One-sided p of H0: delta <= -margin, the larger of both."""
        return max(self.main.p_not_worse(margin), self.guard.p_not_worse(margin))

    def p_worse(self, margin: float) -> float:
        """One-sided p of H0: delta >= -margin, the larger of both."""
        return max(self.main.p_worse(margin), self.guard.p_worse(margin))

    def p_better(self, margin: float = 0.0) -> float:
        """One-sided p of H0: delta <= margin, the larger of both."""
        return max(self.main.p_better(margin), self.guard.p_better(margin))

    def interval(self, confidence: float) -> tuple[float, float]:
        """From the lower of both lower ends to the higher of both upper ends."""
        ends = [self.main.interval(confidence), self.guard.interval(confidence)]
        return min(low for low, _ in ends), max(high for _, high in ends)


def skew_per_root(residuals: FloatArray) -> float:
    """Skewness over sqrt(n) of residuals around 0, shape (n,): sum e^3 / (sum e^2)^1.5; 0 where all are 0."""
    squares = float(residuals @ residuals)
    return float((residuals**3).sum()) / squares**1.5 if squares > 0 else 0.0


def needs_guard(changed: BoolArray, residuals: FloatArray) -> bool:
    """Whether few units changed, or the changes are lopsided beyond what chance does to small samples.

    Args:
        changed: Which units (documents, or clusters) score otherwise than before, shape (u,).
        residuals: What they deviate from the mean, shape (u,).
    """
    by_chance = 2 * math.sqrt(6) / len(residuals)
    return int(changed.sum()) < FEW_CHANGES or abs(skew_per_root(residuals)) > max(_LOPSIDED, by_chance)
