"""Attention handed to a transformers model for the length of a forward.

transformers dispatches attention by a name in the model's configuration; `attending` puts ours there. Models that do
not dispatch so, or whose attention does more than ours can (sinks, a bias by position), are told apart by
`can_be_handed` and by the proofs that every user of this module makes on the model before it relies on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from lmeval.engine.network import Network
from lmeval.engine.plan import Forest, Row

NAME = "lmeval"
BLOCK_TOKENS = (
    128  # a block of a row closes at so many; on a CPU longer ones cost more a token, shorter ones more calls
)

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


class RowAttention:
    """Attention within a packed row, block by block.

    Branches that share nothing but the row's path see nothing of each other, so a row falls into segments, and its
    mask into blocks on the diagonal beside the path. Neighbouring segments make a block of about BLOCK_TOKENS; the
    cost then grows with the row's length and not with its square.
    """

    def __init__(self, forest: Forest, row: Row, dtype: torch.dtype, device: torch.device) -> None:
        self.num_path = len(row.path)
        # a CPU's fused kernel is no faster in half precision than in float32, its matrix products are
        self.fused = dtype in (torch.float32, torch.float64)
        self.blocks: list[tuple[int, int, int, Tensor]] = []  # begin, end, path seen, mask (T, path + T)
        for begin, end, seen in block_bounds(forest, row):
            queries = np.arange(row.begin + begin, row.begin + end)
            keys = np.concatenate([row.path[:seen], queries])
            query = torch.from_numpy(queries)[:, None]
            key, last = torch.from_numpy(keys), torch.from_numpy(forest.subtree_end[keys])
            hidden = ((key > query) | (query >= last)).to(device)
            mask = torch.zeros(hidden.shape, dtype=dtype if self.fused else torch.float32, device=device)
            self.blocks.append((begin, end, seen, mask.masked_fill_(hidden, torch.finfo(mask.dtype).min)))

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float, softcap: float | None
    ) -> Tensor:
        """See Attend; keys and values are the path's, then the row's."""
        out = query.new_empty((1, query.shape[2], query.shape[1], value.shape[-1]))
        for begin, end, seen, mask in self.blocks:
            own = slice(self.num_path + begin, self.num_path + end)
            keys, values = key[:, :, own], value[:, :, own]
            if seen:
                keys = torch.cat([key[:, :, :seen], keys], dim=2)
                values = torch.cat([value[:, :, :seen], values], dim=2)
            some = query[:, :, begin:end]
            if self.fused and softcap is None:
                found = scaled_dot_product_attention(
                    some,
                    keys,
                    values,
                    attn_mask=mask,
                    scale=scaling,
                    enable_gqa=query.shape[1] != key.shape[1],
                ).transpose(1, 2)
            else:
                found = _by_products(some, keys, values, mask, scaling, softcap)
            out[:, begin:end] = found
        return out


def _by_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    """Attention by two matrix products, the softmax in float32; shapes as in Attend, mask (T, T')."""
    heads, length = key.shape[1], query.shape[2]
    grouped = query[0].unflatten(0, (heads, -1))  # (heads, group, T, width)
    scores = (grouped.flatten(1, 2) @ key[0].transpose(1, 2)).float().unflatten(1, (-1, length)) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = (scores + mask).softmax(-1).to(value.dtype)
    found: Tensor = weights.flatten(1, 2) @ value[0]  # (heads, group * T, width)
    attended: Tensor = found.unflatten(1, (-1, length)).flatten(0, 1).transpose(0, 1)[None]
    return attended


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
