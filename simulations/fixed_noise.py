"""Training noise between checkpoints: false alarms of "not worse than the last one" without and with step noise."""

from __future__ import annotations

import numpy as np

from lmeval.gate.noise import noise_variance
from lmeval.paired import StepNoise, TDifference
from lmeval.paired.base import with_noise
from simulations.tally import ALPHA, Row

REPLICATIONS = 20_000
N = 5000  # documents: t is normal

CELLS: list[Row] = [
    {"checkpoints": m, "noise": noise, "stderr": stderr}
    for m in (4, 5, 10)
    for noise, stderr in ((0.005, 0.004), (0.005, 0.002), (0.005, 0.01), (0.0, 0.004))
]


def measure(cell: Row, rng: np.random.Generator) -> Row:
    """Checkpoints of one true score with noise around it; documents add an error of their own to each difference."""
    m, noise, stderr = cell["checkpoints"], cell["noise"], cell["stderr"]
    plain = corrected = 0
    for _ in range(REPLICATIONS):
        scores = noise * rng.normal(size=m + 1)  # the last is the candidate
        deltas = np.diff(scores) + stderr * rng.normal(size=m)
        variance, df = noise_variance(deltas[:-1], np.full(m - 1, stderr), np.ones(m - 1))
        plain += alarms(float(deltas[-1]), stderr, None)
        corrected += alarms(float(deltas[-1]), stderr, StepNoise(variance, df, m) if variance > 0 else None)
    return {
        "plain": plain / REPLICATIONS,
        "corrected": corrected / REPLICATIONS,
        "replications": REPLICATIONS,
    }


def alarms(delta: float, stderr: float, noise: StepNoise | None) -> bool:
    """Whether "no worse than the last checkpoint" is rejected."""
    squared, df = with_noise(stderr**2, N - 1, noise)
    return TDifference(delta, float(np.sqrt(squared)), float(df), N, "paired t").p_worse(0.0) <= ALPHA
