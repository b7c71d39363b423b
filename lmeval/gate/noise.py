"""Step noise: how much adjacent checkpoints differ beyond what their documents and the trend explain.

Two checkpoints of one training run differ although nothing is wrong with either: order of the data, learning rate,
the place on a bumpy loss. A paired test over documents does not see that, and calls it a regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmeval.stats import FloatArray

if TYPE_CHECKING:
    from lmeval.paired import StepNoise
    from lmeval.runs import StoredRun

DEFAULT_CHECKPOINTS = 5


@dataclass(frozen=True, slots=True)
class HistoryNoise:
    """Step noise for every (task, metric), and what a report says about it."""

    noise: dict[tuple[str, str], StepNoise]
    steps: tuple[int, ...]  # the checkpoints it is from
    anchor: StoredRun  # the history's first checkpoint: what stays fixed where no other anchor is named
    notes: tuple[str, ...]


def history_noise(
    history: Sequence[StoredRun], candidate: StoredRun, m: int = DEFAULT_CHECKPOINTS
) -> HistoryNoise:
    """Step noise from the last m checkpoints before the candidate, for each of its tasks and metrics.

    Raises:
        UsageError: Too few checkpoints.
        NotComparableError: They did not answer the candidate's questions.
    """
    raise NotImplementedError


def step_noise(
    history: Sequence[StoredRun], task: str, metric: str, m: int = DEFAULT_CHECKPOINTS
) -> StepNoise:
    """Step noise of one metric from the last m runs of a history, on the scale of its paired differences."""
    raise NotImplementedError


def noise_variance(deltas: FloatArray, stderrs: FloatArray, gaps: FloatArray) -> tuple[float, int]:
    """Variance of adjacent differences beyond trend and document error, and its degrees of freedom.

    Args:
        deltas: (k,) differences of adjacent checkpoints.
        stderrs: (k,) their paired standard errors over documents.
        gaps: (k,) training steps between them.
    """
    raise NotImplementedError
