"""Standard errors and intervals over documents.

A metric of n documents is a table of per-document statistics, shape (n, K), and a function of their sums.
Everything here takes such tables, treats documents (not tokens) as the sampling unit, and draws only from a
`Generator` that is passed in. With one document there is no standard error: `stderr` is None, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lmeval.errors import NumericError
from lmeval.student_t import upper_quantile

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Aggregate = Callable[[FloatArray], FloatArray]  # (R, K) sums -> (R,) values

CONFIDENCE = 0.95
NUM_RESAMPLES = 1000
_CHUNK_DRAWS = 2_000_000  # documents drawn at a time by the bootstrap: 16 MB of indices


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its standard error and 95 % interval; None where there is none."""

    value: float
    stderr: float | None
    low: float | None
    high: float | None
    method: str


def wilson(successes: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927): for every n >= 1, never outside [0, 1]."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # at p = 0 and 1 the bound is p itself; rounding must not put it on the wrong side
    return max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))


def t_quantile(df: float, confidence: float = CONFIDENCE) -> float:
    """The two-sided quantile of Student's t with `df` degrees of freedom."""
    return upper_quantile((1 - confidence) / 2, df)


def proportion(scores: FloatArray) -> Estimate:
    """The mean of 0/1 scores, binomial standard error, Wilson interval; of fractional scores, see `mean`.

    Args:
        scores: Shape (n,), in [0, 1].
    """
    if not np.isin(scores, (0.0, 1.0)).all():
        fractional = mean(scores)
        return Estimate(
            fractional.value,
            fractional.stderr,
            fractional.low,
            fractional.high,
            "t (fractional scores)",
        )
    n = len(scores)
    p = float(scores.mean())
    low, high = wilson(float(scores.sum()), n)
    return Estimate(p, math.sqrt(p * (1 - p) / n) if n > 1 else None, low, high, "wilson")


def mean(scores: FloatArray) -> Estimate:
    """The mean of scores, shape (n,), with its t interval."""
    return ratio(scores, np.ones_like(scores), method="t")


def ratio_stderr(numerators: FloatArray, weights: FloatArray) -> float | None:
    """Standard error of sum(numerators) / sum(weights), both of shape (n,), by linearisation over documents.

    SE = sqrt(n / (n - 1) * sum e_i^2) / sum w with residuals e_i = d_i - (sum d / sum w) w_i
    (Cochran, Sampling Techniques, chapter 6).
    """
    n, total = len(weights), float(weights.sum())
    if n < 2:
        return None
    residuals = numerators - numerators.sum() / total * weights
    return math.sqrt(n / (n - 1) * float(residuals @ residuals)) / total


def ratio(
    numerators: FloatArray, weights: FloatArray, *, method: str = "t, ratio over documents"
) -> Estimate:
    """sum(numerators) / sum(weights) with a t interval of n - 1 degrees of freedom.

    Raises:
        NumericError: The weights sum to nothing.
    """
    total = float(weights.sum())
    if total <= 0:
        raise NumericError("A ratio over documents has no denominator: the documents hold no units to count.")
    value = float(numerators.sum()) / total
    stderr = ratio_stderr(numerators, weights)
    if stderr is None:
        return Estimate(value, None, None, None, "none (one document)")
    half = t_quantile(len(weights) - 1) * stderr
    return Estimate(value, stderr, value - half, value + half, method)


def log_ratio(nats: FloatArray, weights: FloatArray) -> Estimate:
    """A perplexity exp(sum(nats) / sum(weights)): interval on the log scale, delta-method standard error.

    Raises:
        NumericError: The weights sum to nothing, or the perplexity is too large for a float.
    """
    log = ratio(nats, weights)
    try:
        value = math.exp(log.value)
    except OverflowError:
        raise NumericError(
            f"A perplexity of e^{log.value:.0f} is too large for a number.",
            fix="use bits_per_byte or byte_ppl, which stay small where words are long",
        ) from None
    if log.stderr is None or log.low is None or log.high is None:
        return Estimate(value, None, None, None, log.method)
    if log.high > 700:  # e^710 overflows: with so wide an interval there is nothing to report
        return Estimate(value, None, None, None, "none (wider than a float can hold)")
    method = "t on the log scale, ratio over documents"
    return Estimate(value, value * log.stderr, math.exp(log.low), math.exp(log.high), method)


def resample_counts(n: int, resamples: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """How often each of n documents is drawn in each resample, in chunks of rows: (rows, n) each.

    The draws do not depend on how they are cut into chunks.
    """
    chunk = max(1, _CHUNK_DRAWS // n)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(0, n, size=(rows, n))
        drawn += n * np.arange(rows)[:, None]  # each row counts into its own n cells
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)


def bootstrap_values(
    statistics: FloatArray, aggregate: Aggregate, rng: np.random.Generator, resamples: int = NUM_RESAMPLES
) -> FloatArray:
    """The metric of each resample of documents.

    For a paired test, put both models' statistics side by side and let `aggregate` return the difference.

    Args:
        statistics: Shape (n, K).
        aggregate: Takes summed statistics (R, K), returns values (R,).
        rng: The only source of randomness.
        resamples: R.

    Returns:
        Shape (R,).
    """
    sums = [counts @ statistics for counts in resample_counts(len(statistics), resamples, rng)]
    return aggregate(np.concatenate(sums))


def bootstrap(
    statistics: FloatArray, aggregate: Aggregate, rng: np.random.Generator, resamples: int = NUM_RESAMPLES
) -> Estimate:
    """A corpus metric with its bootstrap standard error and percentile interval (Efron & Tibshirani 1993).

    Args:
        statistics: Shape (n, K).
        aggregate: Takes summed statistics (R, K), returns values (R,).
        rng: The only source of randomness.
        resamples: R.
    """
    value = float(aggregate(statistics.sum(axis=0, keepdims=True))[0])
    if len(statistics) < 2:
        return Estimate(value, None, None, None, "none (one document)")
    return percentile_estimate(value, bootstrap_values(statistics, aggregate, rng, resamples))


@dataclass(frozen=True, slots=True)
class Distance:
    """What makes a metric a distance, which noise only makes larger: what its documents are far from.

    `ideal`: what a share should be; None: the sums of all columns but the last, a weight, should be 0.
    """

    ideal: float | None = None

    def gaps(self, statistics: FloatArray) -> FloatArray:
        """Statistics, shape (n, K), as what the distance sums up, and a weight: in the end each sum should be 0."""
        if self.ideal is None:
            return statistics
        return np.column_stack([statistics[:, 0] - self.ideal * statistics[:, 1], statistics[:, 1]])

    def estimate(self, statistics: FloatArray, rng: np.random.Generator) -> Estimate:
        """The metric of statistics, shape (n, K), with an interval that covers it."""
        if self.ideal is None:
            return distance_sum(statistics, rng)
        return distance(statistics[:, 0] / statistics[:, 1], self.ideal)


def distance_sum(
    statistics: FloatArray, rng: np.random.Generator, resamples: int = NUM_RESAMPLES
) -> Estimate:
    """sum_k |sum of column k| / sum of the last column, as a calibration error is, with an interval that covers it.

    Noise makes every distance larger, so that percentiles of resamples lie above the truth (where the truth is 0, they
    never hold it). By the triangle inequality the value is above it by no more than sum_k |mean_k - true mean_k|: the
    low end is less by the 97.5 % point of what resampling gives for that. The high end, to which noise pushes anyway,
    is the normal one.

    Args:
        statistics: Shape (n, K + 1).
        rng: The only source of randomness.
        resamples: R.
    """
    totals = statistics.sum(axis=0)
    value = float(np.abs(totals[:-1] / totals[-1]).sum())
    if len(statistics) < 2:
        return Estimate(value, None, None, None, "none (one document)")
    resampled, errors = resampled_distances(statistics, rng, resamples)
    stderr = float(resampled.std(ddof=1))
    tail = (1 + CONFIDENCE) / 2
    low = value - float(np.quantile(errors, tail))
    high = value + NormalDist().inv_cdf(tail) * stderr
    return Estimate(value, stderr, max(0.0, low), high, f"bootstrap of distances, {resamples} resamples")


def resampled_distances(
    statistics: FloatArray, rng: np.random.Generator, resamples: int = NUM_RESAMPLES
) -> tuple[FloatArray, FloatArray]:
    """Of statistics as `distance_sum` takes them: its value on each resample, and how far that lies from the sample.

    Returns:
        sum_k |drawn_k| and sum_k |drawn_k - mean_k|, each of shape (R,).
    """
    totals = statistics.sum(axis=0)
    sums = np.concatenate(
        [counts @ statistics for counts in resample_counts(len(statistics), resamples, rng)]
    )
    drawn = sums[:, :-1] / sums[:, -1:]
    return np.abs(drawn).sum(axis=1), np.abs(drawn - totals[:-1] / totals[-1]).sum(axis=1)


def distance(scores: FloatArray, ideal: float) -> Estimate:
    """How far the mean of scores, shape (n,), in [0, 1], is from an ideal; the interval is that of the mean, folded."""
    found = proportion(scores)
    value = abs(found.value - ideal)
    if found.low is None or found.high is None:
        return Estimate(value, found.stderr, None, None, found.method)
    ends = abs(found.low - ideal), abs(found.high - ideal)
    low = 0.0 if found.low <= ideal <= found.high else min(ends)
    return Estimate(value, found.stderr, low, max(ends), f"{found.method}, folded at {ideal:g}")


def percentile_estimate(value: float, resampled: FloatArray) -> Estimate:
    """Standard error and 95 % interval from resampled values, shape (R,); None where some are not numbers."""
    if not np.isfinite(resampled).all():
        return Estimate(value, None, None, None, "none (undefined on some resamples)")
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    # the spread of the resampled metric is its standard error as it is: not divided by the root of R
    stderr = float(resampled.std(ddof=1))
    return Estimate(
        value, stderr, float(low), float(high), f"percentile bootstrap, {len(resampled)} resamples"
    )
