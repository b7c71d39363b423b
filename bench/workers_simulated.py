"""What more workers would reach, from the shards and units of a measured run: no cluster needed.

Workers take shards as the crew hands them out. A shard takes its tokens by the measured rate, times a measured
deviation drawn with a seed; a worker computes what its first shard of a task hangs on, once; every task begins with a
plan, which all workers make at the same time; what the driver does for each output is done one after the other.
"""

from __future__ import annotations

import heapq
import random
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmeval.engine.parts import Units
from lmeval.workers.shards import cut_shards


@dataclass(frozen=True)
class Measured:
    """What a run with workers showed."""

    rate: float  # tokens a second of one worker
    deviations: list[float]  # of shards' seconds from what their tokens would take
    weights: list[int]  # of these: the shards' tokens, so that their mean is 1
    start_seconds: float
    plan_seconds: list[float]  # of each task
    output_seconds: float  # the driver's, for each
    outputs: int
    units: list[tuple[list[int], list[int]]]  # tokens and leads, of each task


def measured(run: dict[str, Any]) -> Measured:
    """From what bench.workers_part printed."""
    shards = [(tokens, seconds) for _, _, _, tokens, seconds in run["shards"] if tokens and seconds]
    rate = sum(tokens for tokens, _ in shards) / sum(seconds for _, seconds in shards)
    return Measured(
        rate=rate,
        deviations=[seconds / (tokens / rate) for tokens, seconds in shards],
        weights=[tokens for tokens, _ in shards],
        start_seconds=run["seconds_ready"],
        plan_seconds=run["plan_seconds"],
        output_seconds=run["driver_cpu_seconds"] / run["outputs"],
        outputs=run["outputs"],
        units=[(tokens, lead) for tokens, lead in run["units"]],
    )


@dataclass(frozen=True)
class Outcome:
    """Seconds of a simulated run, and where they went; the last four of each worker, on the average."""

    seconds: float
    start: float
    plan: float
    prefix: float  # computing again what shards hang on
    wait: float  # for the last shard of each task
    driver: float  # longer than the workers took


def simulate(found: Measured, workers: int, times: int, seed: int = 0) -> Outcome:
    """A run of `times` as many documents."""
    rng = random.Random(seed)
    seconds = found.start_seconds
    prefix = wait = driver = plan = 0.0
    all_tokens = sum(sum(tokens) for tokens, _ in found.units)
    for (tokens, lead), planned in zip(found.units, found.plan_seconds, strict=True):
        units = Units(
            np.arange(len(tokens) * times, dtype=np.int32), np.array(tokens * times), np.array(lead * times)
        )
        asked = np.ones(len(units.tokens), dtype=bool)
        free = [(0.0, number, False) for number in range(workers)]
        for shard in cut_shards(units, asked, workers):
            begin, number, has_prefix = heapq.heappop(free)
            again = 0.0 if has_prefix else float(units.lead[shard.first]) / found.rate
            prefix += again / workers
            deviation = rng.choices(found.deviations, found.weights)[0]
            own = float(units.tokens[shard.first : shard.end].sum()) / found.rate * deviation
            heapq.heappush(free, (begin + again + own, number, True))
        ends = [end for end, _, _ in free]
        serial = found.output_seconds * found.outputs * times * sum(tokens) / all_tokens
        wait += max(ends) - statistics.mean(ends)
        driver += max(0.0, serial - max(ends))
        plan += planned * times
        seconds += planned * times + max(max(ends), serial)
    return Outcome(seconds, found.start_seconds, plan, prefix, wait, driver)
