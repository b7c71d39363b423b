"""What a packed row needs on the device: its mask, its key/value cache, and whether a model can take it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from lmeval.engine.attention import RowAttention, attending
from lmeval.engine.network import Network
from lmeval.engine.plan import Forest, Row
from lmeval.engine.scratch import apart

Int = NDArray[np.int64]

LEAST_ROOM = 256  # tokens behind those that a cache holds, each time it is made larger


def subtree_mask(forest: Forest, row: Row, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(1, 1, row, path + row) additive mask of `k <= q and q < subtree_end[k]`."""
    nodes = np.arange(row.begin, row.end)
    keys = np.concatenate([row.path, nodes])
    query = torch.from_numpy(nodes).to(device)[:, None]
    key, end = torch.from_numpy(keys).to(device), torch.from_numpy(forest.subtree_end[keys]).to(device)
    hidden = (key > query) | (query >= end)
    mask = torch.zeros(hidden.shape, dtype=dtype, device=device)
    return mask.masked_fill_(hidden, torch.finfo(dtype).min)[None, None]


def row_hidden(
    network: Network, forest: Forest, row: Row, cache: DynamicCache | None, *, in_blocks: bool
) -> Tensor:
    """(row, H) hidden states of a row; the cache, if any, holds the nodes of row.path and gains the row's.

    Args:
        in_blocks: Hand the model our attention over the row's blocks, in place of a dense mask.
    """
    inputs: dict[str, Any] = {
        "input_ids": network.to_device(forest.tokens[row.begin : row.end])[None],
        "past_key_values": cache,
        "use_cache": cache is not None,
    }
    if row.is_chain and not in_blocks:
        return network.hidden(**inputs)[0]
    inputs["position_ids"] = network.to_device(forest.depths[row.begin : row.end])[None]
    if not in_blocks:
        mask = subtree_mask(forest, row, network.dtype, network.device)
        return network.hidden(**inputs, attention_mask=mask)[0]
    with attending(network, RowAttention(forest, row, network.device, network.dtype, network.scratch)):
        return network.hidden(**inputs)[0]


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values with room behind them: what is new is written there, and what is there stays.

    Tensors that were handed out show what is written later in their place.
    """

    def __init__(self, most: int = 0) -> None:
        """Room is made for so many tokens at once; on a CPU it costs memory only where it is written to."""
        super().__init__()
        self.most = most
        self.rooms: dict[str, Tensor] = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values (1, heads, T', width) with those of new tokens (1, heads, T, width) behind them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[..., :0, :], value_states[..., :0, :]
        self.keys = self._extended("keys", key_states)
        self.values = self._extended("values", value_states)
        return self.keys, self.values

    def _extended(self, name: str, states: Tensor) -> Tensor:
        held: Tensor = getattr(self, name)
        length = held.shape[-2]
        end = length + states.shape[-2]
        room = self.rooms.get(name)
        if room is None or room.shape[-2] < end:
            *shape, width = states.shape[:-2] + states.shape[-1:]
            size = self.most if end <= self.most else end + max(LEAST_ROOM, end // 8)
            room = apart(states, (*shape, size, width))
        if held.data_ptr() != room.data_ptr():
            room[..., :length, :] = held
        room[..., length:end, :] = states
        self.rooms[name] = room
        return room[..., :end, :]


def roomy_cache(most: int = 0) -> DynamicCache:
    """An empty cache whose layers grow in place, and need no more memory up to `most` tokens."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = partial(RoomyLayer, most)
    return cache


def carry(cache: DynamicCache, row: Row) -> DynamicCache:
    """Keep of the cache (nodes row.path, then the row's) what row.next_path names."""
    return keep_nodes(cache, np.concatenate([row.path, np.arange(row.begin, row.end)]), row.next_path)


def keep_nodes(cache: DynamicCache, nodes: Int, kept: Int) -> DynamicCache:
    """Keep of a cache that holds `nodes` those that are `kept`, at least one; both ascend."""
    index = np.searchsorted(nodes, kept)
    if index[-1] == len(index) - 1:  # a prefix of the cache: cut it, copy nothing
        cache.crop(len(index) - len(nodes))
        return cache
    for layer in cache.layers:
        chosen = torch.from_numpy(index).to(layer.keys.device)
        layer.keys = layer.keys.index_select(-2, chosen)
        layer.values = layer.values.index_select(-2, chosen)
    return cache


def passed_by(cache: DynamicCache | None, held: Int, row: Row) -> tuple[DynamicCache | None, Int]:
    """What is left of a cache, and of the nodes that it holds, behind a row that was not run."""
    kept = held[np.isin(held, row.next_path, assume_unique=True)]
    if cache is None or not len(kept):
        return None, kept
    return keep_nodes(cache, held, kept), kept


def rewind(cache: DynamicCache, length: int) -> DynamicCache:
    """A cache with its first `length` nodes alone; its layers keep their room."""
    for layer in cache.layers:
        if layer.is_initialized:  # not those that a forward which failed did not come to
            layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]
    return cache


def depends_on_length(config: Any) -> bool:
    """Whether the rotary base, and with it each score, depends on the length of the row a token stands in."""
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    return any(kind in ("dynamic", "longrope") for kind in (rope.get("rope_type"), rope.get("type")))


def packed_reach(config: Any) -> tuple[float, str | None]:
    """The longest window the packed path may serve, and why it may serve none.

    A sliding or local window shorter than a row, or a rotary base that depends on the row's length, would make a
    packed row differ from the same tokens alone in ways that the short requests of the proof cannot show.
    """
    text = config.get_text_config()
    if depends_on_length(config):
        return 0, "the rotary embedding depends on the length of the row"
    if "local" in str(getattr(text, "attention_types", "")):
        return 0, "some layers attend locally"
    spans = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
    return min((span for span in spans if isinstance(span, int) and span > 0), default=float("inf")), None
