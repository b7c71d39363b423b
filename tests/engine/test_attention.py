"""The blocks of a packed row: every node sees its ancestors in its own block or on the path, and nothing is lost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmeval.engine.attention import KEY_STEP, QUERY_STEP, RowAttention, block_bounds
from lmeval.engine.causal_windows import Window
from lmeval.engine.plan import Forest, build_forest, cut_rows
from lmeval.engine.rows import subtree_mask
from lmeval.engine.scratch import Scratch

token = st.integers(0, 2)
texts = st.lists(st.lists(token, min_size=2, max_size=14), min_size=1, max_size=12)


def forest_of(lists: list[list[int]]) -> Forest:
    return build_forest([Window(np.array(ids, dtype=np.int32), 1) for ids in lists])


@settings(max_examples=150, deadline=None)
@given(texts, st.integers(1, 30), st.integers(1, 12))
def test_blocks_tile_a_row_and_hold_every_ancestor(lists: list[list[int]], budget: int, target: int) -> None:
    forest = forest_of(lists)
    for row in cut_rows(forest, budget, 2 * budget):
        bounds = block_bounds(forest, row, target)
        assert [b for b, _, _ in bounds] == [0, *(e for _, e, _ in bounds[:-1])]
        assert bounds[-1][1] == row.end - row.begin
        for begin, end, seen in bounds:
            for node in range(row.begin + begin, row.begin + end):
                ancestors = {k for k in range(node + 1) if node < forest.subtree_end[k]}
                allowed = {*row.path[:seen].tolist(), *range(row.begin + begin, row.begin + end)}
                assert ancestors <= allowed
        sizes = [end - begin for begin, end, _ in bounds]
        assert all(a + b > target for a, b in itertools.pairwise(sizes))  # none could have been joined


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("heads", [2, 6])
def test_attention_in_blocks_is_that_under_the_dense_mask(
    dtype: torch.dtype, softcap: float | None, heads: int
) -> None:
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 3, 9).tolist()
    forest = forest_of([shared + rng.integers(0, 3, int(n)).tolist() for n in rng.integers(2, 15, 20)])
    compared, scratch = 0, Scratch()
    for row in cut_rows(forest, 24, 24):
        keys, size = len(row.path) + row.end - row.begin, row.end - row.begin
        make = torch.Generator().manual_seed(row.begin)
        query = torch.randn(1, heads, size, 8, generator=make).to(dtype)
        key, value = (torch.randn(1, 2, keys, 8, generator=make).to(dtype) for _ in range(2))
        attend = RowAttention(forest, row, torch.device("cpu"), dtype, scratch)
        got = attend(query, key, value, 0.3, softcap)
        again = attend(query + 1, key, value, 0.3, softcap)  # another layer's, by the same room
        assert got.shape == again.shape and got.data_ptr() != again.data_ptr()
        mask = subtree_mask(forest, row, torch.float64, torch.device("cpu"))
        k, v = (t.double().repeat_interleave(heads // 2, dim=1) for t in (key, value))
        scores = query.double() @ k.transpose(-1, -2) * 0.3
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        wanted = ((scores + mask).softmax(-1) @ v).transpose(1, 2)
        torch.testing.assert_close(
            got.double(), wanted, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.05
        )
        compared += 1
    assert compared > 3


def test_blocks_are_of_few_shapes() -> None:
    rng = np.random.default_rng(1)
    forest = forest_of([rng.integers(0, 50, int(n)).tolist() for n in rng.integers(20, 900, 40)])
    shapes, blocks = set(), 0
    for row in cut_rows(forest, 512, 512):
        for block in RowAttention(forest, row, torch.device("cpu"), torch.float32).blocks:
            keys = block.num_keys
            assert (
                keys >= block.hidden.shape[1]
                and block.hidden.shape[0] == block.size >= block.end - block.begin
            )
            shapes.add((block.size, keys))
            blocks += 1
    assert blocks > 100
    assert all(size % QUERY_STEP == 0 and keys % KEY_STEP == 0 for size, keys in shapes)
    assert len(shapes) < blocks / 3
