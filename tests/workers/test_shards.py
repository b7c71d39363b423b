"""Shards hold everything that is asked once, end where little hangs across, and what killed a worker is set apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmeval.engine.parts import Units, batch_units
from lmeval.workers.shards import Shard, cut_shards, left_of


def units_of(tokens: list[int], lead: list[int] | None = None, each: int = 1) -> Units:
    """So many units that answer `each` things."""
    of = np.repeat(np.arange(len(tokens), dtype=np.int32), each)
    return Units(of, np.array(tokens), np.array(lead or [0] * len(tokens)))


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=300),
    st.integers(1, 70),
    st.data(),
)
def test_everything_that_is_asked_is_in_one_shard(
    tokens: list[int], workers: int, data: st.DataObject
) -> None:
    asked = np.array(data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens))))
    lead = data.draw(st.lists(st.integers(0, 900), min_size=len(tokens), max_size=len(tokens)))
    shards = cut_shards(units_of(tokens, lead), asked, workers)
    covered = [unit for shard in shards for unit in range(shard.first, shard.end)]
    assert covered == sorted(set(covered))  # in order, and none twice
    assert set(np.flatnonzero(asked)) <= set(covered)
    assert all(asked[shard.first] for shard in shards)  # none begins with what nobody asks


@pytest.mark.parametrize("workers", [2, 8, 64])
def test_shards_are_many_and_large_ones_come_first(workers: int) -> None:
    units = units_of([512] * 4000)
    shards = cut_shards(units, np.ones(4000, dtype=bool), workers)
    sizes = [shard.end - shard.first for shard in shards]
    assert 6 * workers <= len(shards) <= 14 * workers
    assert sizes[0] == pytest.approx(4000 / (2 * workers), abs=1)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= 4000 / workers / 20  # so that the last worker is waited for briefly


def test_a_shard_ends_where_least_hangs_across() -> None:
    lead = [400] * 100
    lead[22] = 0  # of 25 wanted; a quarter either way may be given
    shards = cut_shards(units_of([512] * 100, lead), np.ones(100, dtype=bool), 2)
    assert shards[0] == Shard(0, 22)


def test_one_tree_is_split_all_the_same() -> None:
    """A few-shot prefix that everything hangs on, or a document longer than a worker's share."""
    shards = cut_shards(units_of([512] * 64, [0] + [1024] * 63), np.ones(64, dtype=bool), 4)
    assert len(shards) > 8


def test_few_texts_are_not_spread_so_thin_that_slots_stay_empty() -> None:
    units, asked = units_of([100] * 100), np.ones(100, dtype=bool)
    shards = cut_shards(units, asked, 2, least_asked=16)
    assert min(shard.end - shard.first for shard in shards[:-1]) >= 16
    few = cut_shards(units_of([100] * 8), np.ones(8, dtype=bool), 4, least_asked=16)
    assert len(few) == 4  # but no worker is left without


def test_nothing_asked_is_no_shard() -> None:
    assert cut_shards(units_of([5, 5]), np.zeros(2, dtype=bool), 2) == []


def test_what_a_worker_died_on_is_set_apart() -> None:
    units = units_of([1] * 10, each=2)
    missing = np.ones(20, dtype=bool)
    missing[:9] = False  # units 0 to 3, and half of 4
    assert left_of(Shard(2, 8), units, missing) == [Shard(4, 5, deaths=1), Shard(5, 8)]
    assert left_of(Shard(4, 5, deaths=1), units, missing) == [Shard(4, 5, deaths=2)]
    assert left_of(Shard(0, 4), units, missing) == []
    missing[10:14] = False  # 5 and 6 came from elsewhere
    assert left_of(Shard(2, 8), units, missing) == [Shard(4, 5, deaths=1), Shard(7, 8)]


def test_batches_are_units() -> None:
    units = batch_units(5, [([3, 0], 40), ([1, 2, 4], 30)])
    assert units.of.tolist() == [0, 1, 1, 0, 1]
    assert units.tokens.tolist() == [40, 30]
