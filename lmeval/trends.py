"""What a series of checkpoints shows: its trend, its signal against its noise, and what each document did.

A history is a folder of finished runs whose models have a training step, as `lmeval run --model 'GLOB'` keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmeval.stats import FloatArray

if TYPE_CHECKING:
    from lmeval.runs import StoredRun


@dataclass(frozen=True, slots=True)
class Slope:
    """A robust slope (Theil 1950, Sen 1968) with its 95 % interval; None where there are too few points."""

    value: float
    low: float | None
    high: float | None
    unit: str  # what the metric changes by so much for: "1,000 steps" or "doubling"


@dataclass(frozen=True, slots=True)
class DocumentChanges:
    """What documents of 0/1 scores did over a series; the five sum to the number of documents."""

    learned: int  # wrong, then right to the end
    forgotten: int  # right, then wrong to the end
    flipping: int  # changed more than once
    always: int
    never: int


@dataclass(frozen=True, slots=True)
class Trend:
    """One metric of one task over a series."""

    task: str
    metric: str
    unit: str
    higher_is_better: bool
    steps: tuple[int, ...]
    values: tuple[float, ...]
    slope: Slope | None  # of the metric's value
    noise: float | None  # standard deviation of one checkpoint around its neighbours
    signal_to_noise: float | None
    changes: DocumentChanges | None  # 0/1 scores only
    best: int  # index into steps


def read_history(folder: Path) -> list[StoredRun]:
    """The finished runs below a folder whose models have a step: by step, the newest where a step has several.

    Raises:
        StoreError: There are none.
        NotComparableError: A step has runs of different models.
    """
    raise NotImplementedError


def trends(history: Sequence[StoredRun]) -> list[Trend]:
    """Every task and metric that all runs share.

    Raises:
        NotComparableError: The runs did not answer the same questions.
    """
    raise NotImplementedError


def theil_sen(x: FloatArray, y: FloatArray, unit: str) -> Slope:
    """The median of the slopes between all pairs of points, and Sen's interval."""
    raise NotImplementedError


def neighbour_noise(x: FloatArray, y: FloatArray) -> float | None:
    """Standard deviation of points around the line through their neighbours (Gasser, Sroka & Jennen-Steinmetz 1986).

    Free of any trend that is straight over three points; None for fewer than three.
    """
    raise NotImplementedError


def document_changes(right: FloatArray) -> DocumentChanges:
    """Count documents by how their 0/1 scores changed, shape (checkpoints, documents)."""
    raise NotImplementedError


def sparkline(values: Sequence[float]) -> str:
    """Values as a line of eight heights."""
    raise NotImplementedError
