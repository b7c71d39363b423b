"""What of a plan is run where only some of its requests are asked. Plain NumPy, no torch.

A score in float32 depends, in its last bits, on what stands beside it in a row or batch. So that a resumed run gives
the same bits as one that was never cut off, all requests are planned, and of the plan the rows and batches are run
that hold a request which is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.plan import Forest, Row

Int = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Use(NamedTuple):
    """What is done with a row of a plan."""

    runs: bool  # its keys and values are needed, or its scores are
    scores: bool


WHOLE = Use(runs=True, scores=True)


def chosen_mask(only: Collection[int] | None, count: int) -> Mask:
    """(count,) whether each request is asked; `only` are the indices of those that are, None: all."""
    if only is None:
        return np.ones(count, dtype=bool)
    mask = np.zeros(count, dtype=bool)
    mask[list(only)] = True
    return mask


def positions(only: Collection[int] | None, part: Sequence[int]) -> list[int] | None:
    """The places within `part` of those of its indices that are in `only`."""
    if only is None:
        return None
    wanted = frozenset(only)
    return [place for place, index in enumerate(part) if index in wanted]


def uses_of_rows(forest: Forest, rows: Iterable[Row], wanted: Mask) -> list[Use]:
    """What is done with each row, if of the slots (S,) those in `wanted` are asked.

    A row that holds a wanted query is run and scored; the rows that hold a part of the open path of one that runs are
    run too, so that its keys and values are computed among the same neighbours.
    """
    owner = np.full(
        len(forest), -1, dtype=np.int64
    )  # the row of each node; -1: it ran before these rows were cut
    feeds: list[Int] = []
    scores: list[bool] = []
    for number, row in enumerate(rows):
        owner[row.begin : row.end] = number
        sources = np.unique(owner[row.path])
        feeds.append(sources[sources >= 0])
        low, high = np.searchsorted(forest.query_node, (row.begin, row.end))
        scores.append(bool(wanted[forest.query_slot[low:high]].any()))
    runs = np.array(scores, dtype=bool)
    for number in range(len(feeds) - 1, -1, -1):
        if runs[number]:
            runs[feeds[number]] = True
    return [Use(bool(run), score) for run, score in zip(runs, scores, strict=True)]


def until_last(uses: Sequence[Use]) -> Sequence[Use]:
    """Without the rows behind the last one that is run."""
    runs = np.flatnonzero([use.runs for use in uses])
    return uses[: int(runs[-1]) + 1 if len(runs) else 0]
