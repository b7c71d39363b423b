"""A model of encoder and decoder split into its parts: the encoder, the decoder, and the head behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from lmeval.engine.memory import reraise_fault
from lmeval.engine.network import HiddenStates, Network, returning
from lmeval.engine.tokenization import Ids
from lmeval.errors import NOT_FINITE, ModelError, NumericError

Int = NDArray[np.int64]


class EncoderDecoder(Network):
    """An encoder-decoder's parts; the body is its decoder, whose head runs only at positions that are asked."""

    def _find_body(self) -> Any | None:
        """The decoder, if the rest of the model turns its hidden states into the model's logits."""
        self.encoder, self.decoder = self.model.get_encoder(), self.model.get_decoder()
        self.pad_id = int(self.model.config.pad_token_id or 0)
        ids = torch.arange(5, 12, device=self.device)[None]
        with torch.inference_mode():
            whole = self.model(input_ids=ids, decoder_input_ids=ids).logits.float()
            try:
                states = self.encode(ids, torch.ones_like(ids))
                hidden = self.decoder(input_ids=ids, encoder_hidden_states=states).last_hidden_state
                split = self._head(self.decoder, hidden[0]).float()
            except (AttributeError, TypeError, RuntimeError, ValueError) as error:
                reraise_fault(error)
                split = whole[0, :0]
            else:
                self.vocabulary, self.width = whole.shape[-1], states.shape[-1]
        if not whole.isfinite().all():
            raise NumericError(
                f"{type(self.model).__name__} gives logits that are no numbers", fix=NOT_FINITE
            )
        tolerance = 1e-4 if self.dtype == torch.float32 else 5e-2
        if split.shape == whole[0].shape and torch.allclose(split, whole[0], tolerance, tolerance):
            return self.decoder
        raise ModelError(f"{type(self.model).__name__} is no encoder-decoder whose decoder can run by itself")

    def _head(self, body: Any, hidden: Tensor) -> Tensor:
        states = HiddenStates(last_hidden_state=hidden[None])  # not looked at: the decoder is not run
        with returning(body, HiddenStates(last_hidden_state=hidden[None])):
            ids = torch.zeros((1, hidden.shape[0]), dtype=torch.long, device=hidden.device)
            logits: Tensor = self.model(encoder_outputs=states, decoder_input_ids=ids).logits
        return logits[0]

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The encoder's states (B, S, H) of sources (B, S)."""
        states: Tensor = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states

    def read_sources(self, sources: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """Sources, right-padded, through the encoder: states (B, S, H) and mask (B, S)."""
        ids, mask = padded(sources, self.pad_id)
        seen = self.to_device(mask)
        return self.encode(self.to_device(ids), seen), seen


def padded(rows: Sequence[Ids], pad_id: int) -> tuple[Int, Int]:
    """Rows of ids as (B, T), right-padded, and 1 where a token stands."""
    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for line, row in enumerate(rows):
        ids[line, : len(row)], mask[line, : len(row)] = row, 1
    return ids, mask


def new_cache() -> EncoderDecoderCache:
    """An empty key/value cache of a decoder: of its own tokens, and of the encoder's states."""
    return EncoderDecoderCache(DynamicCache(), DynamicCache())


def select_rows(cache: EncoderDecoderCache, lines: Tensor) -> EncoderDecoderCache:
    """A new cache that holds the rows `lines` of another, each as often as it is named."""
    halves = (cache.self_attention_cache, cache.cross_attention_cache)
    return EncoderDecoderCache(
        *(
            DynamicCache([(layer.keys[lines], layer.values[lines]) for layer in half.layers])
            for half in halves
        )
    )
