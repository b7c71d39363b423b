"""What a suite can resolve: the smallest effect it shows at its n, the documents a margin needs, the minutes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmeval.gate.config import GateConfig, Rule

if TYPE_CHECKING:
    from lmeval.runs import StoredRun


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What one rule can resolve."""

    rule: Rule
    n: int
    margin: float | None  # on the scale of the differences
    mde: float | None
    documents_needed: int | None
    minutes: float | None  # to score so many documents, as the run took
    assumption: str  # where the variance of differences comes from


def plan(run: StoredRun, config: GateConfig, *, against: StoredRun | None = None) -> tuple[PlanLine, ...]:
    """What every rule can resolve on this run's documents."""
    raise NotImplementedError
