"""Two tests of one difference, of which the more careful one speaks.

A t-test and a bootstrap trust the spread they see. Where few documents changed, or the changes are lopsided, the
rare large loss is likely to be missing, and they pass a worse model up to half of the time. There a second test
speaks too: the score test where scores are bounded, the t corrected for skewness where they are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from lmeval.paired.base import Caveat, Difference


@dataclass(frozen=True, slots=True)
class GuardedDifference:
    """A difference that claims only what both of its tests claim; delta and standard error are the first's."""

    main: Difference
    guard: Difference
    caveats: tuple[Caveat, ...] = ()

    @property
    def delta(self) -> float:
        """Candidate minus baseline."""
        return self.main.delta

    @property
    def stderr(self) -> float | None:
        """The main method's."""
        return self.main.stderr

    @property
    def n(self) -> int:
        """Documents."""
        return self.main.n

    @property
    def num_clusters(self) -> int | None:
        """None where every document is its own cluster."""
        return self.main.num_clusters

    @property
    def method(self) -> str:
        """For tables and records."""
        return f"{self.main.method}; {self.guard.method}"

    def p_not_worse(self, margin: float) -> float:
        """One-sided p of H0: delta <= -margin, the larger of both."""
        return max(self.main.p_not_worse(margin), self.guard.p_not_worse(margin))

    def p_worse(self, margin: float) -> float:
        """One-sided p of H0: delta >= -margin, the larger of both."""
        return max(self.main.p_worse(margin), self.guard.p_worse(margin))

    def p_better(self, margin: float = 0.0) -> float:
        """One-sided p of H0: delta <= margin, the larger of both."""
        return max(self.main.p_better(margin), self.guard.p_better(margin))

    def interval(self, confidence: float) -> tuple[float, float]:
        """From the lower of both lower ends to the higher of both upper ends."""
        ends = [self.main.interval(confidence), self.guard.interval(confidence)]
        return min(low for low, _ in ends), max(high for _, high in ends)
