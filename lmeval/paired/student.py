"""t-tests of a paired difference: of a mean, of a ratio over documents, robust to clusters."""

from __future__ import annotations

from dataclasses import dataclass

from lmeval.paired.base import Caveat


@dataclass(frozen=True, slots=True)
class TDifference:
    """A difference with a standard error and its degrees of freedom."""

    delta: float
    stderr: float | None
    df: float
    n: int
    method: str
    num_clusters: int | None = None
    caveats: tuple[Caveat, ...] = ()
