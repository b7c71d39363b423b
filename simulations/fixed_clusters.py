"""Documents that share a passage or a page: the error at the margin, with clusters of equal and unequal sizes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lmeval.paired import Difference
from lmeval.paired.methods import of_flips, of_scores
from simulations.tally import Row, tally

REPLICATIONS = 8000
UNEQUAL = "1 to 40"

# How alike the documents of a cluster are: not at all; half of them flip where one does; all of them
ALIKE = ("not", "half", "all")

CELLS: list[Row] = [
    *(
        {
            "scores": "0/1",
            "clusters": clusters,
            "size": size,
            "alike": alike,
            "flips": flips,
            "margin": margin,
        }
        for clusters, size in ((10, 20), (20, 10), (50, 20), (100, 10), (100, UNEQUAL), (500, 10))
        for alike in ALIKE
        for flips, margin in ((0.01, 0.01), (0.05, 0.02), (0.3, 0.05))
    ),
    *(
        {"scores": "mean", "clusters": clusters, "size": size, "alike": alike, "margin": 0.01}
        for clusters, size in ((10, 20), (20, 10), (50, 20), (100, UNEQUAL))
        for alike in ("not", "half")
    ),
]


def measure(cell: Row, rng: np.random.Generator) -> Row:
    """One row."""
    return tally(differences(cell, rng), cell["margin"])


def cluster_sizes(cell: Row) -> npt.NDArray[np.int64]:
    """Documents of each cluster: the same in every replication."""
    count, size = cell["clusters"], cell["size"]
    if size != UNEQUAL:
        return np.full(count, size)
    # as many small ones as a hyperbola has, largest 40 times the smallest
    return np.maximum(1, (40 / np.arange(1, count + 1) ** 0.7).astype(np.int64))


def differences(cell: Row, rng: np.random.Generator) -> Iterator[Difference]:
    """Replications of the comparison."""
    index = np.repeat(np.arange(cell["clusters"]), cluster_sizes(cell))
    for _ in range(REPLICATIONS):
        if cell["scores"] == "0/1":
            yield of_flips(flips(cell, index, rng), index, None)
        else:
            shared = 0.1 if cell["alike"] == "half" else 0.0
            values = 0.1 * rng.normal(size=len(index)) + shared * rng.normal(size=cell["clusters"])[index]
            values = np.clip(values, -0.5, 0.5) - cell["margin"]
            yield of_scores(values, index, reach=1.0, size=1.0, is_share=False, noise=None)


def flips(cell: Row, index: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Differences of 0/1 scores whose mean is minus the margin and which flip at the given rate."""
    gain, loss = (cell["flips"] - cell["margin"]) / 2, (cell["flips"] + cell["margin"]) / 2
    match cell["alike"]:
        case "not":
            u = rng.random(len(index))
        case "all":
            u = rng.random(cell["clusters"])[index]
        case _:  # a cluster is chosen at twice the rate, and then half of its documents flip
            u = np.where(rng.random(len(index)) < 0.5, rng.random(cell["clusters"])[index] / 2, 2.0)
    return (u < gain).astype(np.float64) - ((u >= gain) & (u < gain + loss))
