"""The units that are sampled, documents or clusters of them, and how clusters widen a variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lmeval.stats import FloatArray

ClusterIndex = npt.NDArray[np.int64]  # (n,): each document's cluster, counted from 0


def cluster_index(clusters: Sequence[str | None] | None) -> ClusterIndex | None:
    """Clusters by number; None where no two documents share one.

    Args:
        clusters: A name per document; None is a document of its own.
    """
    if clusters is None:
        return None
    numbers: dict[str | int, int] = {}
    index = [numbers.setdefault(i if name is None else name, len(numbers)) for i, name in enumerate(clusters)]
    return np.array(index, dtype=np.int64) if len(numbers) < len(index) else None


def by_unit(values: FloatArray, index: ClusterIndex | None) -> FloatArray:
    """Sums over the units' documents: (n, ...) -> (u, ...)."""
    return values if index is None else cluster_sums(values, index)


def cluster_sums(values: FloatArray, index: ClusterIndex) -> FloatArray:
    """Sums over each cluster's documents: (n, ...) -> (C, ...)."""
    sums = np.zeros((int(index.max()) + 1, *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums


def ratio_variance(numerators: FloatArray, weights: FloatArray, index: ClusterIndex | None) -> FloatArray:
    """Squared standard error of sum(numerators) / sum(weights), by linearisation; (n, ...) -> (...).

    With e_i = d_i - (sum d / sum w) w_i: U / (U - 1) sum_u (sum_{i in u} e_i)^2 / (sum w)^2 over the U units,
    which are documents, or clusters where there are some. With weights of 1 it is that of a mean.
    """
    total = weights.sum(axis=0)
    residuals = numerators - numerators.sum(axis=0) / total * weights
    units = residuals if index is None else cluster_sums(residuals, index)
    squares = np.asarray((units**2).sum(axis=0))
    return np.asarray(len(units) / (len(units) - 1) * squares / total**2, dtype=np.float64)


def worth(sizes: FloatArray) -> float:
    """How many clusters of equal size would weigh as much as these, shape (C,): n^2 / sum of squared sizes."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def pull(sizes: FloatArray) -> float:
    """By how much the cluster-robust variance comes out too small for clusters of these sizes, shape (C,).

    Large clusters pull the mean towards them, which makes their residuals small. C / (C - 1) undoes it where sizes are
    equal; what is left is undone here, as if whole clusters changed together (after Bell & McCaffrey 2002, Survey
    Methodology 28).
    """
    n, squares = float(sizes.sum()), float((sizes**2).sum())
    kept = 1 - 2 * float((sizes**3).sum()) / (n * squares) + squares / n**2
    return (1 - 1 / len(sizes)) / kept


def design_effect(differences: FloatArray, index: ClusterIndex) -> float:
    """How much clusters widen the variance of a mean: cluster-robust over independent, at least 1.

    As long as few clusters hold a change, how alike their documents are cannot be seen: the estimate is drawn to the
    most it could be (whole clusters changing together), the less the more clusters hold one.

    Args:
        differences: Shape (n,).
        index: Shape (n,), of more than one cluster.
    """
    ones = np.ones(len(differences))
    sizes = cluster_sums(ones, index)
    most = float((sizes**2).sum() / sizes.sum())
    changed = int((cluster_sums(np.abs(differences), index) > 0).sum())
    independent = float(ratio_variance(differences, ones, None))
    if changed == 0 or independent == 0:
        return most
    seen = max(1.0, float(ratio_variance(differences, ones, index)) / independent) * pull(sizes)
    return (changed**2 * seen + most) / (changed**2 + 1)
