"""The test of every two models in a column: p-values of no difference, two-sided, shape (m, m).

They are those of `lmeval compare`: 0/1 scores by Tango's score test with its exact tail, means and perplexities by
paired t with its guards (of perplexities, the weight of long texts is one more). What differs is the work: scores with
few values are counted for all pairs at once, and elsewhere only pairs that a plain t-test finds different are tested
in full, since the guards only raise a p-value.

Metrics of a whole corpus (BLEU, F1) are tested by the jackknife's pseudo-values: a bootstrap of 5,000 resamples has
no p-value small enough for Holm's correction over more than 125 pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from lmeval.compare import two_sided
from lmeval.errors import NotComparableError
from lmeval.leaderboard.scores import Scores
from lmeval.metrics.base import Metric
from lmeval.paired import Difference, paired_difference
from lmeval.paired.base import upper_tail
from lmeval.paired.bootstrap import leave_one_out
from lmeval.paired.distances import of_distances
from lmeval.paired.methods import of_scores
from lmeval.paired.trinomial import flip_counts, tango_z
from lmeval.paired.units import ClusterIndex, by_unit, pull, worth
from lmeval.stats import CONFIDENCE, FloatArray

_FEW_FLIPS = 200  # as in paired.tango: with more, the exact tail and the normal one agree
_FEW_VALUES = 5  # distinct scores that are counted rather than compared
_TIE = 1e-9
_BISECTIONS = 60
_MAYBE = 1 - CONFIDENCE  # no larger p-value is rejected, whatever Holm makes of it
_ALIKE = 1e-9  # of the scores' squares: less is what subtracting them leaves


@dataclass(frozen=True)
class Paired:
    """The models of a column whose samples can be read, document by document."""

    metric: Metric
    tables: Sequence[FloatArray]  # m of shape (n, K)
    index: ClusterIndex | None  # (n,)

    @cached_property
    def clusters(self) -> list[str | None] | None:
        """As paired_difference takes them."""
        return None if self.index is None else [str(number) for number in self.index]

    @cached_property
    def units(self) -> tuple[FloatArray, FloatArray]:
        """What each unit (document, or cluster) adds to the sum, more is better (m, u), and its weight (u,).

        The sum over the weights is the metric, of a perplexity its logarithm.
        """
        sign = 1.0 if self.metric.higher_is_better else -1.0
        if self.metric.interval == "bootstrap":
            aggregate = self.metric.aggregate
            with np.errstate(all="ignore"):  # not defined without one unit: no number, and then no claim
                units = [leave_one_out(by_unit(table, self.index), aggregate) for table in self.tables]
            return sign * np.stack(units), np.ones(len(units[0]))
        sums = np.stack([by_unit(table[:, 0], self.index) for table in self.tables])
        if self.metric.interval in ("ratio", "log_ratio"):
            return sign * sums, by_unit(self.tables[0][:, 1], self.index)
        scores = self.scores
        ones = np.ones(scores.shape[1])
        return sign * by_unit(scores.T, self.index).T, by_unit(ones, self.index)

    @cached_property
    def scores(self) -> FloatArray:
        """Each document's score, shape (m, n), of means and proportions."""
        return np.stack([table[:, 0] / table[:, 1] for table in self.tables])


def paired_of(metric: Metric, scores: Sequence[Scores]) -> Paired:
    """Scores of the same documents; where only some runs say which belong together, those are believed."""
    indices = [one.index for one in scores if one.index is not None]
    index = min(indices, key=lambda index: int(index.max()), default=None)
    return Paired(metric, [one.statistics for one in scores], index)


def pair_p_values(paired: Paired) -> FloatArray:
    """Two-sided p of every pair, shape (m, m); 1 where nothing can be said."""
    if paired.metric.interval == "proportion" and paired.index is None:
        values = np.unique(paired.scores)
        if np.isin(values, (0.0, 1.0)).all():
            return flip_p_values(paired.scores)
        if len(values) <= _FEW_VALUES:
            return share_p_values(paired.scores, values)
    p = plain_p_values(paired)
    exact = np.ones_like(p)
    for i, j in zip(*np.nonzero(np.triu(p <= _MAYBE, k=1)), strict=True):
        exact[i, j] = exact[j, i] = _p_value(paired, int(i), int(j))
    if paired.metric.interval in ("ratio", "log_ratio"):
        return np.maximum(exact, plain_p_values(paired, evened=True))
    return exact


def _p_value(paired: Paired, i: int, j: int) -> float:
    try:
        found = pair_difference(paired, i, j)
    except NotComparableError:  # other units counted in the same documents
        return 1.0
    return 1.0 if any(caveat.blocks for caveat in found.caveats) else two_sided(found)


def _two_sided(p: FloatArray) -> FloatArray:
    return np.asarray(np.minimum(1.0, 2 * p), dtype=np.float64)


def pair_difference(paired: Paired, i: int, j: int) -> Difference:
    """The difference of model j from model i, above 0 where j is better."""
    metric = paired.metric
    if metric.interval == "bootstrap":
        return _pseudo_difference(paired, i, j)
    return paired_difference(
        metric.interval,
        paired.tables[i],
        paired.tables[j],
        metric.aggregate,
        higher_is_better=metric.higher_is_better,
        clusters=paired.clusters,
        bounds=metric.bounds,
        rng=np.random.default_rng(0),
    )


def _pseudo_difference(paired: Paired, i: int, j: int) -> Difference:
    """The jackknife's difference, guarded where few units changed or lopsidedly."""
    values, _ = paired.units
    change = values[j] - values[i]
    low, high = paired.metric.bounds
    reach = high - low
    if paired.index is not None:  # a cluster moves the corpus by as much as all its documents could
        sizes = np.bincount(paired.index)
        reach *= len(sizes) * float(sizes.max() / sizes.sum())
    size = float(np.abs(values[[i, j]]).max())
    told = of_scores(change, None, reach=reach, size=size, is_share=False, noise=None)
    distance = paired.metric.distance
    if distance is None:
        return told
    return of_distances(told, *(by_unit(distance.gaps(paired.tables[m]), paired.index) for m in (i, j)))


# ---- scores with few values: counted for all pairs at once ----


def flip_p_values(right: FloatArray) -> FloatArray:
    """Two-sided p of 0/1 scores, shape (m, n) -> (m, m), as TangoDifference gives it."""
    num, n = right.shape
    if n < 2:
        return np.ones((num, num))
    gains = np.rint(right.sum(axis=1)[None, :] - right @ right.T)  # of the column's model on the row's
    flips = gains + gains.T
    z = np.abs(gains - gains.T) / np.sqrt(np.maximum(flips, 1))
    p = np.asarray(upper_tail(z, np.inf))
    lead = np.abs(gains - gains.T).astype(np.int64)
    for few in np.unique(flips[(flips <= _FEW_FLIPS) & (lead > 0)]):
        own = (flips == few) & (lead > 0)
        p[own] = np.maximum(p[own], exact_tails(int(few), n)[lead[own]])
    return _two_sided(p)


@lru_cache(maxsize=4096)
def exact_tails(flips: int, n: int) -> FloatArray:
    """P(Tango's z is at least as large) by how many more gains there are than losses, shape (flips + 1,).

    As paired.trinomial.exact_tail, where gains and losses are equally likely: what is expected then follows from the
    number of flips alone, so one table serves all pairs with as many.
    """
    rate = flips / n / 2
    gains, losses, probability = flip_counts(n, rate, rate)
    found = tango_z(gains, losses, float(n), 0.0)
    order = np.argsort(found)
    tails = np.append(np.cumsum(probability[order][::-1])[::-1], 0.0)
    seen = np.arange(flips + 1) / math.sqrt(flips)
    at_least = tails[np.searchsorted(found[order], seen - _TIE)]
    return np.asarray(np.minimum(1.0, at_least), dtype=np.float64)


def share_p_values(scores: FloatArray, values: FloatArray) -> FloatArray:
    """Two-sided p of 0/1 scores with ties between: the larger of paired t and the score test of bounded differences.

    Args:
        scores: Shape (m, n), in [0, 1].
        values: The distinct scores, ascending.
    """
    num, n = scores.shape
    if n < 2:
        return np.ones((num, num))
    found = np.subtract.outer(values, values)
    differences, place = np.unique(found.round(12), return_inverse=True)
    counts = np.zeros((num, num, len(differences)))
    is_value = [(scores == value).astype(np.float64) for value in values]
    for (a, b), at in np.ndenumerate(place.reshape(found.shape)):
        counts[:, :, at] += is_value[a] @ is_value[b].T
    mean = counts @ differences / n
    flipped = mean < 0
    counts[flipped] = counts[flipped][:, ::-1]  # the differences lie evenly around 0
    mean = np.abs(mean)
    spread = (counts * (differences - mean[..., None]) ** 2).sum(axis=-1) / (n - 1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, mean / np.sqrt(spread))
        z = np.where(mean == 0, 0.0, mean / np.sqrt(_null_variance(differences, counts / n, mean) / n))
    p = np.maximum(upper_tail(t, n - 1.0), upper_tail(z, np.inf))
    return _two_sided(p)


def _null_variance(differences: FloatArray, shares: FloatArray, mean: FloatArray) -> FloatArray:
    """paired.score.bounded_variance at a threshold of 0 and a reach of 1, of many pairs: (..., V) -> (...)."""
    low, high = np.zeros_like(mean), np.ones_like(mean)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (shares * differences / (1 + middle[..., None] * differences)).sum(axis=-1)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return np.asarray(mean / high, dtype=np.float64)


# ---- all other scores: a plain test first ----


def plain_p_values(paired: Paired, *, evened: bool = False) -> FloatArray:
    """Two-sided p of the t-test without its guards, shape (m, m); never larger than with them.

    Args:
        paired: The models.
        evened: Long texts weigh more, and pull the mean towards them as large clusters do (paired.methods.evened).
            Of one comparison that is little; in the far tail that Holm's correction reads, too much.
    """
    values, weights = paired.units
    num, units = values.shape
    if units < 2:
        return np.ones((num, num))
    total = float(weights.sum())
    means = values.sum(axis=1) / total
    squares = squared_distances(values - means[:, None] * weights)
    stderr, df = np.sqrt(units / (units - 1) * squares) / total, units - 1.0
    if evened:
        stderr, df = stderr * math.sqrt(max(1.0, pull(weights))), max(worth(weights) - 1, 1.0)
    delta = np.abs(means[:, None] - means[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(delta == 0, 0.0, delta / stderr)  # infinite where there is no spread
    return _two_sided(np.asarray(upper_tail(t, df)))


def squared_distances(values: FloatArray) -> FloatArray:
    """Between every two rows: (m, u) -> (m, m); what rounding may have left of equal rows is 0."""
    products = values @ values.T
    own = np.diag(products)
    sums = own[:, None] + own[None, :]
    found = sums - 2 * products
    return np.where(found <= _ALIKE * sums, 0.0, found)
