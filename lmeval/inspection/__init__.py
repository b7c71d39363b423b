"""One text as a model reads it: each token's surprisal, and what it attends to.

Surprisal is what `lmeval run` scores a text by: of a causal model given the tokens before it (in windows where the
text is longer than the model's), of a masked one with the token masked, as --pll says.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.sources import ModelOptions
from lmeval.errors import ModelError, UsageError
from lmeval.listener import Listener
from lmeval.records import ModelRecord, ScoreRequest, TokenScore
from lmeval.run import find, load

KINDS = ("causal", "masked")
SHOWN_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class Attention:
    """What the tokens of a text attend to in one layer."""

    layer: int
    head: int | None  # None: the mean of all
    num_layers: int
    num_heads: int
    tokens: tuple[str, ...]  # special tokens too
    weights: NDArray[np.float64]  # (T, T): row t are the shares of what token t looks at

    def strongest(self, token: int, num: int) -> list[tuple[int, float]]:
        """The tokens that one looks at most, with their shares, those of half a per cent and more."""
        row = self.weights[token]
        order = np.argsort(-row, kind="stable")[:num]
        return [(int(place), float(row[place])) for place in order if row[place] >= SHOWN_SHARE]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A text and what a model makes of it."""

    model: ModelRecord
    text: str
    tokens: tuple[TokenScore, ...]
    attention: Attention | None = None

    @property
    def nats(self) -> float:
        """The text's whole surprisal."""
        return -sum(token.logprob for token in self.tokens)

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the text."""
        return len(self.text.encode("utf-8"))

    @property
    def bits_per_byte(self) -> float:
        """Surprisal per byte."""
        return self.nats / math.log(2) / self.num_bytes

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        attention = None
        if self.attention is not None:
            found = self.attention
            attention = {
                "layer": found.layer,
                "head": found.head,
                "num_layers": found.num_layers,
                "num_heads": found.num_heads,
                "tokens": list(found.tokens),
                "weights": found.weights.tolist(),
            }
        return {
            "model": asdict(self.model),
            "text": self.text,
            "nats": self.nats,
            "bits_per_byte": self.bits_per_byte,
            "tokens": [asdict(token) for token in self.tokens],
            "attention": attention,
        }


def inspect_text(
    options: ModelOptions, text: str, listener: Listener, *, layer: int | None = None, head: int | None = None
) -> Inspection:
    """Load a model and have it read a text.

    Raises:
        LmevalError: The model cannot be had or is of a kind that reads no text of its own, the text has no tokens,
            or there is no such layer or head.
    """
    if head is not None and layer is None:
        raise UsageError("--head is one of a layer's", fix="give --layer, too")
    found = find(options)
    if found.kind not in KINDS:
        raise ModelError(
            f"{options.model} is a {found.kind} model, and `lmeval inspect` reads a text by itself",
            fix=f"use a {' or '.join(KINDS)} model; `lmeval run --save-tokens` keeps tokens of targets, too",
        )
    _check_layer(found.config, layer, head, options.model)
    engine = load(found, listener)
    request = ScoreRequest("", text, whole_text=True, keep_tokens=True)
    ((_, output),) = engine.score([request])
    assert output.tokens is not None
    attention = None
    if layer is not None:
        from lmeval.engine.attended import attended

        names, weights, layers, heads = attended(engine, text, layer, head)  # type: ignore[arg-type]
        attention = Attention(layer, head, layers, heads, tuple(names), weights)
    return Inspection(engine.model, text, output.tokens, attention)


def _check_layer(config: Any, layer: int | None, head: int | None, model: str) -> None:
    """Refuse before weights are read what the configuration shows not to be there."""
    from lmeval.engine.attended import check_place

    text = None if config is None else config.get_text_config()
    for what, asked, key in (("layer", layer, "num_hidden_layers"), ("head", head, "num_attention_heads")):
        there = getattr(text, key, None)
        if asked is not None and isinstance(there, int):
            check_place(what, asked, there, model)
