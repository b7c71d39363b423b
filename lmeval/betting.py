"""Paired differences of bounded scores, judged while documents are still being scored: betting e-processes.

A gambler starts with 1 and bets, document after document, that the mean difference lies beyond the margin. Under
the hypothesis that it does not, no bet is favourable, and the wealth ever exceeds 1/alpha with probability at most
alpha (Ville's inequality). The inverse of the largest wealth so far is thus a p-value that may be read after every
document, and it may be corrected for many rules like any other (Waudby-Smith & Ramdas 2023, Estimating means of
bounded random variables by betting).

What the hypotheses are about: the mean over the documents that could have been asked, of which those in the data set
are a sample, as in the gate of fixed size. A random order of a sample is a sample, so that it makes no difference
that documents are drawn without replacement, nor that there may be none left.

Clusters: documents of one cluster are one bet, on the sum of d + margin over them. Its mean is positive exactly
where the mean over documents is beyond the margin, whatever the sizes, as long as the stake does not depend on the
cluster's size; the stake is therefore bounded by the largest cluster of the task, and one huge cluster makes every
bet timid.

No documents left: a wealth that never reached its bound decides nothing, though a test of fixed size might. So
alpha is split beforehand: FINAL_SHARE of it is kept for one test of fixed size over all documents, the rest is what
the bets may use. By the union bound both together err with probability at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lmeval.stats import FloatArray, ratio_stderr

# The bets, as shares of the largest that cannot lose more than there is; the wealth is the mean over them. The best
# bet is about mean / variance: these cover flips of 0 to 50 % at margins from half a point. simulations/SEQUENTIAL.md
# compares them with adaptive bets.
SHARES: FloatArray = np.geomspace(0.99, 0.02, 10)
FINAL_SHARE = 0.2
_HALVINGS = 40  # of the range in which an end of an interval is sought


class FixedSizeTest(Protocol):
    """The p-values of a test over all documents, as `paired.Difference` has them."""

    def p_not_worse(self, margin: float) -> float:
        """p of H0: delta <= -margin."""
        ...

    def p_worse(self, margin: float) -> float:
        """p of H0: delta >= -margin."""
        ...


@dataclass(frozen=True, slots=True)
class BettingDifference:
    """A paired difference over the documents used so far; its p-values hold whenever the user chose to stop.

    Follows `paired.Difference`: d > 0 means that the candidate is better.
    """

    sums: FloatArray  # (T,) one per bet, in their order: the sum of d over a cluster, or a document's own d
    sizes: FloatArray  # (T,) documents of each bet
    largest: int  # documents of the task's largest cluster, used yet or not
    span: float  # |d| is at most this: the distance of the metric's bounds
    final: FixedSizeTest | None = None  # over all documents; None while some are left

    def __post_init__(self) -> None:
        assert len(self.sums) == len(self.sizes) > 0
        assert self.sizes.max() <= self.largest
        assert (np.abs(self.sums) <= self.span * self.sizes * (1 + 1e-9)).all(), "a score is out of bounds"

    @property
    def delta(self) -> float:
        """Mean of d over the documents used; stopping early makes it look a little larger than it is."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def stderr(self) -> float | None:
        """As if the number of documents had been fixed: a description, no test rests on it."""
        return ratio_stderr(self.sums, self.sizes)

    @property
    def n(self) -> int:
        """Documents used."""
        return int(self.sizes.sum())

    @property
    def num_clusters(self) -> int | None:
        """Bets made, where they are on clusters."""
        return len(self.sums) if self.largest > 1 else None

    @property
    def method(self) -> str:
        """How p-values and interval are found."""
        text = f"betting e-process by {'cluster' if self.largest > 1 else 'document'}"
        return text if self.final is None else f"{text}, then all documents at {FINAL_SHARE:g} alpha"

    @property
    def caveats(self) -> tuple[()]:
        """None: the level holds for any n and any distribution of bounded scores."""
        return ()

    def p_not_worse(self, margin: float) -> float:
        """p of H0: delta <= -margin."""
        final = None if self.final is None else self.final.p_not_worse(margin)
        return self._p(self.sums + margin * self.sizes, self.span - margin, final)

    def p_worse(self, margin: float) -> float:
        """p of H0: delta >= -margin."""
        final = None if self.final is None else self.final.p_worse(margin)
        return self._p(-self.sums - margin * self.sizes, self.span + margin, final)

    def p_better(self, margin: float = 0) -> float:
        """p of H0: delta <= margin."""
        return self.p_not_worse(-margin)

    def interval(self, confidence: float) -> tuple[float, float]:
        """The margins that neither one-sided test rejects at (1 - confidence) / 2; valid at any stopping time."""
        alpha = (1 - confidence) / 2
        low = _last_rejected(lambda bound: self.p_better(bound) <= alpha, -self.span, self.span)
        high = _last_rejected(lambda bound: self.p_worse(-bound) <= alpha, self.span, -self.span)
        return low, high

    def _p(self, gains: FloatArray, worst: float, final: float | None) -> float:
        """Of gains per bet, of which a document can lose `worst` at most."""
        if worst <= 0:  # a margin beyond what scores can differ by
            return 0.0
        # the largest bet is 1 / worst a document: were it larger, a cluster of the largest size could ruin it
        log = log_wealth(gains / (self.largest * worst))
        p = math.exp(-max(0.0, float(log.max()))) / (1 - FINAL_SHARE)
        return min(1.0, p) if final is None else min(1.0, p, final / FINAL_SHARE)


def log_wealth(gains: FloatArray) -> FloatArray:
    """Log of the wealth after each bet: the mean over constant bets of SHARES.

    Each product of (1 + share * gain) is a martingale where gains have mean 0, hence their mean is one too; the
    best of the bets dominates it after a while, at the price of log(10) once.

    Args:
        gains: Shape (T,), at least -1 each.

    Returns:
        Shape (T,).
    """
    products = np.log1p(SHARES[:, None] * gains).cumsum(axis=1)  # (K, T)
    return np.asarray(np.logaddexp.reduce(products, axis=0) - math.log(len(SHARES)), dtype=np.float64)


def wealth_needed(alpha: float) -> float:
    """The wealth at which the bets decide at level alpha, what FINAL_SHARE keeps back taken off."""
    return 1 / (alpha * (1 - FINAL_SHARE))


def _last_rejected(rejected: Callable[[float], bool], start: float, end: float) -> float:
    """From `start`, where a bound is rejected if any is, the last rejected one on the way to `end`.

    p grows along the way for every constant share: at a larger bound each gain is smaller and, as a share of the
    worst that could be lost, never larger.
    """
    if not rejected(start):
        return start
    for _ in range(_HALVINGS):
        middle = (start + end) / 2
        start, end = (middle, end) if rejected(middle) else (start, middle)
    return start
