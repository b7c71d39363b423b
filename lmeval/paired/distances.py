"""Differences of distances, such as calibration errors, which noise makes larger by amounts that nobody knows.

The expectation of |gap + noise| exceeds |gap| by between 0 (a gap that no noise turns round) and sqrt(2 / pi) standard
deviations of the noise (no gap at all). So the distance of a model that is well calibrated is told too large by more
than that of one that is not, and their difference too small, however the documents are drawn anew. What is claimed here
holds wherever in between the truth lies. In a bin the excess changes by no more than the gap does, and by no more than
its own most does with the noise; two models that answer alike are therefore compared almost as if there were none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lmeval.paired.base import Caveat, Difference
from lmeval.stats import FloatArray

MOST_EXCESS = math.sqrt(2 / math.pi)  # standard deviations: the mean of |a normal variable|


@dataclass(frozen=True, slots=True)
class DistanceDifference:
    """A difference of distances, and what noise may have made of it."""

    told: Difference
    too_good: float  # at most: what noise may have added to the baseline beyond the candidate, or less
    too_bad: float  # at most, the other way round

    @property
    def delta(self) -> float:
        """See Difference; as it is told."""
        return self.told.delta

    @property
    def stderr(self) -> float | None:
        """See Difference."""
        return self.told.stderr

    @property
    def n(self) -> int:
        """See Difference."""
        return self.told.n

    @property
    def num_clusters(self) -> int | None:
        """See Difference."""
        return self.told.num_clusters

    @property
    def method(self) -> str:
        """See Difference."""
        return f"{self.told.method}; of distances"

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """See Difference."""
        return self.told.caveats

    def p_not_worse(self, margin: float) -> float:
        """See Difference."""
        return self.told.p_not_worse(margin - self.too_good)

    def p_better(self, margin: float = 0.0) -> float:
        """See Difference."""
        return self.told.p_better(margin + self.too_good)

    def p_worse(self, margin: float) -> float:
        """See Difference."""
        return self.told.p_worse(margin + self.too_bad)

    def interval(self, confidence: float) -> tuple[float, float]:
        """See Difference."""
        low, high = self.told.interval(confidence)
        return low - self.too_good, high + self.too_bad


def of_distances(told: Difference, baseline: FloatArray, candidate: FloatArray) -> DistanceDifference:
    """A difference that allows for what noise does to distances.

    Args:
        told: The difference, oriented: above 0 the candidate's distance is less.
        baseline: What the distance sums up, shape (units, K + 1): K gaps and a weight, of documents or clusters.
        candidate: The same of the same units.
    """
    gaps, excess = zip(*(_gaps(units) for units in (baseline, candidate)), strict=True)
    change = np.abs(gaps[1] - gaps[0]) + np.abs(excess[1] - excess[0])
    too_good, too_bad = (float(np.minimum(most, change).sum()) for most in excess)
    return DistanceDifference(told, too_good, too_bad)


def _gaps(units: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The gaps, shape (K,), and the most that noise adds to each on average."""
    count, total = len(units), units.sum(axis=0)
    gaps = total[:-1] / total[-1]
    if count < 2:
        return gaps, np.zeros_like(gaps)
    residuals = units[:, :-1] - gaps * units[:, -1:]
    variance = count / (count - 1) * (residuals**2).sum(axis=0) / total[-1] ** 2
    return gaps, MOST_EXCESS * np.sqrt(variance)
