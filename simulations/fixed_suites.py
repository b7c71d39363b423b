"""Many tasks at once: Holm on FAIL, every rule must PASS; tasks independent and tasks that move together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

from lmeval.paired import holm
from lmeval.paired.trinomial import tango_z
from simulations.tally import ALPHA, Row

REPLICATIONS = 20_000
N, FLIPS, MARGIN = 3000, 0.1, 0.01  # some 300 flips a task: their tail is the normal one

CELLS: list[Row] = [
    {"tasks": tasks, "together": together}
    for tasks in (1, 10, 50)
    for together in (False, True)
    if tasks > 1 or not together
]

Array = npt.NDArray[np.float64]


def measure(cell: Row, rng: np.random.Generator) -> Row:
    """Shares of suites.

    `equal`: no task changed. `at_margin`: every task lost just the margin. `one_worse`: one task lost just the margin
    and all others gained five points, the worst case for a PASS of the suite.
    """
    tasks, together = cell["tasks"], cell["together"]
    equal = p_values(np.zeros(tasks), together, rng)
    at_margin = p_values(np.full(tasks, -MARGIN), together, rng)
    one_worse = p_values(np.array([-MARGIN] + [0.05] * (tasks - 1)), together, rng)
    corrected = np.array([min(holm(row)) for row in at_margin["FAIL"]])
    return {
        "equal_dropped_uncorrected": share(equal["dropped"].min(axis=1)),
        "equal_FAIL": share(np.array([min(holm(row)) for row in equal["FAIL"]])),
        "equal_PASS": share(equal["PASS"].max(axis=1)),
        "at_margin_FAIL_uncorrected": share(at_margin["FAIL"].min(axis=1)),
        "at_margin_FAIL": share(corrected),
        "at_margin_PASS": share(at_margin["PASS"].max(axis=1)),
        "one_worse_PASS": share(one_worse["PASS"].max(axis=1)),
        "replications": REPLICATIONS,
    }


def share(p: Array) -> float:
    """Of p-values that reject."""
    return float((p <= ALPHA).mean())


def p_values(deltas: Array, together: bool, rng: np.random.Generator) -> dict[str, Array]:
    """p of PASS and FAIL at the margin, and of "worse than before" at none; each (replications, tasks)."""
    shape = (REPLICATIONS, len(deltas))
    if together:  # one draw a suite decides half of the variance of every task's luck
        shared = rng.normal(size=(REPLICATIONS, 1))
        luck = norm.cdf(np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.normal(size=shape))
    else:
        luck = rng.random(shape)
    flips = rng.binomial(N, FLIPS, shape)
    gain_share = (1 + deltas / FLIPS) / 2
    gains = binom.ppf(luck, flips, np.broadcast_to(gain_share, shape))
    losses = flips - gains
    z = tango_z(gains, losses, float(N), -MARGIN)
    return {
        "PASS": norm.sf(z),
        "FAIL": norm.cdf(z),
        "dropped": norm.cdf(tango_z(gains, losses, float(N), 0.0)),
    }
