"""Likelihoods of targets, and texts, from an encoder-decoder (T5, BART, Marian, mBART, NLLB).

A context is encoded once for all its targets, in every document that asks it, and so is what stands before each of
them: the decoder reads it into a key/value cache (of the encoder's states too) that the targets' rows take over. The
first token of every target is predicted from there, so targets of one token need no row of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from lmeval.engine.base import Scored, Usage, assemble, collect
from lmeval.engine.network import HiddenStates, Network, returning
from lmeval.engine.rows import release_memory
from lmeval.engine.targets import Pair, PairEncoder, Tokens, decoder_rules, language_tokens
from lmeval.engine.tokenization import Ids, TextEncoder
from lmeval.errors import ModelError
from lmeval.records import (
    GenerationOutput,
    GenerationRequest,
    ModelRecord,
    ScoreOutput,
    ScoreRequest,
    TokenizerRecord,
)

Int = NDArray[np.int64]

EMPTY_INPUT = "whole texts are scored as targets of an empty input"


class EncoderDecoder(Network):
    """An encoder-decoder's parts; the body is its decoder, whose head runs only at positions that are asked."""

    def _find_body(self) -> Any | None:
        """The decoder, if the rest of the model turns its hidden states into the model's logits."""
        self.encoder, self.decoder = self.model.get_encoder(), self.model.get_decoder()
        self.pad_id = int(self.model.config.pad_token_id or 0)
        vocabulary = int(self.model.config.vocab_size)
        ids = torch.arange(5, 12, device=self.device)[None] % vocabulary
        with torch.inference_mode():
            whole = self.model(input_ids=ids, decoder_input_ids=ids).logits.float()
            try:
                states = self.encode(ids, torch.ones_like(ids))
                hidden = self.decoder(input_ids=ids, encoder_hidden_states=states).last_hidden_state
                split = self._head(self.decoder, hidden[0]).float()
            except (AttributeError, TypeError, RuntimeError, ValueError):
                split = whole[0, :0]
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


@dataclass(slots=True)
class Entry:
    """A distinct context (with what stands before its targets) and its distinct targets.

    `slots[t]` lists, for each pair that asks target t, the slot of its first token.
    """

    source: Ids
    prefix: Tokens
    targets: list[Ids] = field(default_factory=list)
    slots: list[list[int]] = field(default_factory=list)
    known: dict[bytes, int] = field(default_factory=dict)

    def add(self, target: Ids, slot: int) -> None:
        """Ask a target."""
        number = self.known.setdefault(target.tobytes(), len(self.targets))
        if number == len(self.targets):
            self.targets.append(target)
            self.slots.append([])
        self.slots[number].append(slot)

    @property
    def num_tokens(self) -> int:
        """Tokens that the model has to read: the source, the prefix, and each target but its last token."""
        return len(self.source) + len(self.prefix) + sum(len(target) - 1 for target in self.targets)


def make_entries(pairs: Sequence[Pair]) -> list[Entry]:
    """The distinct contexts of some pairs; slots count the targets' tokens pair by pair."""
    entries: dict[tuple[bytes, Tokens], Entry] = {}
    slot = 0
    for pair in pairs:
        key = (pair.source.tobytes(), pair.prefix)
        entries.setdefault(key, Entry(pair.source, pair.prefix)).add(pair.target, slot)
        slot += len(pair.target)
    return list(entries.values())


@dataclass(slots=True)
class Queries:
    """Tokens whose log-probabilities are asked at positions of a batch of decoder outputs (B, T)."""

    width: int  # T
    cells: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    slots: list[list[int]] = field(default_factory=list)  # each token's: a target may be asked more than once

    def ask(self, line: int, position: int, token: int, slots: Sequence[int]) -> None:
        """Ask for the token that position `position` of row `line` predicts."""
        self.cells.append(line * self.width + position)
        self.tokens.append(int(token))
        self.slots.append(list(slots))


class Seq2SeqScorer:
    """Scores pairs with an encoder-decoder, in batches of contexts of about one length."""

    def __init__(self, network: EncoderDecoder, batch_tokens: int, usage: Usage) -> None:
        self.network, self.batch_tokens, self.usage = network, batch_tokens, usage

    def score(self, pairs: Sequence[Pair]) -> Iterator[Scored]:
        """Scores of the targets' tokens, part by part; slots number them pair by pair."""
        entries = make_entries(pairs)
        # contexts of one prefix are together, longest first
        entries.sort(key=lambda entry: (len(entry.prefix), entry.prefix, -len(entry.source)))
        self.usage.tokens_requested += sum(
            len(pair.source) + len(pair.prefix) + len(pair.target) - 1 for pair in pairs
        )
        self.usage.tokens_distinct += sum(entry.num_tokens for entry in entries)
        done = 0
        while done < len(entries):
            batch = self._next_batch(entries, done)
            try:
                parts = list(self._run_batch(batch))
            except torch.OutOfMemoryError:
                if self.batch_tokens == 1:
                    raise
                self.batch_tokens = max(1, min(self.batch_tokens, sum(e.num_tokens for e in batch)) // 2)
                release_memory()
                continue
            done += len(batch)
            yield from parts

    def _next_batch(self, entries: Sequence[Entry], done: int) -> Sequence[Entry]:
        first = entries[done]
        size = max(1, self.batch_tokens // len(first.source))
        batch = entries[done : done + size]
        return [entry for entry in batch if len(entry.prefix) == len(first.prefix)]

    @torch.inference_mode()
    def _run_batch(self, batch: Sequence[Entry]) -> Iterator[Scored]:
        network = self.network
        states, seen = network.read_sources([entry.source for entry in batch])
        cache = new_cache()
        prefixes = network.to_device(np.array([entry.prefix for entry in batch], dtype=np.int64))
        hidden = network.hidden(
            input_ids=prefixes,
            encoder_hidden_states=states,
            encoder_attention_mask=seen,
            past_key_values=cache,
            use_cache=True,
        )
        self.usage.tokens_computed += seen.numel() + prefixes.numel()
        first = Queries(1)
        rows: list[tuple[int, Ids, list[int]]] = []  # entry's line, target, slots of its first token
        for line, entry in enumerate(batch):
            for target, slots in zip(entry.targets, entry.slots, strict=True):
                first.ask(line, 0, target[0], slots)
                if len(target) > 1:
                    rows.append((line, target, slots))
        yield self._read(hidden[:, -1:], first)
        rows.sort(key=lambda row: len(row[1]), reverse=True)
        done = 0
        while done < len(rows):
            # a row costs its own tokens, and the encoder's states that it looks at
            cost = max(len(rows[done][1]) - 1, states.shape[1])
            chosen = rows[done : done + max(1, self.batch_tokens // cost)]
            yield self._run_targets(chosen, states, seen, cache)
            done += len(chosen)

    def _run_targets(
        self,
        rows: Sequence[tuple[int, Ids, list[int]]],
        states: Tensor,
        seen: Tensor,
        cache: EncoderDecoderCache,
    ) -> Scored:
        """Score the tokens behind the first of some targets, each on the cached row of its context."""
        network = self.network
        lines = network.to_device(np.array([line for line, _, _ in rows], dtype=np.int64))
        # right padding needs no mask: causal attention never looks there
        ids, _ = padded([target[:-1] for _, target, _ in rows], network.pad_id)
        hidden = network.hidden(
            input_ids=network.to_device(ids),
            encoder_hidden_states=states[lines],
            encoder_attention_mask=seen[lines],
            past_key_values=select_rows(cache, lines),
            use_cache=True,
        )
        self.usage.tokens_computed += ids.size
        queries = Queries(ids.shape[1])
        for row, (_, target, slots) in enumerate(rows):
            for position, token in enumerate(target[1:]):
                queries.ask(row, position, token, [slot + position + 1 for slot in slots])
        return self._read(hidden, queries)

    def _read(self, hidden: Tensor, queries: Queries) -> Scored:
        cells = np.array(queries.cells, dtype=np.int64)
        order = np.argsort(cells, kind="stable")
        positions, query = np.unique(cells[order], return_inverse=True)
        tokens = np.array(queries.tokens, dtype=np.int64)[order]
        values, greedy = self.network.score_positions(hidden.flatten(0, 1), positions, query, tokens)
        asked = [queries.slots[number] for number in order]
        times = np.array([len(slots) for slots in asked])
        return (
            np.array([slot for slots in asked for slot in slots], dtype=np.int64),
            np.repeat(values.double().cpu().numpy(), times),
            np.repeat(greedy.cpu().numpy(), times),
        )


class Seq2SeqEngine:
    """An encoder-decoder: likelihoods of targets given contexts, and generation. See base.Engine."""

    def __init__(
        self,
        network: EncoderDecoder,
        encoder: TextEncoder,
        record: ModelRecord,
        *,
        max_length: int,
        target_length: int,
        batch_tokens: int,
    ) -> None:
        self.network, self.encoder, self.model = network, encoder, record
        self.tokenizer: TokenizerRecord = encoder.record()
        self.device = str(network.device)
        self.versions = network.versions
        self.peak_memory_bytes = network.peak_memory_bytes
        self.max_length = max_length
        self.usage = Usage(note="contexts are encoded once for all their targets")
        rules = decoder_rules(network.model, language_tokens(encoder.hf), encoder.hf)
        self.pairs = PairEncoder(encoder, rules, source_window=max_length, target_window=target_length)
        self.scorer = Seq2SeqScorer(network, batch_tokens, self.usage)

    @property
    def batch_tokens(self) -> int:
        """The token budget of a batch; smaller than asked for after the device ran out of memory."""
        return self.scorer.batch_tokens

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreOutput]]:
        """Log-likelihoods, each request's as soon as its last token is scored."""
        pairs = collect(self.pairs.pairs(requests))
        if any(request.whole_text for request in requests):
            self._note(EMPTY_INPUT)
        sizes = [len(pair.target) for pair in pairs]
        yield from assemble(self.scorer.score(pairs), sizes, [pair.truncated for pair in pairs], self.usage)

    def _note(self, text: str) -> None:
        if text not in (self.usage.note or ""):
            self.usage.note = f"{self.usage.note}; {text}" if self.usage.note else text

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, GenerationOutput]]:
        """Continuations."""
        raise NotImplementedError
