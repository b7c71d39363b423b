"""The method for a metric's kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from lmeval.paired.base import Difference, StepNoise
from lmeval.stats import Aggregate, FloatArray

Kind = Literal[
    "proportion", "mean", "ratio", "log_ratio", "bootstrap"
]  # metrics.base.Interval, which lies above


def paired_difference(
    kind: Kind,
    baseline: FloatArray,
    candidate: FloatArray,
    aggregate: Aggregate,
    *,
    higher_is_better: bool,
    clusters: Sequence[str | None] | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    rng: np.random.Generator,
    step_noise: StepNoise | None = None,
) -> Difference:
    """The difference between two models on the same documents, by the method of the metric's kind.

    Args:
        kind: `Metric.interval`. log_ratio: the difference is that of logarithms, so "at most 1 % worse" is a
            margin of ln 1.01. All others are on the metric's own scale.
        baseline: Statistics, shape (n, K); the columns are (numerator, weight) for all kinds but bootstrap.
        candidate: The same of the same documents in the same order.
        aggregate: `Metric.aggregate`, (R, K) sums to (R,) values; used by the bootstrap.
        higher_is_better: Where not, differences are turned round.
        clusters: The cluster (passage, page) of each document; None: a document of its own.
        bounds: `Metric.bounds`. Where one document's score is bounded, few changed documents can be judged.
        rng: Seeded; draws the bootstrap.
        step_noise: Training noise to add to the squared standard error, where checkpoints are compared.

    Raises:
        NumericError: NaN or infinity among the statistics, or weights that sum to nothing.
        NotComparableError: The shapes or the documents' weights differ.
        DataError: There are no documents.
    """
    raise NotImplementedError
