"""Means of bounded scores (F1, ROUGE, Brier): paired t with its guard, at the margin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lmeval.paired import Difference
from lmeval.paired.methods import of_scores
from simulations.tally import Row, tally

REPLICATIONS = {50: 20_000, 200: 20_000, 1000: 20_000, 5000: 8000}

# A document changes with probability `changed`; then it gains or loses an amount drawn as the name says
CELLS: list[Row] = [
    {"changes": changes, "n": n, "changed": changed, "margin": margin}
    for changes, changed, margin in (
        ("every document a little", 1.0, 0.01),
        ("small", 0.05, 0.01),
        ("small", 0.3, 0.01),
        ("small", 0.3, 0.05),
        ("rare large losses", 0.02, 0.01),
        ("rare large losses", 0.1, 0.01),
        ("rare large losses", 0.3, 0.02),
        ("rare large losses", 0.9, 0.02),
    )
    for n in REPLICATIONS
]


def measure(cell: Row, rng: np.random.Generator) -> Row:
    """One row."""
    return tally(differences(cell, rng), cell["margin"])


def differences(cell: Row, rng: np.random.Generator) -> Iterator[Difference]:
    """Replications of the comparison."""
    n, changed, margin = cell["n"], cell["changed"], cell["margin"]
    for _ in range(REPLICATIONS[n]):
        happens = rng.random(n) < changed
        match cell["changes"]:
            case "every document a little":
                values = np.clip(rng.normal(0, 0.1, n), -0.5, 0.5) - margin
            case "small":  # a third of the range on average, up or down
                size = rng.beta(1, 2, n)
                values = np.where(rng.random(n) < (1 + 3 * margin / changed) / 2, -size, size)
            case _:  # most gain a tenth, some lose everything
                loss_rate = (margin / changed + 0.1) / 1.1
                values = np.where(rng.random(n) < loss_rate, -1.0, 0.1)
        yield of_scores(values * happens, None, reach=1.0, size=1.0, is_share=False, noise=None)
