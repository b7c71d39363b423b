"""What every paired difference offers, what may be wrong with it, and training noise in its standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


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
