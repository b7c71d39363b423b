"""What a suite can resolve: the minimum detectable effect, and the documents an effect needs."""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL = NormalDist()


def _quantiles(alpha: float, power: float) -> float:
    """z_{1-alpha} + z_power."""
    assert 0 < alpha < 1 and 0 < power < 1, f"alpha {alpha}, power {power}: both are probabilities"
    return _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)


def flip_sd(flip_rate: float, delta: float = 0.0) -> float:
    """Standard deviation of 0/1 differences of which a share `flip_rate` is not 0 and the mean is `delta`."""
    return math.sqrt(max(flip_rate - delta**2, 0.0))


def minimum_detectable_effect(sd: float, n: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """(z_{1-alpha} + z_power) sd / sqrt(n): the margin at which equal models pass with probability `power`.

    Also the true loss beyond a margin that fails with that probability.

    Args:
        sd: Standard deviation of the documents' differences; of a stored one, `difference.stderr * sqrt(n)`.
        n: Documents.
        alpha: Level of one one-sided test.
        power: Wanted probability.
    """
    return _quantiles(alpha, power) * sd / math.sqrt(n)


def documents_needed(sd: float, effect: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """The fewest documents whose minimum detectable effect is at most `effect`."""
    return max(1, math.ceil((_quantiles(alpha, power) * sd / effect) ** 2))
