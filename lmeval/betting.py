"""Paired differences of bounded scores, judged after every document: betting e-processes.

A gambler starts with 1 and bets, document after document, that the mean difference is above the margin; under
the hypothesis that it is not, no bet is favourable and the wealth exceeds 1/alpha at any time with probability
at most alpha (Ville). The inverse of the largest wealth so far is thus a p-value that may be read after every
document (Waudby-Smith & Ramdas 2023, Estimating means of bounded random variables by betting).

The documents are, as in the gate of fixed size, a sample of the documents that could have been asked, and the
hypotheses are about the mean over those. A random order of such a sample is again such a sample, so nothing
changes when all of them have been used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmeval.stats import FloatArray


@dataclass(frozen=True, slots=True)
class BettingDifference:
    """A paired difference over the documents used so far; valid whenever the user chose to stop.

    Follows `paired.Difference`: d > 0 means that the candidate is better.
    """

    sums: FloatArray  # (T,) one per bet: the sum of d over a cluster's documents, or a document's own d
    sizes: FloatArray  # (T,) documents of each bet
    largest: int  # documents of the task's largest cluster, used yet or not
    span: float  # |d| is at most this: the distance of the metric's bounds

    def p_not_worse(self, margin: float) -> float:
        """p of H0: delta <= -margin, at any stopping time."""
        raise NotImplementedError

    def p_worse(self, margin: float) -> float:
        """p of H0: delta >= -margin, at any stopping time."""
        raise NotImplementedError

    def p_better(self, margin: float = 0) -> float:
        """p of H0: delta <= margin, at any stopping time."""
        raise NotImplementedError

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided; covers at every stopping time at once."""
        raise NotImplementedError


def log_wealth(gains: FloatArray, cap: float) -> FloatArray:
    """Log of the wealth after each bet: a mixture over constant bets from 0 to `cap`.

    Args:
        gains: Shape (T,), at least -1 / cap each.
        cap: The largest bet that cannot lose more than there is.

    Returns:
        Shape (T,).
    """
    raise NotImplementedError
