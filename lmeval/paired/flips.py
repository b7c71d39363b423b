"""Flips of 0/1 scores (the exact McNemar test), and Holm's correction over a family of tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np


def mcnemar(gains: int, losses: int, alternative: Literal["less", "greater", "two-sided"] = "less") -> float:
    """Exact p of so few (or many) gains among the flips, were gains and losses equally likely (McNemar 1947).

    Args:
        gains: Documents only the candidate got right.
        losses: Documents only the baseline got right.
        alternative: "less": the candidate gains less than it loses, that is, it is worse.
    """
    from scipy.special import bdtr

    flips = gains + losses
    if flips == 0:
        return 1.0
    less, greater = float(bdtr(gains, flips, 0.5)), float(bdtr(losses, flips, 0.5))
    # a fair coin is symmetric: what is as unlikely as the seen lies as far out on the other side
    return {"less": less, "greater": greater, "two-sided": min(1.0, 2 * min(less, greater))}[alternative]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the given order: reject where one is at most alpha (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in adjusted]
