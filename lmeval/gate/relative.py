"""A margin that is a share of the baseline's own value, on a ratio over documents such as bits per byte.

"At most 0.5 % worse" is about two ratios of one sample. Taken as a fixed number, 0.5 % of the measured baseline, it
misleads where two models are so alike that their difference varies less than the baseline does: the error at the margin
was 9.8 % where 5 was meant (simulations/RESULTS.md). So it is tested as what it says, the mean of
(1 + 0.005) b_i - c_i against 0, which is again a paired difference.
"""

from __future__ import annotations

from dataclasses import dataclass

from lmeval.gate.config import Rule
from lmeval.paired import Difference
from lmeval.paired.base import Caveat
from lmeval.runs import MetricScores
from lmeval.stats import FloatArray


@dataclass(frozen=True, slots=True)
class ShiftedDifference:
    """A difference from a scaled baseline, told as the difference from the baseline itself."""

    scaled: Difference
    shift: float  # what scaling added to the difference: plus or minus the margin

    @property
    def delta(self) -> float:
        """See Difference."""
        return self.scaled.delta - self.shift

    @property
    def stderr(self) -> float | None:
        """See Difference."""
        return self.scaled.stderr

    @property
    def n(self) -> int:
        """See Difference."""
        return self.scaled.n

    @property
    def num_clusters(self) -> int | None:
        """See Difference."""
        return self.scaled.num_clusters

    @property
    def method(self) -> str:
        """See Difference."""
        return f"{self.scaled.method}; share of the baseline"

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """See Difference."""
        return self.scaled.caveats

    def p_not_worse(self, margin: float) -> float:
        """See Difference; exact at the margin that scaled the baseline."""
        return self.scaled.p_not_worse(margin - self.shift)

    def p_worse(self, margin: float) -> float:
        """See Difference."""
        return self.scaled.p_worse(margin - self.shift)

    def p_better(self, margin: float = 0.0) -> float:
        """See Difference."""
        return self.scaled.p_better(margin + self.shift)

    def interval(self, confidence: float) -> tuple[float, float]:
        """See Difference; dual to the tests at the margin that scaled the baseline."""
        low, high = self.scaled.interval(confidence)
        return low - self.shift, high - self.shift


def factor_of(rule: Rule, metric: MetricScores) -> float | None:
    """What the baseline is multiplied by to test a relative margin; None where the margin is a fixed number."""
    margin = rule.margin
    if margin is None or not margin.relative or rule.on_point_estimate or metric.interval != "ratio":
        return None
    is_allowed_more = (rule.kind == "noninferior") != metric.higher_is_better
    return 1 + margin.value if is_allowed_more else 1 - margin.value


def scaled(table: FloatArray, factor: float) -> FloatArray:
    """Statistics (numerator, weight), shape (n, 2), of `factor` times the ratio."""
    return table * [factor, 1.0]
