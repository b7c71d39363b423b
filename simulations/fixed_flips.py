"""0/1 scores: the error of Tango's test at the margin, summed over all counts of gains and losses, not sampled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from lmeval.paired import TangoDifference, mcnemar
from lmeval.paired.caveats import FEW_FLIPS
from lmeval.paired.trinomial import flip_counts, tango_z
from simulations.tally import ALPHA, Row

SIZES = (50, 200, 1000, 5000)
RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
MARGINS = (0.005, 0.01, 0.02, 0.05)
NEGLIGIBLE = 1e-8  # counts less likely than this are left out

CELLS: list[Row] = [
    *(
        {"what": "error", "n": n, "margin": margin, "flips": rate}
        for n in SIZES
        for margin in MARGINS
        for rate in RATES
        if rate >= margin
    ),
    # where a PASS without any flip becomes possible, its error peaks: there is nothing between 0 and 1 flip
    *(
        {"what": "error", "n": n, "margin": m, "flips": m}
        for n, m in ((268, 0.01), (133, 0.02), (539, 0.005), (52, 0.05))
    ),
    *({"what": "no flips", "margin": margin} for margin in MARGINS),
    *(
        {"what": "gates", "n": 200, "margin": 0.01, "flips": rate, "delta": -0.03}
        for rate in (0.05, 0.1, 0.2)
    ),
]

Array = npt.NDArray[np.float64]


def measure(cell: Row, rng: np.random.Generator) -> Row:
    """One row; draws nothing."""
    match cell["what"]:
        case "error":
            return errors(cell["n"], cell["margin"], cell["flips"])
        case "no flips":
            return without_flips(cell["margin"])
        case _:
            return gates(cell["n"], cell["margin"], cell["flips"], cell["delta"])


def rates(flips: float, delta: float) -> tuple[float, float]:
    """Rates of gains and losses."""
    return (flips + delta) / 2, (flips - delta) / 2


def errors(n: int, margin: float, flips: float) -> Row:
    """How often PASS and FAIL are claimed where the true difference is minus the margin."""
    gains, losses, probability = flip_counts(n, *rates(flips, -margin))
    z = tango_z(gains, losses, float(n), -margin)
    fail_p, found = fail_p_values(gains, losses, probability, n, margin, z), {}
    for alpha, suffix in ((ALPHA, ""), (ALPHA / 10, "_tenth")):  # Holm's first step over ten tasks
        found[f"PASS{suffix}"] = weight(probability, norm.sf(z) <= alpha)
        found[f"FAIL{suffix}"] = weight(probability, fail_p <= alpha)
        found[f"FAIL_normal{suffix}"] = weight(probability, norm.cdf(z) <= alpha)
    quiet = gains + losses >= FEW_FLIPS  # with fewer the gate warns
    found["quiet_PASS"] = weight(probability, quiet & (norm.sf(z) <= ALPHA))
    found["quiet_FAIL"] = weight(probability, quiet & (fail_p <= ALPHA))
    p = t_test(gains, losses, n, margin)
    return {**found, "t_PASS": weight(probability, p <= ALPHA), "t_FAIL": weight(probability, 1 - p <= ALPHA)}


def weight(probability: Array, chosen: npt.NDArray[np.bool_]) -> float:
    """The probability of the chosen counts."""
    return float(probability[chosen].sum())


def fail_p_values(gains: Array, losses: Array, probability: Array, n: int, margin: float, z: Array) -> Array:
    """TangoDifference's p of a FAIL; it is asked only where the normal tail, which is never larger, is small."""
    p = norm.cdf(z)
    for i in np.flatnonzero((p <= ALPHA) & (probability > NEGLIGIBLE)):
        p[i] = TangoDifference(int(gains[i]), int(losses[i]), n).p_worse(margin)
    return p


def t_test(gains: Array, losses: Array, n: int, margin: float) -> Array:
    """One-sided p of the paired t-test of "at least the margin worse"; without any spread it is sure."""
    delta = (gains - losses) / n
    stderr = np.sqrt(np.maximum((gains + losses) / n - delta**2, 0) / (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(
            stderr > 0, t.sf((delta + margin) / stderr, n - 1), np.where(delta > -margin, 0.0, 1.0)
        )


def without_flips(margin: float) -> Row:
    """From how many documents on no flips at all are a PASS, and how often that is luck at the margin."""
    n = 1
    while TangoDifference(0, 0, n).p_not_worse(margin) > ALPHA:
        n += 1
    return {"n": n, "luck": (1 - margin) ** n, "t_p": float(t_test(np.zeros(1), np.zeros(1), 5, margin)[0])}


def gates(n: int, margin: float, flips: float, delta: float) -> Row:
    """How often two gates let a worse model pass: "no significant drop" by McNemar, and non-inferiority."""
    gains, losses, probability = flip_counts(n, *rates(flips, delta))
    likely = probability > NEGLIGIBLE
    pairs = zip(gains[likely], losses[likely], strict=True)
    no_drop = np.array([mcnemar(int(g), int(x)) > ALPHA for g, x in pairs])
    shown = norm.sf(tango_z(gains, losses, float(n), -margin)) <= ALPHA
    return {"mcnemar": weight(probability[likely], no_drop), "noninferior": weight(probability, shown)}
