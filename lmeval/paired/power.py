"""What a suite can resolve: the minimum detectable effect, and the documents an effect needs."""

from __future__ import annotations

import math
from statistics import NormalDist

from lmeval.paired.trinomial import tango_variance

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


def detectable_flip_margin(flip_rate: float, n: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The margin at which equal models pass Tango's test with probability `power`, for 0/1 scores.

    The margin m with m sqrt(n) = z_{1-alpha} sqrt(V(m)) + z_power sqrt(flip_rate), where V(m) is the variance that the
    test takes for the most likely one: wider than the flip rate where flips are few. With none it is what Tango's test
    needs to show anything, z^2 / (n + z^2).

    Args:
        flip_rate: Share of documents whose score differs.
        n: Documents.
        alpha: Level of one one-sided test.
        power: Wanted probability, at least 0.5.
    """
    from scipy.optimize import brentq

    z_alpha, z_power = _NORMAL.inv_cdf(1 - alpha), _NORMAL.inv_cdf(power)
    flips = flip_rate * n / 2

    def missing(margin: float) -> float:
        variance = float(tango_variance(flips, flips, n, -margin))
        return z_alpha * math.sqrt(variance) + z_power * math.sqrt(flip_rate) - margin * math.sqrt(n)

    return float(brentq(missing, 1e-12, 1.0)) if missing(1.0) < 0 else 1.0


def flip_documents_needed(flip_rate: float, margin: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """The fewest documents of 0/1 scores whose `detectable_flip_margin` is at most `margin`, which is in (0, 1)."""
    # the most likely rates do not depend on how many documents there are
    variance = float(tango_variance(flip_rate / 2, flip_rate / 2, 1.0, -margin))
    spread = _NORMAL.inv_cdf(1 - alpha) * math.sqrt(variance) + _NORMAL.inv_cdf(power) * math.sqrt(flip_rate)
    return max(1, math.ceil((spread / margin) ** 2 - 1e-9))
