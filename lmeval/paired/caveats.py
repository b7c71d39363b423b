"""When a method is not to be trusted: caveats in plain words, at thresholds that simulations/RESULTS.md measured."""

from __future__ import annotations

import math

import numpy as np

from lmeval.paired.base import BoolArray, Caveat
from lmeval.stats import FloatArray

FEW_FLIPS = 10
FEW_CHANGES = 30
FEW_CLUSTERS, TOO_FEW_CLUSTERS = 30, 5  # of equal size, or as many as unequal ones are worth
# Where nothing bounds what one document can do; 300 miss what happens to one document in a hundred 5 % of the time
FEW_DOCUMENTS, TOO_FEW_DOCUMENTS = 300, 10
DOMINANT = 0.5  # share of the squared deviations
LOPSIDED = 0.1  # skewness over sqrt(n)
ROUNDING = 1e-12  # of the compared values: a smaller difference is what adding them up leaves behind


def skew_per_root(residuals: FloatArray) -> float:
    """Skewness over sqrt(n) of residuals around 0, shape (n,): sum e^3 / (sum e^2)^1.5; 0 where all are 0."""
    squares = float(residuals @ residuals)
    return float((residuals**3).sum()) / squares**1.5 if squares > 0 else 0.0


def is_lopsided(residuals: FloatArray, limit: float) -> bool:
    """Whether skewness over sqrt(n) exceeds a limit, and what chance does to small samples."""
    by_chance = 2 * math.sqrt(6) / len(residuals)
    return abs(skew_per_root(residuals)) > max(limit, by_chance)


def flip_caveats(gains: int, losses: int, n: int) -> tuple[Caveat, ...]:
    """Of Tango's test over n documents."""
    if n < 2:
        return (Caveat("One document shows nothing.", blocks=True),)
    flips = gains + losses
    if flips >= FEW_FLIPS:
        return ()
    text = "No document flipped" if flips == 0 else f"Only {flips} of {n} documents flipped"
    return (Caveat(f"{text}: with so few, a PASS at 5 % can be wrong 7 % of the time.", blocks=False),)


def size_caveats(num_units: int, sizes: FloatArray | None, *, is_bounded: bool) -> tuple[Caveat, ...]:
    """Of few documents or clusters.

    Args:
        num_units: Documents, or clusters.
        sizes: Documents of each cluster, shape (u,); None where units are documents.
        is_bounded: A document can change the score by no more than its share, and the test knows.
    """
    if num_units < 2:
        unit = "document" if sizes is None else "cluster"
        return (Caveat(f"One {unit} shows nothing: there is no spread to judge it by.", blocks=True),)
    if sizes is not None:
        worth = float(sizes.sum() ** 2 / (sizes**2).sum())
        if worth >= FEW_CLUSTERS:
            return ()
        detail = "" if worth > num_units - 0.5 else f", which for their sizes are worth {worth:.0f}"
        return (Caveat(f"There are only {num_units} clusters{detail}.", worth < TOO_FEW_CLUSTERS),)
    if is_bounded or num_units >= FEW_DOCUMENTS:
        return ()
    text = f"There are only {num_units} documents, too few to see losses that are rare and large."
    return (Caveat(text, num_units < TOO_FEW_DOCUMENTS),)


def shape_caveats(residuals: FloatArray, unit: str) -> tuple[Caveat, ...]:
    """Of differences without bounds: `residuals` are what each unit deviates from the mean, shape (u,)."""
    squares = residuals**2
    if squares.sum() == 0:
        return ()
    largest = float(squares.max() / squares.sum())
    if largest > DOMINANT:
        return (Caveat(f"One {unit} carries {largest:.0%} of the variance.", blocks=True),)
    if not is_lopsided(residuals, LOPSIDED):
        return ()
    verdict, tail = ("PASS", "losses") if skew_per_root(residuals) < 0 else ("FAIL", "gains")
    text = f"A few {unit}s with large {tail} decide the spread: a {verdict} may be wrong more often than it says."
    return (Caveat(text, blocks=False),)


def spread_caveats(differences: FloatArray, size: float) -> tuple[Caveat, ...]:
    """Of differences that are all one number, shape (n,), where the compared values are about `size`."""
    if len(differences) < 2 or np.ptp(differences) > ROUNDING * size:
        return ()
    if np.abs(differences).max() <= ROUNDING * size:
        return (Caveat("Every document scores the same under both models.", blocks=False),)
    return (
        Caveat("Every document differs by the same amount: there is no spread to judge it by.", blocks=True),
    )


def changed_caveats(changed: BoolArray, *, is_bounded: bool) -> tuple[Caveat, ...]:
    """Of a bootstrap.

    Args:
        changed: Which units (documents, or clusters) have other statistics than before, shape (u,).
        is_bounded: The score test speaks too, and knows what one document can do.
    """
    count = int(changed.sum())
    if count == 0:
        return (Caveat("Every document scores the same under both models.", blocks=False),)
    if count >= min(FEW_CHANGES, len(changed)):
        return ()
    text = f"Only {count} of {len(changed)} changed: a bootstrap does not see what rare changes could do."
    return (Caveat(text, blocks=not is_bounded and count < FEW_FLIPS),)
