"""Gains, losses and documents that did not change: Tango's statistic, and its exact tail.

The variance is the one the data would most likely have if the hypothesis were true, not the one observed: with
no flips at all the observed variance is 0 at any n, which proves nothing. Tango (1998), Statistics in
Medicine 17, 891-908.

With a handful of flips the statistic is skewed, and "worse" claimed at 5 % by the normal tail is wrong up to 9 %
of the time. The exact tail is summed over all counts of gains and losses at the rates most likely under the
hypothesis (the estimated p-value of Lloyd 2008, Australian & New Zealand Journal of Statistics 50).
"""

from __future__ import annotations

import math

import numpy as np

from lmeval.paired.base import Floats
from lmeval.stats import FloatArray

_STANDARD_DEVIATIONS = 8  # counts further out weigh less than 1e-14
_TIE = 1e-9  # statistics that differ by less are one value


def tango_variance(gains: Floats, losses: Floats, n: Floats, threshold: Floats) -> FloatArray:
    """Variance of one difference, at its most likely if the mean were `threshold`.

    Args:
        gains: Differences of 1.
        losses: Differences of -1.
        n: All differences.
        threshold: In [-1, 1]; minus the margin of a PASS or FAIL.
    """
    # Tango's quadratic equation for q, the share of losses, with delta = -threshold
    linear = np.asarray(gains * (1 + threshold) + losses * (1 - threshold) - 2 * n * threshold, np.float64)
    constant = 8 * n * losses * threshold * (1 - threshold)
    root = np.sqrt(np.maximum(linear**2 + constant, 0.0))
    # both are the same root; the first loses its digits where `linear` is negative
    other = np.divide(constant, root - linear, out=np.zeros_like(root), where=linear < 0)
    share = np.where(linear >= 0, linear + root, other) / (4 * n)
    return np.asarray(np.maximum(2 * share + threshold - threshold**2, 0.0), dtype=np.float64)


def tango_z(gains: Floats, losses: Floats, n: Floats, threshold: Floats) -> FloatArray:
    """Tango's statistic of H0: mean = threshold, positive where the mean is above; 0 where nothing is known."""
    distance = np.asarray((gains - losses) / n - threshold, dtype=np.float64)
    squared = tango_variance(gains, losses, n, threshold) / n
    return np.divide(distance, np.sqrt(squared), out=np.zeros_like(distance * squared), where=squared > 0)


def _likely_counts(n: int, rate: float) -> FloatArray:
    """The counts of a binomial that carry all its weight."""
    reach = _STANDARD_DEVIATIONS * math.sqrt(n * rate * (1 - rate)) + 10
    return np.arange(max(0, math.floor(n * rate - reach)), min(n, math.ceil(n * rate + reach)) + 1.0)


def flip_counts(n: int, gain_rate: float, loss_rate: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gains, losses and the probability of both, for all counts that can be expected; three arrays (m,)."""
    from scipy.special import gammaln, xlogy

    gains, losses = np.meshgrid(_likely_counts(n, gain_rate), _likely_counts(n, loss_rate), indexing="ij")
    possible = gains + losses <= n
    gains, losses = gains[possible], losses[possible]
    rest = n - gains - losses
    ways = gammaln(n + 1) - gammaln(gains + 1) - gammaln(losses + 1) - gammaln(rest + 1)
    same_rate = max(0.0, 1 - gain_rate - loss_rate)
    log = ways + xlogy(gains, gain_rate) + xlogy(losses, loss_rate) + xlogy(rest, same_rate)
    return gains, losses, np.exp(log)


def exact_tail(gains: int, losses: int, n: int, threshold: float) -> float:
    """P(Tango's z is at least what was seen) where the mean is `threshold` and flips are as likely as can be."""
    variance = float(tango_variance(gains, losses, n, threshold))
    loss_rate = min(max((variance - threshold + threshold**2) / 2, 0.0), 1.0)
    gain_rate = min(max(loss_rate + threshold, 0.0), 1.0)
    seen = float(tango_z(gains, losses, n, threshold))
    other_gains, other_losses, probability = flip_counts(n, gain_rate, loss_rate)
    at_least = tango_z(other_gains, other_losses, float(n), threshold) >= seen - _TIE
    return min(1.0, float(probability[at_least].sum()))
