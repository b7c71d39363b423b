"""A plan cut into shards: ranges of its units, in the order of their layout, large ones first.

Guided self-scheduling (Polychronopoulos and Kuck 1987): each shard is a share of what is left, so that few are needed
and the last are small; who is slow or dead holds up little. They are handed out in the order of the layout, so that a
worker's next shard is further along, and what shards hang on (a few-shot prefix) is computed once by each worker. A
shard ends where little hangs across.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.parts import Units

Int = NDArray[np.int64]
Mask = NDArray[np.bool_]

SHARES = 2.0  # a shard is what is left by so many times the workers
LEAST_SHARE = 1 / 32  # of a worker's fair share: smaller shards would balance no better than noise
SLACK = 0.25  # a shard may end so much of its size earlier or later


@dataclass(frozen=True, slots=True)
class Shard:
    """Units `first:end` of a plan."""

    first: int
    end: int
    deaths: int = 0  # workers that died on it


def cut_shards(
    units: Units, asked: Mask, num_workers: int, *, shares: float = SHARES, least_asked: int = 1
) -> list[Shard]:
    """Shards that hold everything that is asked, in the order in which to hand them out.

    Args:
        units: Of the plan.
        asked: (S,) what of it is asked.
        num_workers: That share it.
        shares: See SHARES.
        least_asked: Of the S things, a shard holds no fewer, unless that leaves workers without any.
    """
    counts = np.bincount(units.of[asked], minlength=len(units.tokens))
    tokens = np.where(counts > 0, units.tokens, 0)
    total = np.concatenate([[0], np.cumsum(tokens)])
    number = np.concatenate([[0], np.cumsum(counts)])
    least = total[-1] / num_workers * LEAST_SHARE
    fewest = min(least_asked, -(-int(number[-1]) // num_workers))
    shards: list[Shard] = []
    first = int(np.argmax(counts > 0)) if counts.any() else len(counts)
    while number[first] < number[-1]:
        if not counts[first]:
            first += 1
            continue
        size = max(least, (total[-1] - total[first]) / (shares * num_workers))
        end = _best_end(units, total, first, size)
        while number[end] - number[first] < fewest and number[end] < number[-1]:
            end += 1
        shards.append(Shard(first, end))
        first = end
    return shards


def _best_end(units: Units, total: Int, first: int, size: float) -> int:
    """Where a shard of about `size` tokens ends: where the least hangs across, of such the nearest."""
    last = len(units.tokens)
    low, near, high = (
        int(np.searchsorted(total, total[first] + share * size, side="left"))
        for share in (1 - SLACK, 1.0, 1 + SLACK)
    )
    low, high = min(max(low, first + 1), last), min(max(high, first + 1), last)
    if high == last:
        lead = np.append(units.lead[low:high], 0)  # nothing follows the last
    else:
        lead = units.lead[low : high + 1]
    ends = np.arange(low, high + 1)
    return int(ends[np.lexsort((np.abs(ends - near), lead))[0]])


def left_of(shard: Shard, units: Units, missing: Mask) -> list[Shard]:
    """What is left of a shard whose worker died, `missing` (S,) being what has not arrived.

    Units are run in order, so that the first one left is what a worker died on: it becomes a shard of its own, and
    the others do not share its fate.
    """
    own = units.of[missing]
    own = own[(own >= shard.first) & (own < shard.end)]
    if not len(own):
        return []
    first = int(own.min())
    suspect = Shard(first, first + 1, shard.deaths + 1)
    rest = own[own > first]
    return [suspect, Shard(int(rest.min()), shard.end)] if len(rest) else [suspect]
