"""The floating-point operations that a set of requests needs at the least, for Llama shapes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shape:
    """The matrix products of one token: (inputs, outputs) of each linear map in a layer, and of the head."""

    layer: tuple[tuple[int, int], ...]
    head: tuple[int, int]
    num_layers: int
    attention_width: int  # query heads x head size

    @classmethod
    def of(cls, folder: Path) -> Shape:
        """The shape that a folder's config.json describes."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        hidden, inner, heads = (
            config["hidden_size"],
            config["intermediate_size"],
            config["num_attention_heads"],
        )
        size = config.get("head_dim") or hidden // heads
        query, keys = heads * size, (config.get("num_key_value_heads") or heads) * size
        layer = ((hidden, query), (hidden, keys), (hidden, keys), (query, hidden))
        mlp = ((hidden, inner), (hidden, inner), (inner, hidden))
        return cls(layer + mlp, (hidden, config["vocab_size"]), config["num_hidden_layers"], query)


@dataclass(frozen=True)
class LeastWork:
    """What has to go through a model that computes nothing twice."""

    tokens_requested: int
    tokens_distinct: int  # distinct prefixes
    keys_attended: int  # summed over distinct tokens
    positions_scored: int  # distinct prefixes after which some request's token is scored

    def flops(self, shape: Shape) -> float:
        """Two operations for each multiply and add."""
        body = shape.num_layers * sum(inputs * outputs for inputs, outputs in shape.layer)
        head = shape.head[0] * shape.head[1]
        attention = 2 * shape.num_layers * shape.attention_width * self.keys_attended  # scores, then values
        return 2.0 * (body * self.tokens_distinct + head * self.positions_scored + attention)


def least_work(requests: Iterable[tuple[list[int], list[int]]]) -> LeastWork:
    """From (context, continuation) pairs, by a running hash of prefixes; the last token is not an input."""
    depth_of: dict[int, int] = {}
    scored: set[int] = set()
    requested = 0
    for context, continuation in requests:
        prefix = 0
        inputs = (context + continuation)[:-1]
        requested += len(inputs)
        for depth, token in enumerate(inputs, start=1):
            prefix = hash((prefix, token))
            depth_of[prefix] = depth
            if depth >= len(context):
                scored.add(prefix)
    return LeastWork(requested, len(depth_of), sum(depth_of.values()), len(scored))
