"""Paired bootstrap of metrics that are functions of summed per-document statistics (BLEU, ROUGE, F1, MCC)."""

from __future__ import annotations

from dataclasses import dataclass

from lmeval.paired.base import Caveat
from lmeval.stats import FloatArray


@dataclass(frozen=True, slots=True)
class BootstrapDifference:
    """A difference and its resampled values."""

    delta: float
    stderr: float | None
    n: int
    resampled: FloatArray  # (R,), sorted
    method: str
    num_clusters: int | None = None
    caveats: tuple[Caveat, ...] = ()
