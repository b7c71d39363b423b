"""What every paired difference offers, what may be wrong with it, and training noise in its standard error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lmeval.stats import FloatArray

BoolArray = npt.NDArray[np.bool_]
Floats = float | FloatArray  # every formula takes one comparison, or an array of them


@dataclass(frozen=True, slots=True)
class Caveat:
    """Why a difference is to be read with care, in plain words."""

    text: str
    blocks: bool  # neither PASS nor FAIL may be claimed


@dataclass(frozen=True, slots=True)
class StepNoise:
    """How much a score moves from checkpoint to checkpoint when nothing really changes."""

    variance: float  # of one step, on the scale of the difference, squared
    df: float  # degrees of freedom of that variance
    num_checkpoints: int  # m, the number it was estimated from

    @property
    def added(self) -> float:
        """What is added to the squared standard error: variance (1 + 1/m)."""
        return self.variance * (1 + 1 / self.num_checkpoints)


class Difference(Protocol):
    """A paired difference with one-sided tests and their interval; `delta` > 0: the candidate is better."""

    @property
    def delta(self) -> float:
        """Candidate minus baseline; of a perplexity, of its logarithm, and turned: > 0 is a lower perplexity."""
        ...

    @property
    def stderr(self) -> float | None:
        """Step noise included; None with one document or one cluster."""
        ...

    @property
    def n(self) -> int:
        """Documents."""
        ...

    @property
    def num_clusters(self) -> int | None:
        """None where every document is its own cluster."""
        ...

    @property
    def method(self) -> str:
        """For tables and records."""
        ...

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """What the reader, and the gate, must know; empty where the method is at home."""
        ...

    def p_not_worse(self, margin: float) -> float:
        """One-sided p of H0: delta <= -margin. Small: PASS."""
        ...

    def p_worse(self, margin: float) -> float:
        """One-sided p of H0: delta >= -margin. Small: FAIL."""
        ...

    def p_better(self, margin: float = 0.0) -> float:
        """One-sided p of H0: delta <= margin. Small: superior."""
        ...

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided: holds exactly the values that neither test rejects at (1 - confidence) / 2."""
        ...


def with_noise(variance: Floats, df: float, noise: StepNoise | None) -> tuple[Floats, Floats]:
    """A squared standard error and its degrees of freedom, step noise added (Welch 1947, Satterthwaite 1946).

    Args:
        variance: Squared standard error over documents.
        df: Its degrees of freedom; infinity for score tests.
        noise: None adds nothing.
    """
    if noise is None or noise.added == 0:
        return variance, df
    total = variance + noise.added
    return total, total**2 / (variance**2 / df + noise.added**2 / noise.df)


def upper_tail(statistic: Floats, df: Floats) -> Floats:
    """P(T >= statistic) of Student's t; of the normal distribution where df is infinite."""
    from scipy.special import ndtr, stdtr

    negative = -np.asarray(statistic, dtype=np.float64)
    degrees = np.asarray(df, dtype=np.float64)
    finite = np.isfinite(degrees)
    tail = np.where(finite, stdtr(np.where(finite, degrees, 1.0), negative), ndtr(negative))
    return tail if tail.ndim else float(tail)


def invert(p_above: Callable[[float], float], alpha: float, centre: float, far: float) -> float:
    """The threshold between `centre` and `far` at which a one-sided p is alpha; `far` where it never is.

    Args:
        p_above: p as a function of the threshold: 0.5 at `centre`, smaller towards `far`.
        alpha: Below 0.5.
        centre: Where the difference is.
        far: The end of the possible thresholds.
    """
    from scipy.optimize import brentq

    if centre == far or p_above(far) >= alpha:
        return far
    return float(brentq(lambda threshold: p_above(threshold) - alpha, centre, far, xtol=1e-14, rtol=1e-13))
