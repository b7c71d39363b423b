"""Attention handed to a transformers model for the length of a forward.

transformers dispatches attention by a name in the model's configuration; `attending` puts ours there. Models that do
not dispatch so, or whose attention does more than ours can (sinks, a bias by position), are told apart by
`can_be_handed` and by the proofs that every user of this module makes on the model before it relies on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface

from lmeval.engine.linear import in_turn, products
from lmeval.engine.network import Network
from lmeval.engine.plan import Forest, Row
from lmeval.engine.scratch import Scratch

NAME = "lmeval"
# A block of a row closes at so many: of 64, 128, 192 and 256, on two cores, none was faster on all works
BLOCK_TOKENS = 192
QUERY_STEP, KEY_STEP = 32, 64  # sizes of a block's products are multiples of these

# query (1, query heads, T, width), key and value (1, heads, T', width), scaling, softcap -> (1, T, query heads, width)
Attend = Callable[[Tensor, Tensor, Tensor, float, float | None], Tensor]

_current: Attend | None = None


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface; what masks say is left to the one that attends."""
    assert _current is not None, "a forward outside of `attending`"
    if others.get("s_aux") is not None or others.get("position_bias") is not None:
        raise NotImplementedError("attention with sinks or a bias by position")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _current(query, key, value, scale, softcap), None


AttentionInterface.register(NAME, _attention)


def can_be_handed(network: Network) -> bool:
    """Whether the model's attention can be replaced at all; whether it then gives the same is for a proof to say."""
    asked = getattr(network.model, "_can_set_attn_implementation", None)
    return network.is_split and asked is not None and bool(asked())


@contextmanager
def attending(network: Network, attend: Attend) -> Iterator[None]:
    """The model attends by `attend` within the block."""
    global _current
    configs = network.configs
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation_internal = NAME
        _current = attend
        yield
    finally:
        _current = None
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation_internal = name


class Block(NamedTuple):
    """Queries `begin:end` of a row; their keys are the path's first `seen`, then the row's `own:end`.

    Both are padded to T queries and T' keys: oneDNN makes code for each shape and keeps up to a megabyte of it.
    """

    begin: int
    end: int
    own: int
    seen: int
    size: int  # T
    num_keys: int  # T'
    hidden: Tensor  # (T, up to T') -inf where a query may not look at a key, of the last keys; all see those before


class RowAttention:
    """Attention within a packed row, block by block.

    Branches that share nothing but the row's path see nothing of each other, so a row falls into segments, and its
    mask into blocks on the diagonal beside the path. Neighbouring segments make a block of about BLOCK_TOKENS, and a
    longer one is cut to such blocks of queries; the cost then grows with the row's length and not with its square,
    and a block's scores stay within a processor's cache.
    """

    def __init__(
        self,
        forest: Forest,
        row: Row,
        device: torch.device,
        dtype: torch.dtype,
        scratch: Scratch | None = None,
    ) -> None:
        self.num_path = len(row.path)
        self.scratch = scratch or Scratch()
        self.blocks: list[Block] = []
        for own, stop, seen in block_bounds(forest, row):
            for begin in range(own, stop, BLOCK_TOKENS):
                end = min(begin + BLOCK_TOKENS, stop)
                queries = np.arange(row.begin + begin, row.begin + end)[:, None]
                keys = np.concatenate([row.path[:seen], np.arange(row.begin + own, row.begin + end)])
                hidden = (keys > queries) | (queries >= forest.subtree_end[keys])
                visible = int(np.append(hidden.any(axis=0), True).argmax())
                size, num_keys = _rounded(end - begin, QUERY_STEP), _rounded(len(keys), KEY_STEP)
                mask = np.zeros((size, num_keys - visible), dtype=np.bool_)
                mask[: end - begin, : len(keys) - visible] = hidden[:, visible:]
                mask[:, len(keys) - visible :] = True
                added = torch.zeros(mask.shape, dtype=dtype).masked_fill_(torch.from_numpy(mask), -torch.inf)
                self.blocks.append(Block(begin, end, own, seen, size, num_keys, added.to(device)))

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float, softcap: float | None
    ) -> Tensor:
        """See Attend; keys and values are the path's, then the row's."""
        heads, length = key.shape[1], query.shape[2]
        # scores in half precision are rounded once, as they are made: what else is done to them is done in float32
        in_half = query.dtype in (torch.bfloat16, torch.float16)
        as_made = softcap is None and (not in_half or math.frexp(scaling)[0] == 0.5)
        grouped = (query * scaling if as_made else query)[0].unflatten(0, (heads, -1))
        out = query.new_empty((1, length, query.shape[1], value.shape[-1]))
        by_head = out[0].unflatten(1, (heads, -1))
        step = 1 if in_turn(query) else heads
        for block in self.blocks:
            own, num_hidden = slice(block.begin, block.end), block.hidden.shape[1]
            queries = _padded(grouped[:, :, own], block.size).flatten(1, 2)  # (heads, group * T, width)
            keys, values = (self._seen_by(block, states[0]) for states in (key, value))
            for first in range(0, heads, step):
                some = slice(first, first + step)
                scores = products(queries[some], keys[some], self.scratch)
                if not as_made:
                    scores = scores.float() * scaling
                if softcap is not None:
                    scores = softcap * torch.tanh(scores / softcap)
                if num_hidden:
                    scores.unflatten(1, (-1, block.size))[..., -num_hidden:] += block.hidden
                # in place: each row is read before it is written to
                weights = torch.softmax(scores, -1, out=scores)
                made = products(weights.to(values.dtype), values[some].transpose(1, 2))
                made = made.unflatten(1, (-1, block.size))[:, :, : own.stop - own.start]
                by_head[own, some] = made.permute(2, 0, 1, 3)
        return out

    def _seen_by(self, block: Block, states: Tensor) -> Tensor:
        """Keys or values (heads, T', width) that a block looks at, of those (heads, path + row, width) of its row.

        Those of each head are contiguous, as `products` wants them.
        """
        begin, end = self.num_path + block.own, self.num_path + block.end
        is_prefix = block.seen == begin and block.num_keys == end
        if is_prefix and states[0].is_contiguous():
            return states[:, :end]
        own = states[:, begin:end]
        heads, length, width = own.shape
        rest = states.new_zeros((heads, block.num_keys - block.seen - length, width))
        return torch.cat([states[:, : block.seen], own, rest], dim=1)


def _rounded(size: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-size // step) * step


def _padded(queries: Tensor, size: int) -> Tensor:
    """(heads, group, T, width) with zeros up to `size` queries."""
    missing = size - queries.shape[2]
    return torch.nn.functional.pad(queries, (0, 0, 0, missing)) if missing else queries


def block_bounds(forest: Forest, row: Row, target: int = BLOCK_TOKENS) -> list[tuple[int, int, int]]:
    """Blocks of a row as (begin, end, path seen), counted from the row's begin; they tile it.

    No node sees one of its row outside its block. Its ancestors on the row's path are among the first `path seen`.
    """
    ends = forest.subtree_end[row.begin : row.end]
    reach = np.maximum.accumulate(ends)
    nodes = np.arange(row.begin + 1, row.end)
    starts = np.concatenate(
        [[0], 1 + np.flatnonzero(reach[:-1] <= nodes)]
    )  # where nothing before is an ancestor
    # the path is a chain of ancestors: those that a segment sees are its first ones
    seen = (forest.subtree_end[row.path][None] > (row.begin + starts)[:, None]).sum(axis=1)
    stops = np.append(starts[1:], row.end - row.begin)
    bounds: list[tuple[int, int, int]] = []
    for begin, end, count in zip(starts.tolist(), stops.tolist(), seen.tolist(), strict=True):
        if bounds and end - bounds[-1][0] <= target:
            bounds[-1] = (bounds[-1][0], end, max(bounds[-1][2], count))
        else:
            bounds.append((begin, end, count))
    return bounds
