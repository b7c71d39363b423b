"""What a packed row needs on the device: its mask, its key/value cache, and whether a model can take it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from lmeval.engine.attention import RowAttention, attending
from lmeval.engine.network import Network
from lmeval.engine.plan import Forest, Row

Int = NDArray[np.int64]


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
    with attending(network, RowAttention(forest, row, network.device)):
        return network.hidden(**inputs)[0]


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


def rewind(cache: DynamicCache | None, length: int) -> DynamicCache | None:
    """A cache whose layers a forward that failed may have grown, with its first `length` nodes alone."""
    if cache is None or not length:
        return None
    for layer in cache.layers:
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
