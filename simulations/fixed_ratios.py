"""Perplexities and bits per byte: the ratio over documents, for light and heavy tails, at the margin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lmeval.paired import Difference
from lmeval.paired.methods import of_ratios
from simulations.tally import Row, tally

REPLICATIONS = {20: 20_000, 50: 20_000, 200: 20_000, 1000: 12_000, 5000: 5000}
MARGIN = 0.005  # half a percent of a perplexity

WORLDS = {
    "normal": "nats per token normal; documents of 5 to 700 tokens",
    "t3": "t with 3 degrees of freedom: heavy, symmetric tails",
    "long documents": "lengths lognormal, sigma 1.2: a few documents hold most tokens",
    "skewed": "exponential losses: skewness -2",
    "very skewed": "lognormal losses: skewness -6",
    "very skewed gains": "lognormal gains: skewness 6",
    "1 % broken": "1 % of the documents lose 60 times what others vary by",
}
CELLS: list[Row] = [
    *({"world": world, "n": n} for world in WORLDS for n in REPLICATIONS),
    # a margin that is a share of the baseline's value, which is itself measured on the same documents
    *({"world": "relative margin", "n": 1000, "spread": spread} for spread in (0.02, 0.002)),
]


def measure(cell: Row, rng: np.random.Generator) -> Row:
    """One row."""
    if cell["world"] == "relative margin":
        return relative_margin(cell["n"], cell["spread"], rng)
    return tally(differences(cell["world"], cell["n"], rng), MARGIN)


def relative_margin(n: int, spread: float, rng: np.random.Generator) -> Row:
    """Bits per byte of 1 on average, 0.3 apart from document to document; the candidate needs half a percent more."""
    rows = []
    for _ in range(REPLICATIONS[n]):
        weights = np.round(rng.gamma(4, 50, n)) + 5
        baseline = (1 + 0.3 * rng.normal(size=n)) * weights
        change = (-MARGIN + spread * rng.normal(size=n)) * weights
        found = of_ratios(change, weights, None, method="paired t", size=1.0, noise=None)
        rows.append(tally([found], MARGIN * float(baseline.sum() / weights.sum())))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {
        "replications": len(rows)
    }


def differences(world: str, n: int, rng: np.random.Generator) -> Iterator[Difference]:
    """Replications of the comparison."""
    for _ in range(REPLICATIONS[n]):
        weights = np.round(rng.gamma(4, 50, n)) + 5
        match world:
            case "normal":
                each = 0.02 * rng.normal(size=n)
            case "t3":
                each = 0.02 * rng.standard_t(3, n)
            case "long documents":
                weights = np.round(np.exp(rng.normal(5, 1.2, n))) + 1
                each = 0.02 * rng.normal(size=n)
            case "skewed":
                each = 0.02 * (1 - rng.exponential(size=n))
            case "very skewed":
                each = 0.01 * (np.exp(0.5) - np.exp(rng.normal(size=n)))
            case "very skewed gains":
                each = 0.01 * (np.exp(rng.normal(size=n)) - np.exp(0.5))
            case _:
                broken = rng.random(n) < 0.01
                each = 0.005 * rng.normal(size=n) - 0.3 * broken * rng.exponential(size=n) + 0.003
        values = (each - MARGIN) * weights
        yield of_ratios(values, weights, None, method="paired t", size=3.0, noise=None)
