"""Rows that share the key/value cache of their common prefix, for models whose attention can be handed in.

The prompts of a task begin alike (few-shot examples, an instruction). That prefix is read once and kept once: each
layer holds its keys and values beside one store of slots, (slots, heads, capacity, width), with what is each row's
own. A decoding step runs the rows as one flat line of tokens; its attention is one matrix product of all rows' queries
with the prefix, and one batched product with each row's own keys, under one softmax. New prompts are read as packed
rows of their prefix forest, so that what they share beyond the prefix is read once too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Cache, DynamicCache

from lmeval.engine.attention import attending
from lmeval.engine.base import Usage
from lmeval.engine.causal_windows import Window
from lmeval.engine.network import Network
from lmeval.engine.plan import Forest, build_forest, common_prefix, cut_rows
from lmeval.engine.rows import carry, row_hidden
from lmeval.engine.tokenization import Ids

FIRST_CAPACITY = 64  # tokens; it doubles


class Layer:
    """One layer's keys and values: the prefix (heads, P, width), and the slots (slots, heads, capacity, width)."""

    def __init__(self, prefix_keys: Tensor, prefix_values: Tensor) -> None:
        self.prefix_keys, self.prefix_values = prefix_keys, prefix_values
        heads, _, key_width = prefix_keys.shape
        self.keys = prefix_keys.new_zeros((0, heads, 0, key_width))
        self.values = prefix_values.new_zeros((0, heads, 0, prefix_values.shape[-1]))

    def reserve(self, slots: int, capacity: int) -> None:
        """Make room for so many slots of so many tokens."""
        for name in ("keys", "values"):
            old = getattr(self, name)
            if old.shape[0] < slots or old.shape[2] < capacity:
                shape = (max(slots, old.shape[0]), old.shape[1], max(capacity, old.shape[2]), old.shape[3])
                new = old.new_zeros(shape)
                new[: old.shape[0], :, : old.shape[2]] = old
                setattr(self, name, new)

    def attend(self, query: Tensor, hidden: Tensor, scaling: float, softcap: float | None) -> Tensor:
        """Attention of one token a slot.

        Args:
            query: (1, query heads, B, width).
            hidden: (B, 1, 1, T) whether a slot's key is not there; T keys of each slot are looked at.
            scaling: Of the scores.
            softcap: Scores are capped to this by a tanh, if given.

        Returns:
            (1, B, query heads, width).
        """
        rows, length = hidden.shape[0], hidden.shape[-1]
        heads, shared = self.prefix_keys.shape[:2]
        grouped = query[0].unflatten(0, (heads, -1))  # (heads, group, B, width)
        group = grouped.shape[1]
        keys, values = self.keys[:rows, :, :length], self.values[:rows, :, :length]
        own = grouped.permute(2, 0, 1, 3) @ keys.transpose(-1, -2)  # (B, heads, group, T)
        prefix = grouped.flatten(1, 2) @ self.prefix_keys.transpose(-1, -2)  # (heads, group * B, P)
        prefix = prefix.unflatten(1, (group, rows)).permute(2, 0, 1, 3)
        scores = torch.cat([prefix, own], dim=-1).float() * scaling
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores[..., shared:].masked_fill_(hidden, -torch.inf)
        weights = scores.softmax(-1).to(query.dtype)
        out = weights[..., shared:] @ values
        of_prefix = weights[..., :shared].permute(1, 2, 0, 3).flatten(1, 2) @ self.prefix_values
        out += of_prefix.unflatten(1, (group, rows)).permute(2, 0, 1, 3)
        return out.flatten(1, 2)[None]


class SlotCache(Cache):  # type: ignore[misc]
    """What transformers takes for a cache during a step: it keeps the new keys and hands them through."""

    def __init__(self, layers: list[Layer], lengths: NDArray[np.int64], network: Network) -> None:
        super().__init__(layers=[])
        self.slots = layers
        self.rows = torch.arange(len(lengths), device=network.device)
        self.lengths = network.to_device(lengths)
        width = int(lengths.max()) + 1
        keys = torch.arange(width, device=network.device)
        self.hidden = (keys[None] > self.lengths[:, None])[:, None, None]
        self.layer = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        """Keep the (1, heads, B, width) keys and values of the rows' new tokens."""
        self.layer = layer_idx
        slots = self.slots[layer_idx]
        slots.keys[self.rows, :, self.lengths] = key_states[0].transpose(0, 1)
        slots.values[self.rows, :, self.lengths] = value_states[0].transpose(0, 1)
        return key_states, value_states

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float, softcap: float | None
    ) -> Tensor:
        """See attention.Attend: over the slots of the layer that was updated last, which is the one that asks."""
        return self.slots[self.layer].attend(query, self.hidden, scaling, softcap)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens that are there before this step; positions are handed in, so that nothing hangs on it."""
        return int(self.slots[0].prefix_keys.shape[1])


class SlotRows:
    """Rows over slots; see decode.Rows.

    Args:
        network: The model; see attention.can_be_handed.
        prompts: All prompts that will ever be added: they share a prefix, if only an empty one.
        usage: Gains the tokens computed.
        batch_tokens: Tokens of prompts read at once.
        chain_tokens: The same where they need no mask.
        in_blocks: See rows.row_hidden.
    """

    def __init__(
        self,
        network: Network,
        prompts: Sequence[Ids],
        usage: Usage,
        *,
        batch_tokens: int,
        chain_tokens: int,
        in_blocks: bool,
    ) -> None:
        self.network, self.usage = network, usage
        self.batch_tokens, self.chain_tokens, self.in_blocks = batch_tokens, chain_tokens, in_blocks
        self.num_shared = shared_prefix(prompts)
        self.layers: list[Layer] = []
        self.prefix: DynamicCache | None = None
        self.lengths = np.zeros(0, dtype=np.int64)  # of each row's own tokens

    def add(self, prompts: Sequence[Ids]) -> Tensor:
        """See decode.Rows."""
        # a token to predict behind each prompt makes the prompt's last token the node that is asked
        windows = [Window(np.append(ids, 0).astype(np.int32), len(ids)) for ids in prompts]
        forest = build_forest(windows)
        hidden, keys, values = self._read(forest)
        first, shared = len(self.lengths), self.num_shared
        self.lengths = np.concatenate([self.lengths, [len(ids) - shared for ids in prompts]])
        self._reserve(int(self.lengths.max()) + 1)
        asked = np.empty(len(prompts), dtype=np.int64)
        asked[forest.query_slot] = forest.query_node
        for row, node in enumerate(asked.tolist(), start=first):
            path = shared + np.flatnonzero(forest.subtree_end[shared : node + 1] > node)
            where = self.network.to_device(path - shared)
            for layer, layer_keys, layer_values in zip(self.layers, keys, values, strict=True):
                layer.keys[row, :, : len(path)] = layer_keys.index_select(1, where)
                layer.values[row, :, : len(path)] = layer_values.index_select(1, where)
        return self.network.logits(hidden[self.network.to_device(asked - shared)])

    def _read(self, forest: Forest) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Hidden states (N, H) of the nodes behind the prefix, and each layer's keys and values (heads, N, width)."""
        shared = self.num_shared
        begin, path = (shared, np.arange(shared)) if self.prefix is not None else (0, None)
        cache = DynamicCache([(k, v) for k, v in _tensors(self.prefix)]) if self.prefix else DynamicCache()
        hidden, keys, values = [], [], []
        for row in cut_rows(forest, self.batch_tokens, self.chain_tokens, begin, path):
            hidden.append(row_hidden(self.network, forest, row, cache, in_blocks=self.in_blocks))
            self.usage.tokens_computed += row.end - row.begin
            size = row.end - row.begin
            keys.append([layer.keys[0, :, -size:] for layer in cache.layers])
            values.append([layer.values[0, :, -size:] for layer in cache.layers])
            cache = carry(cache, row) if len(row.next_path) else DynamicCache()
        all_keys = [torch.cat(parts, dim=1) for parts in zip(*keys, strict=True)]
        all_values = [torch.cat(parts, dim=1) for parts in zip(*values, strict=True)]
        states = torch.cat(hidden)
        if self.prefix is not None:
            return states, all_keys, all_values
        pairs = list(zip(all_keys, all_values, strict=True))
        self.layers = [Layer(k[:, :shared].clone(), v[:, :shared].clone()) for k, v in pairs]
        self.prefix = DynamicCache([(k.prefix_keys[None], k.prefix_values[None]) for k in self.layers])
        return states[shared:], [k[:, shared:] for k in all_keys], [v[:, shared:] for v in all_values]

    def _reserve(self, capacity: int) -> None:
        room = self.layers[0].keys.shape[2] if self.layers else 0
        if capacity > room:
            room = max(FIRST_CAPACITY, 2 * room, capacity)
        for layer in self.layers:
            layer.reserve(len(self.lengths), room)

    def step(self, tokens: Sequence[int]) -> Tensor:
        """See decode.Rows."""
        network = self.network
        self._reserve(int(self.lengths.max()) + 1)
        cache = SlotCache(self.layers, self.lengths, network)
        with attending(network, cache.attend):
            hidden = network.hidden(
                input_ids=network.to_device(np.array(tokens))[None],
                position_ids=network.to_device(self.lengths + self.num_shared)[None],
                past_key_values=cache,
                use_cache=True,
            )
        self.usage.tokens_computed += len(tokens)
        self.lengths = self.lengths + 1
        return network.logits(hidden[0])

    def keep(self, rows: Sequence[int]) -> None:
        """See decode.Rows."""
        for target, source in enumerate(rows):
            if target != source:
                size = int(self.lengths[source])
                for layer in self.layers:
                    layer.keys[target, :, :size] = layer.keys[source, :, :size]
                    layer.values[target, :, :size] = layer.values[source, :, :size]
        self.lengths = self.lengths[np.array(rows, dtype=np.int64)]


def _tensors(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


def shared_prefix(prompts: Sequence[Ids]) -> int:
    """Tokens that all prompts begin with; at least one of each is left to be its own."""
    if not len(prompts):
        return 0
    # the prefix of all is that of the least and the greatest in any total order of sequences
    low = min(prompts, key=lambda ids: ids.astype(">u4").tobytes())
    high = max(prompts, key=lambda ids: ids.astype(">u4").tobytes())
    return min(common_prefix(low, high), min(len(ids) for ids in prompts) - 1)
