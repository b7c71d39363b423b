"""Score tests of the mean of bounded paired differences: Tango's for 0/1 scores, and the same for any.

The variance is the one the data would most likely have if the hypothesis were true, not the one observed: with
no flips at all the observed variance is 0 at any n, which proves nothing. Tango (1998), Statistics in
Medicine 17, 891-908.
"""

from __future__ import annotations

from dataclasses import dataclass

from lmeval.paired.base import StepNoise
from lmeval.stats import FloatArray


@dataclass(frozen=True, slots=True)
class TangoDifference:
    """The mean of differences that are -1, 0 or 1."""

    gains: int  # documents only the candidate got right
    losses: int  # documents only the baseline got right
    n: int
    num_clusters: int | None = None
    step_noise: StepNoise | None = None


@dataclass(frozen=True, slots=True)
class BoundedDifference:
    """The mean of differences within [-reach, reach], of which few are not 0."""

    differences: FloatArray  # (n,)
    reach: float
    step_noise: StepNoise | None = None
