"""Flips of 0/1 scores (the exact McNemar test), and Holm's correction over a family of tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal


def mcnemar(gains: int, losses: int, alternative: Literal["less", "greater", "two-sided"] = "less") -> float:
    """Exact p of as many gains among the flips if gains and losses were equally likely (McNemar 1947).

    Args:
        gains: Documents only the candidate got right.
        losses: Documents only the baseline got right.
        alternative: "less": the candidate gains less than it loses, that is, it is worse.
    """
    raise NotImplementedError


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the given order: reject where one is <= alpha (Holm 1979)."""
    raise NotImplementedError
