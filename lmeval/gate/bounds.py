"""One run's metric against a fixed bound: the tests behind `min` and `max` on `ci_bound`.

0/1 scores take the score test, whose inversion is Wilson's interval (Wilson 1927); means, ratios and perplexities
(on the log scale) a t-test over documents; corpus metrics the bootstrap. Distances, which noise makes larger, are
tested by what is known of that: see FoldedLevel and DistanceLevel. Documents of one cluster are summed first: the
cluster is then what was sampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np

from lmeval import stats
from lmeval.metrics.base import Interval, mean_of
from lmeval.stats import Aggregate, Distance, FloatArray

_NORMAL = NormalDist()
NUM_RESAMPLES = 2000


class Level(Protocol):
    """A metric's value and what its documents say about the value behind it."""

    @property
    def value(self) -> float:
        """The metric."""
        ...

    @property
    def n(self) -> int:
        """Documents, or clusters."""
        ...

    @property
    def method(self) -> str:
        """For tables and records."""
        ...

    @property
    def stderr(self) -> float:
        """Of `value`."""
        ...

    def p_above(self, bound: float) -> float:
        """One-sided p of H0: the metric is at most `bound`."""
        ...

    def p_below(self, bound: float) -> float:
        """One-sided p of H0: the metric is at least `bound`."""
        ...

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided, dual to the two tests."""
        ...


@dataclass(frozen=True, slots=True)
class ScoreLevel:
    """A share of 0/1 scores."""

    value: float
    n: int
    method: str = "score test of one share (Wilson)"

    @property
    def stderr(self) -> float:
        """See Level."""
        return math.sqrt(self.value * (1 - self.value) / self.n)

    def p_above(self, bound: float) -> float:
        """See Level."""
        if bound <= 0:  # at 0 a share has no variance: one success shows that it is above
            return float(self.value <= bound)
        return 1.0 if bound >= 1 else _NORMAL.cdf(-self._z(bound))

    def p_below(self, bound: float) -> float:
        """See Level."""
        if bound >= 1:
            return float(self.value >= bound)
        return 1.0 if bound <= 0 else _NORMAL.cdf(self._z(bound))

    def _z(self, bound: float) -> float:
        return (self.value - bound) / math.sqrt(bound * (1 - bound) / self.n)

    def interval(self, confidence: float) -> tuple[float, float]:
        """See Level."""
        return stats.wilson(self.value * self.n, self.n, confidence)


@dataclass(frozen=True, slots=True)
class TLevel:
    """A mean or ratio with a standard error; with `log_scale` the exponential of one."""

    centre: float
    spread: float  # its standard error
    n: int
    method: str
    log_scale: bool = False

    @property
    def value(self) -> float:
        """The metric."""
        return math.exp(self.centre) if self.log_scale else self.centre

    @property
    def stderr(self) -> float:
        """See Level; by the delta method on the log scale."""
        return self.value * self.spread if self.log_scale else self.spread

    def p_above(self, bound: float) -> float:
        """See Level."""
        return 1 - self._below(bound)

    def p_below(self, bound: float) -> float:
        """See Level."""
        return self._below(bound)

    def _below(self, bound: float) -> float:
        from scipy.special import stdtr

        if self.log_scale and bound <= 0:  # a perplexity is above 0 whatever the documents
            return 1.0
        distance = self.centre - (math.log(bound) if self.log_scale else bound)
        if self.spread == 0:
            return 0.5 if distance == 0 else float(distance > 0)
        return float(stdtr(self.n - 1, distance / self.spread))

    def interval(self, confidence: float) -> tuple[float, float]:
        """See Level."""
        half = stats.t_quantile(self.n - 1, confidence) * self.spread
        low, high = self.centre - half, self.centre + half
        return (math.exp(low), math.exp(high)) if self.log_scale else (low, high)


@dataclass(frozen=True, slots=True)
class BootstrapLevel:
    """A corpus metric with its values on resampled documents."""

    value: float
    resampled: FloatArray  # (R,)
    n: int
    method: str

    @property
    def stderr(self) -> float:
        """See Level."""
        return float(self.resampled.std(ddof=1))

    def p_above(self, bound: float) -> float:
        """See Level."""
        return self._share(self.resampled <= bound)

    def p_below(self, bound: float) -> float:
        """See Level."""
        return self._share(self.resampled >= bound)

    @staticmethod
    def _share(extreme: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
        # the 1s keep p above 0: R resamples can show no less than 1 / (R + 1) (Davison & Hinkley 1997, 4.2)
        return (1 + int(extreme.sum())) / (1 + len(extreme))

    def interval(self, confidence: float) -> tuple[float, float]:
        """See Level."""
        low, high = np.quantile(self.resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class FoldedLevel:
    """How far a share lies from its ideal, on either side."""

    share: Level
    ideal: float

    @property
    def value(self) -> float:
        """The metric."""
        return abs(self.share.value - self.ideal)

    @property
    def n(self) -> int:
        """See Level."""
        return self.share.n

    @property
    def method(self) -> str:
        """See Level."""
        return f"{self.share.method}, folded at {self.ideal:g}"

    @property
    def stderr(self) -> float:
        """See Level; of the share."""
        return self.share.stderr

    def p_above(self, bound: float) -> float:
        """See Level: the share is beyond the bound on one of two sides, and is tested on both."""
        if bound < 0:
            return 0.0
        sides = self.share.p_above(self.ideal + bound), self.share.p_below(self.ideal - bound)
        return min(1.0, 2 * min(sides))

    def p_below(self, bound: float) -> float:
        """See Level: the share is within the bound on both sides."""
        if bound <= 0:
            return 1.0
        return max(self.share.p_below(self.ideal + bound), self.share.p_above(self.ideal - bound))

    def interval(self, confidence: float) -> tuple[float, float]:
        """See Level: what neither test rejects."""
        # p_above looks on both sides, p_below needs both
        low, high = self.share.interval((1 + confidence) / 2)
        nearest = 0.0 if low <= self.ideal <= high else min(abs(low - self.ideal), abs(high - self.ideal))
        low, high = self.share.interval(confidence)
        return nearest, max(abs(low - self.ideal), abs(high - self.ideal))


@dataclass(frozen=True, slots=True)
class DistanceLevel:
    """A sum of distances, as a calibration error is.

    Noise makes each of them larger, so resamples lie above the sample and the sample above the truth. It does so by no
    more than the distances of the sample's sums from the true ones (the triangle inequality), and resampling tells how
    large those get: what is above a bound by more is above it. What is below is so all the more without the noise.
    """

    value: float
    errors: FloatArray  # (R,) distances of resamples' sums from the sample's
    spread: float  # standard error
    n: int
    method: str

    @property
    def stderr(self) -> float:
        """See Level."""
        return self.spread

    def p_above(self, bound: float) -> float:
        """See Level."""
        if bound < 0:
            return 0.0
        return (1 + int((self.errors >= self.value - bound).sum())) / (1 + len(self.errors))

    def p_below(self, bound: float) -> float:
        """See Level."""
        if bound <= 0:
            return 1.0
        if self.spread == 0:
            return 0.5 if bound == self.value else float(bound < self.value)
        return _NORMAL.cdf((self.value - bound) / self.spread)

    def interval(self, confidence: float) -> tuple[float, float]:
        """See Level: what neither test rejects."""
        tail = (1 + confidence) / 2
        low = self.value - float(np.quantile(self.errors, tail))
        return max(0.0, low), self.value + _NORMAL.inv_cdf(tail) * self.spread


def level_of(
    kind: Interval,
    table: FloatArray,
    aggregate: Aggregate,
    *,
    distance: Distance | None = None,
    clusters: Sequence[str | None] | None,
    rng: np.random.Generator,
) -> Level | None:
    """The level of a metric from its statistics; None where one document, or one cluster, has no spread to judge by.

    Args:
        kind: How the metric's interval is found, see metrics.base.
        table: Shape (n, K).
        aggregate: The metric of summed statistics, (R, K) -> (R,).
        distance: What makes the metric a distance, if it is one.
        clusters: Of the documents; None or all different where they are independent.
        rng: Of the bootstrap.
    """
    if distance is not None and distance.ideal is not None:
        share = level_of("proportion", table, mean_of, clusters=clusters, rng=rng)
        return None if share is None else FoldedLevel(share, distance.ideal)
    scores = table[:, 0]
    if kind == "proportion" and np.isin(scores, (0.0, 1.0)).all() and not _binds(clusters):
        return ScoreLevel(float(scores.mean()), len(scores))
    unit = "documents"
    if _binds(clusters):
        assert clusters is not None
        table, unit = summed_by_cluster(table, clusters), "clusters"
    if len(table) < 2:
        return None
    if distance is not None:
        resampled, errors = stats.resampled_distances(table, rng, NUM_RESAMPLES)
        value, spread = float(aggregate(table.sum(axis=0, keepdims=True))[0]), float(resampled.std(ddof=1))
        method = f"bootstrap of distances over {unit}, {NUM_RESAMPLES} resamples"
        return DistanceLevel(value, errors, spread, len(table), method)
    if kind == "bootstrap":
        value = float(aggregate(table.sum(axis=0, keepdims=True))[0])
        resampled = stats.bootstrap_values(table, aggregate, rng, NUM_RESAMPLES)
        if not np.isfinite(resampled).all():
            return None
        return BootstrapLevel(
            value, resampled, len(table), f"bootstrap over {unit}, {NUM_RESAMPLES} resamples"
        )
    numerators, weights = table[:, 0], table[:, 1]
    stderr = stats.ratio_stderr(numerators, weights)
    assert stderr is not None
    if stderr == 0:
        return _without_spread(kind, table)
    log_scale = kind == "log_ratio"
    method = f"t over {unit}" + (", on the log scale" if log_scale else "")
    return TLevel(float(numerators.sum() / weights.sum()), stderr, len(table), method, log_scale)


def _without_spread(kind: Interval, table: FloatArray) -> Level | None:
    """The level of documents that all score the same, which a t-test would believe at any n."""
    value = float(table[:, 0].sum() / table[:, 1].sum())
    if kind in ("proportion", "mean") and 0 <= value <= 1:  # no score in [0, 1] varies more than a 0/1 score
        return ScoreLevel(value, len(table), "score test of one share: the scores are all the same")
    return None


def _binds(clusters: Sequence[str | None] | None) -> bool:
    """Some cluster holds more than one document."""
    if clusters is None:
        return False
    named = [cluster for cluster in clusters if cluster is not None]
    return len(set(named)) < len(named)


def summed_by_cluster(table: FloatArray, clusters: Sequence[str | None]) -> FloatArray:
    """The statistics of each cluster's documents, summed: (n, K) -> (C, K). None is a cluster of its own."""
    numbers: dict[object, int] = {}
    rows = [numbers.setdefault((i,) if c is None else c, len(numbers)) for i, c in enumerate(clusters)]
    summed = np.zeros((len(numbers), table.shape[1]))
    np.add.at(summed, rows, table)
    return summed
