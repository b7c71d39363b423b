"""When a method is not to be trusted: caveats in plain words, at thresholds that simulations/RESULTS.md measured."""

from __future__ import annotations

import numpy as np

from lmeval.paired.base import Caveat
from lmeval.paired.guarded import FEW_CHANGES, BoolArray, skew_per_root
from lmeval.stats import FloatArray

FEW_FLIPS = 10
FEW_UNITS = 30  # documents or clusters
TOO_FEW_UNITS = 5
LOPSIDED = 0.1  # skewness over sqrt(n)
TOO_LOPSIDED = 0.3
DOMINANT = 0.5  # share of the squared deviations


def flip_caveats(gains: int, losses: int, n: int) -> tuple[Caveat, ...]:
    """Of Tango's test."""
    if n < 2:
        return (Caveat("One document shows nothing.", blocks=True),)
    flips = gains + losses
    if flips >= FEW_FLIPS:
        return ()
    text = "No document flipped" if flips == 0 else f"Only {flips} of {n} documents flipped"
    return (Caveat(f"{text}: with so few, a PASS at 5 % can be wrong 7 % of the time.", blocks=False),)


def unit_caveats(residuals: FloatArray, sizes: FloatArray | None, *, is_guarded: bool) -> tuple[Caveat, ...]:
    """Of a t-test or a bootstrap.

    Args:
        residuals: What each unit (document, or cluster) deviates from the mean, shape (u,).
        sizes: Documents of each cluster, shape (u,); None where units are documents.
        is_guarded: The score test speaks too, which lopsided changes do not fool.
    """
    unit = "document" if sizes is None else "cluster"
    count = len(residuals)
    if count < 2:
        return (Caveat(f"One {unit} shows nothing: there is no spread to judge it by.", blocks=True),)
    found = []
    effective = count if sizes is None else float(sizes.sum() ** 2 / (sizes**2).sum())
    if effective < FEW_UNITS:
        kind = (
            "" if sizes is None else " of equal size" if effective > count - 0.5 else ", allowing for sizes"
        )
        found.append(
            Caveat(f"Fewer than {FEW_UNITS} {unit}s: {effective:.0f}{kind}.", effective < TOO_FEW_UNITS)
        )
    if not is_guarded:
        found += _shape_caveats(residuals, unit)
    return tuple(found)


def _shape_caveats(residuals: FloatArray, unit: str) -> list[Caveat]:
    squares = residuals**2
    if squares.sum() == 0:
        return []
    largest, skew = float(squares.max() / squares.sum()), skew_per_root(residuals)
    if largest > DOMINANT:
        return [Caveat(f"One {unit} carries {largest:.0%} of the variance.", blocks=True)]
    by_chance = 2 * np.sqrt(6) / len(residuals)
    if abs(skew) <= max(LOPSIDED, by_chance):
        return []
    verdict, tail = ("PASS", "losses") if skew < 0 else ("FAIL", "gains")
    text = f"A few {unit}s with large {tail} decide the spread: a {verdict} may be wrong more often than it says."
    return [Caveat(text, blocks=abs(skew) > TOO_LOPSIDED)]


def spread_caveats(differences: FloatArray, size: float) -> tuple[Caveat, ...]:
    """Of differences that are all one number, shape (n,), where the compared values are about `size`."""
    if len(differences) < 2 or np.ptp(differences) > 1e-12 * size:
        return ()
    if np.abs(differences).max() <= 1e-12 * size:
        return (Caveat("Every document scores the same under both models.", blocks=False),)
    return (
        Caveat("Every document differs by the same amount: there is no spread to judge it by.", blocks=True),
    )


def changed_caveats(changed: BoolArray) -> tuple[Caveat, ...]:
    """Of a bootstrap of unbounded scores: which units (documents, or clusters) changed, shape (u,)."""
    count = int(changed.sum())
    if count == 0:
        return (Caveat("Every document scores the same under both models.", blocks=False),)
    if count >= FEW_CHANGES:
        return ()
    text = f"Only {count} of {len(changed)} changed: a bootstrap does not see what rare changes could do."
    return (Caveat(text, blocks=count < FEW_FLIPS),)
