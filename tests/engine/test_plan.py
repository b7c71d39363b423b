"""The planner against brute force: every prefix once, every score's position back, every row within budget."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lmeval.engine.causal_windows import Window
from lmeval.engine.plan import build_forest, cut_rows, tokens_requested

SEQUENCE = st.lists(st.integers(0, 2), min_size=2, max_size=12)


@st.composite
def window_sets(draw: st.DrawFn) -> list[Window]:
    sequences = draw(st.lists(SEQUENCE, max_size=12))
    return [Window(np.asarray(ids, dtype=np.int32), draw(st.integers(1, len(ids) - 1))) for ids in sequences]


def ancestors(forest, node: int) -> list[int]:
    return [k for k in range(node + 1) if node < forest.subtree_end[k]]


@settings(max_examples=300, deadline=None)
@given(window_sets())
def test_each_distinct_prefix_is_one_node_and_sees_exactly_its_own_prefix(windows: list[Window]) -> None:
    forest = build_forest(windows)
    prefixes = {tuple(w.ids[: end + 1]) for w in windows for end in range(len(w.ids) - 1)}
    seen = {tuple(forest.tokens[ancestors(forest, node)]) for node in range(len(forest))}
    assert len(forest) == len(prefixes)
    assert seen == prefixes
    for node in range(len(forest)):
        assert forest.depths[node] == len(ancestors(forest, node)) - 1


@settings(max_examples=300, deadline=None)
@given(window_sets())
def test_each_scored_token_is_asked_once_of_the_node_of_its_prefix(windows: list[Window]) -> None:
    forest = build_forest(windows)
    expected = [
        (tuple(w.ids[:position]), int(w.ids[position]))
        for w in windows
        for position in range(w.start, len(w.ids))
    ]
    got: list[object] = [None] * len(expected)
    for node, token, slot in zip(forest.query_node, forest.query_token, forest.query_slot, strict=True):
        assert got[slot] is None
        got[slot] = (tuple(forest.tokens[ancestors(forest, node)]), int(token))
    assert got == expected
    assert forest.slots[-1] == len(expected)
    assert np.all(np.diff(forest.query_node) >= 0)


@settings(max_examples=300, deadline=None)
@given(window_sets(), st.integers(1, 9), st.integers(1, 20))
def test_rows_cover_the_layout_within_budget_and_carry_their_ancestors(
    windows: list[Window], budget: int, chain_budget: int
) -> None:
    forest = build_forest(windows)
    rows = list(cut_rows(forest, budget, chain_budget))
    assert [node for row in rows for node in range(row.begin, row.end)] == list(range(len(forest)))
    for row in rows:
        visible = set(row.path.tolist()) | set(range(row.begin, row.end))
        assert row.end - row.begin <= (max(budget, chain_budget) if row.is_chain else budget)
        for node in range(row.begin, row.end):
            assert set(ancestors(forest, node)) <= visible
        assert row.path.tolist() == ancestors(forest, row.begin)[:-1]
        assert row.next_path.tolist() == (ancestors(forest, row.end)[:-1] if row.end < len(forest) else [])
        if row.is_chain:
            assert all(
                ancestors(forest, q) == list(range(row.begin, q + 1)) for q in range(row.begin, row.end)
            )


def test_shots_shared_by_many_documents_are_laid_out_once() -> None:
    shots = list(range(100, 200))
    windows = [
        Window(np.asarray([*shots, 10 + d, 20, 30 + c, 40], dtype=np.int32), 102)
        for d in range(50)
        for c in range(4)
    ]
    forest = build_forest(windows)
    assert tokens_requested(windows) == 200 * 103
    assert len(forest) == 100 + 50 * (2 + 4)
    rows = list(cut_rows(forest, budget=64, chain_budget=64))
    assert max(len(row.path) for row in rows) <= 103


def test_a_document_of_its_own_is_one_row_without_a_mask() -> None:
    windows = [Window(np.arange(i * 1000, i * 1000 + 500, dtype=np.int32), 1) for i in range(3)]
    rows = list(cut_rows(build_forest(windows), budget=64, chain_budget=8192))
    assert [(row.begin, row.end, row.is_chain) for row in rows] == [
        (0, 499, True),
        (499, 998, True),
        (998, 1497, True),
    ]


def test_a_longer_document_than_the_chain_budget_goes_on_from_its_cache() -> None:
    windows = [Window(np.arange(1000, dtype=np.int32), 1)]
    rows = list(cut_rows(build_forest(windows), budget=64, chain_budget=600))
    assert rows[0].is_chain and rows[0].end == 600
    assert all(not row.is_chain and len(row.path) == row.begin for row in rows[1:])


def test_no_windows_make_no_rows() -> None:
    forest = build_forest([])
    assert len(forest) == 0 and list(cut_rows(forest, 8, 8)) == []
