"""Rows that write where attention cannot be handed a shared prefix (see `slots`), and a proof of any rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from lmeval.engine.base import Usage
from lmeval.engine.decode import Rows
from lmeval.engine.memory import reraise_fault
from lmeval.engine.network import Network, without_cache
from lmeval.engine.proof import REFUSALS, say_the_same
from lmeval.engine.tokenization import Ids


class CachedRows:
    """Left-padded rows that step token by token with transformers' own key/value cache."""

    num_shared = 0

    def __init__(self, network: Network, pad_id: int, usage: Usage) -> None:
        self.network, self.pad_id, self.usage = network, pad_id, usage
        self.cache = DynamicCache()
        self.mask = network.to_device(np.zeros((0, 0), dtype=np.int64))
        self.last = network.to_device(np.zeros((0, 1), dtype=np.int64))  # position of each row's last token

    def add(self, prompts: Sequence[Ids]) -> Tensor:
        """See Rows."""
        width = max(len(ids) for ids in prompts)
        tokens = np.full((len(prompts), width), self.pad_id, dtype=np.int64)
        seen = np.zeros((len(prompts), width), dtype=np.int64)
        for line, ids in enumerate(prompts):
            tokens[line, width - len(ids) :], seen[line, width - len(ids) :] = ids, 1
        mask, cache = self.network.to_device(seen), DynamicCache()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = self._run(self.network.to_device(tokens), mask, positions, cache)
        self._join(cache, mask, positions[:, -1:])
        return logits

    def _join(self, cache: DynamicCache, mask: Tensor, last: Tensor) -> None:
        """Put new rows below the others, the shorter ones padded on the left."""
        if not len(self.last):
            self.cache, self.mask, self.last = cache, mask, last
            return
        width = max(mask.shape[1], self.mask.shape[1])

        def padded(tensor: Tensor, dim: int) -> Tensor:
            missing = [*tensor.shape]
            missing[dim] = width - tensor.shape[dim]
            return torch.cat([tensor.new_zeros(missing), tensor], dim=dim)

        for layer, new in zip(self.cache.layers, cache.layers, strict=True):
            layer.keys = torch.cat([padded(layer.keys, -2), padded(new.keys, -2)])
            layer.values = torch.cat([padded(layer.values, -2), padded(new.values, -2)])
        self.mask = torch.cat([padded(self.mask, 1), padded(mask, 1)])
        self.last = torch.cat([self.last, last])

    def step(self, tokens: Sequence[int]) -> Tensor:
        """See Rows."""
        self.last = self.last + 1
        self.mask = torch.cat([self.mask, self.mask.new_ones((len(tokens), 1))], dim=-1)
        inputs = self.network.to_device(np.array(tokens)[:, None])
        return self._run(inputs, self.mask, self.last, self.cache)

    def _run(self, tokens: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        self.usage.tokens_computed += tokens.numel()
        inputs = {
            "input_ids": tokens,
            "attention_mask": mask,
            "position_ids": positions,
            "past_key_values": cache,
            "use_cache": True,
        }
        if self.network.is_split:
            return self.network.logits(self.network.hidden(**inputs)[:, -1])
        logits: Tensor = self.network.model(**inputs).logits[:, -1]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """See Rows."""
        lines = self.network.to_device(np.array(rows, dtype=np.int64))
        if not len(rows):
            self.cache = DynamicCache()
        else:
            self.cache.batch_select_indices(lines)
        self.mask, self.last = self.mask[lines], self.last[lines]


class RecomputedRows:
    """Right-padded rows that run whole at every step: for models whose state is not a key/value cache."""

    num_shared = 0

    def __init__(self, network: Network, usage: Usage) -> None:
        self.network, self.usage = network, usage
        self.rows: list[list[int]] = []

    def add(self, prompts: Sequence[Ids]) -> Tensor:
        """See Rows."""
        fresh = [ids.tolist() for ids in prompts]
        self.rows += fresh
        return self._logits(fresh)

    def step(self, tokens: Sequence[int]) -> Tensor:
        """See Rows."""
        for row, token in zip(self.rows, tokens, strict=True):
            row.append(token)
        return self._logits(self.rows)

    def _logits(self, rows: Sequence[list[int]]) -> Tensor:
        width = max(len(row) for row in rows)
        tokens = self.network.to_device(np.array([row + [0] * (width - len(row)) for row in rows]))
        self.usage.tokens_computed += tokens.numel()
        last = self.network.to_device(np.array([len(row) - 1 for row in rows]))
        lines = torch.arange(len(rows), device=last.device)
        if self.network.is_split:
            hidden = self.network.hidden(input_ids=tokens, **without_cache(self.network.body))
            return self.network.logits(hidden[lines, last])
        model = self.network.model
        logits: Tensor = model(input_ids=tokens, **without_cache(model)).logits[lines, last]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """See Rows."""
        self.rows = [self.rows[row] for row in rows]


@torch.inference_mode()
def prove(make_rows: Callable[[Sequence[Ids]], Rows], network: Network) -> bool:
    """Whether rows of unequal prompts, one of them added late, step to what their texts give when run whole.

    A recurrent model may swallow a key/value cache without a word and then see its last token only.

    Args:
        make_rows: Rows for prompts such as these.
        network: The model.
    """
    vocabulary = int(network.model.config.get_text_config().vocab_size)
    shared = np.random.default_rng(0).integers(0, vocabulary, size=4)
    texts = [
        np.concatenate([shared, np.random.default_rng(n).integers(0, vocabulary, size=n)]).astype(np.int32)
        for n in (7, 4, 5)
    ]
    try:
        rows = make_rows([ids[:-2] for ids in texts])
        rows.add([ids[:-2] for ids in texts[:2]])
        rows.step([int(ids[-2]) for ids in texts[:2]])
        rows.keep([1])
        rows.add([texts[2][:-2]])
        rows.step([int(texts[1][-1]), int(texts[2][-2])])
        got = rows.step([0, int(texts[2][-1])])
    except REFUSALS as refusal:
        reraise_fault(refusal)
        return False
    after = [np.append(texts[1], 0).astype(np.int32), texts[2]]
    whole = torch.cat([RecomputedRows(network, Usage()).add([ids]) for ids in after])
    return say_the_same(got, whole, network.dtype)
