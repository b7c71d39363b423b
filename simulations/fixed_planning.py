"""Does `lmeval plan` keep its word? The power at the margin it calls detectable, by the tests themselves."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from lmeval.paired import Difference, detectable_flip_margin, flip_sd, minimum_detectable_effect
from lmeval.paired.methods import of_ratios, of_scores
from lmeval.paired.trinomial import flip_counts, tango_z
from simulations.fixed_flips import fail_p_values, weight
from simulations.tally import ALPHA, Row, tally

POWER = 0.8
REPLICATIONS = 8000

CELLS: list[Row] = [
    *(
        {"scores": "0/1", "n": n, "flips": rate}
        for n in (50, 200, 1000, 5000)
        for rate in (0.005, 0.02, 0.05, 0.1, 0.2, 0.3)
    ),
    *({"scores": scores, "n": n} for scores in ("mean", "ratio") for n in (50, 200, 1000)),
]


def measure(cell: Row, rng: np.random.Generator) -> Row:
    """How often an equal model passes, and one worse by twice the margin fails, where the margin is the MDE."""
    return flips(cell["n"], cell["flips"]) if cell["scores"] == "0/1" else sampled(cell, rng)


def flips(n: int, rate: float) -> Row:
    """Summed over all counts; `simple` is the margin by the plain formula, which is too bold with few flips."""
    margin = detectable_flip_margin(rate, n, power=POWER)
    simple = minimum_detectable_effect(flip_sd(rate), n, power=POWER)
    gains, losses, probability = flip_counts(n, rate / 2, rate / 2)
    found: Row = {"margin": margin, "simple_margin": simple}
    for name, at in (("PASS", margin), ("simple_PASS", simple)):
        found[name] = weight(probability, norm.sf(tango_z(gains, losses, float(n), -at)) <= ALPHA)
    worse = max(rate, 2 * margin)  # a model so much worse flips at least as many
    gains, losses, probability = flip_counts(n, worse / 2 - margin, worse / 2 + margin)
    z = tango_z(gains, losses, float(n), -margin)
    found["FAIL"] = weight(probability, fail_p_values(gains, losses, probability, n, margin, z) <= ALPHA)
    return found


def sampled(cell: Row, rng: np.random.Generator) -> Row:
    """Over replications."""
    n, spread = cell["n"], 0.1 if cell["scores"] == "mean" else 0.02
    # the spread of a ratio over documents whose weights vary: sd sqrt(E w^2) / E w
    sd = spread if cell["scores"] == "mean" else spread * np.sqrt(205**2 + 4 * 50**2) / 205
    margin = minimum_detectable_effect(sd, n, power=POWER)
    rates = []
    for truth, verdict in ((0.0, "PASS"), (-2 * margin, "FAIL")):
        found = (one(cell["scores"], n, spread, truth, rng) for _ in range(REPLICATIONS))
        rates.append(tally(found, margin)[verdict])
    return {"margin": float(margin), "PASS": rates[0], "FAIL": rates[1], "replications": REPLICATIONS}


def one(scores: str, n: int, spread: float, truth: float, rng: np.random.Generator) -> Difference:
    """One comparison."""
    values = truth + spread * rng.normal(size=n)
    if scores == "mean":
        return of_scores(values, None, reach=1.0, size=1.0, is_share=False, noise=None)
    weights = np.round(rng.gamma(4, 50, n)) + 5
    return of_ratios(values * weights, weights, None, method="paired t", size=3.0, noise=None)
