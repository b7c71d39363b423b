"""Parts of a plan, run one after the other, compute no more than the plan; what they hang on is kept in between."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from lmeval.engine.sources import ModelOptions
from lmeval.listener import Silence
from lmeval.records import ScoreRequest
from lmeval.run import find, load
from lmeval.workers.shards import cut_shards

PREFIX = "The old man sleeps in the red house. " * 12


def requests() -> list[ScoreRequest]:
    """A prefix longer than a row, and what hangs on it."""
    words = ["barn", "house", "dog", "cat", "hen", "red", "old"]
    return [ScoreRequest(f"{PREFIX}{a} {b}", f" {c}") for a in words for b in words for c in words[:3]]


@cache
def engine() -> Any:
    return load(find(ModelOptions("demo", batch_tokens=64, offline=True)), Silence())


def run_shards(plan: Any, order: Iterator[Any] | list[Any], of: Any) -> tuple[dict[int, float], int]:
    """The scores by slot, and the tokens that were computed."""
    before, scores = engine().usage.tokens_computed, {}
    for shard in order:
        wanted = (of >= shard.first) & (of < shard.end)
        for part in plan.run(wanted):
            scores |= dict(zip(part.slots.tolist(), part.values.tolist(), strict=True))
    return scores, engine().usage.tokens_computed - before


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_shards_in_order_compute_each_row_once(workers: int) -> None:
    plan = engine().plan_scores(requests())
    units = plan.units()
    assert len(units.tokens) > 8
    shards = cut_shards(units, np.ones(len(units.of), dtype=bool), workers)
    assert len(shards) > 2
    whole, computed = run_shards(engine().plan_scores(requests()), shards[:0] or [_all(units)], units.of)
    parts, together = run_shards(plan, shards, units.of)
    assert parts == whole
    assert together == computed == int(units.tokens.sum())
    mine, of_one = run_shards(
        engine().plan_scores(requests()), shards[1::2], units.of
    )  # as one of two workers
    assert mine.items() <= whole.items()
    own = sum(int(units.tokens[shard.first : shard.end].sum()) for shard in shards[1::2])
    assert (
        own < of_one < own + int(units.lead[shards[1].first]) + 3 * 64
    )  # the prefix once, not for each shard


def test_shards_out_of_order_begin_anew() -> None:
    """As those that a dead worker had."""
    plan = engine().plan_scores(requests())
    units = plan.units()
    shards = cut_shards(units, np.ones(len(units.of), dtype=bool), 2)
    scores, _ = run_shards(plan, [shards[2], shards[0], shards[-1], shards[1]], units.of)
    whole, _ = run_shards(engine().plan_scores(requests()), [_all(units)], units.of)
    assert scores.items() <= whole.items()
    asked = [range(shards[i].first, shards[i].end) for i in (2, 0, -1, 1)]
    assert set(np.flatnonzero(np.isin(units.of, np.concatenate(asked)))) <= set(scores)


def _all(units: Any) -> Any:
    from lmeval.workers.shards import Shard

    return Shard(0, len(units.tokens))
