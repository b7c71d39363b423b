"""Student's t, for every run's intervals: SciPy's would cost a start more than all else that statistics need."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

TINY = 1e-300  # in place of a denominator of zero (Lentz's method)
PRECISION = 1e-14  # relative, of a continued fraction and of a quantile
MOST_STEPS = 1000
NEARLY_NORMAL = 2000  # degrees of freedom from which the series in 1/df is more precise


@lru_cache(maxsize=256)
def upper_quantile(tail: float, df: float) -> float:
    """The t that Student's t with `df` degrees of freedom exceeds with probability `tail`, to 12 digits.

    By Newton's method on the logarithms of both, in which the tail is concave: it converges from anywhere.

    Args:
        tail: In (0, 1/2).
        df: Positive.

    Raises:
        ValueError: An argument is out of range.
    """
    if not (0.0 < tail < 0.5 and 0.0 < df < math.inf):
        raise ValueError(f"no quantile of t for a tail of {tail} and {df} degrees of freedom")
    if df >= NEARLY_NORMAL:
        return _series(-NormalDist().inv_cdf(tail), df)
    log_t = 0.0
    for _ in range(MOST_STEPS):
        t = math.exp(log_t)
        probability, density = upper_tail(t, df), _density(t, df)
        step = math.log(probability / tail) * probability / (density * t)
        log_t += min(step, 1.0)  # from where the tail is flat, a whole step leads where it is zero
        if abs(step) <= PRECISION * max(1.0, abs(log_t)):
            break
    return math.exp(log_t)


def _series(z: float, df: float) -> float:
    """The quantile from the normal one by powers of 1/df (Fisher and Cornish 1960; Abramowitz and Stegun 26.7.5)."""
    u = z * z
    terms = (
        (u + 1) / 4,
        ((5 * u + 16) * u + 3) / 96,
        (((3 * u + 19) * u + 17) * u - 15) / 384,
        ((((79 * u + 776) * u + 1482) * u - 1920) * u - 945) / 92160,
    )
    return z * (1 + sum(term / df**power for power, term in enumerate(terms, start=1)))


def upper_tail(t: float, df: float) -> float:
    """The probability that Student's t with `df` degrees of freedom exceeds t > 0: I_x(df/2, 1/2) / 2."""
    a, x, y = df / 2, df / (df + t * t), t * t / (df + t * t)
    if x < (a + 1) / (a + 2.5):
        return 0.5 * _factor(a, x, y) / a * _continued_fraction(a, 0.5, x)
    return 0.5 - _factor(a, x, y) * _continued_fraction(0.5, a, y)


def _density(t: float, df: float) -> float:
    a, x, y = df / 2, df / (df + t * t), t * t / (df + t * t)
    return _factor(a, x, y) / t


def _factor(a: float, x: float, y: float) -> float:
    """x^a y^(1/2) / B(a, 1/2), with y = 1 - x."""
    # B(a, 1/2) = sqrt(pi) Gamma(a) / Gamma(a + 1/2); log1p keeps what x near 1 would lose
    log_power = a * (math.log1p(-y) if y < 0.5 else math.log(x))
    return math.exp(log_power) * math.sqrt(y / math.pi) * _gamma_ratio(a)


def _gamma_ratio(a: float) -> float:
    """Gamma(a + 1/2) / Gamma(a); for large a by its series in 1/a (DLMF 5.11.13), where log-gammas would cancel."""
    if a < 100:
        return math.exp(math.lgamma(a + 0.5) - math.lgamma(a))
    return math.sqrt(a) * (1 - 1 / (8 * a) + 1 / (128 * a**2) + 5 / (1024 * a**3) - 21 / (32768 * a**4))


def _continued_fraction(a: float, b: float, x: float) -> float:
    """That of the incomplete beta function (DLMF 8.17.22), by Lentz's method."""
    c, d = 1.0, 1.0 / _not_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, MOST_STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1.0 / _not_zero(1.0 + numerator * d)
            c = _not_zero(1.0 + numerator / c)
            value *= c * d
        if abs(c * d - 1.0) <= PRECISION:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY
