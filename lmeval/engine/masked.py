"""Pseudo-log-likelihoods from a masked model: one copy of the text per scored token, that token masked.

`original` (Salazar et al. 2020) masks the scored token alone; `within_word_l2r` (Kauf & Ivanova 2023), the default,
also the later tokens of its word; `whole_word` the whole word. A target inside a context (cloze, choices) is masked
as a span and revealed left to right, its right context kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from lmeval.engine.base import Costs, Scored, Usage, Work, collect, known
from lmeval.engine.chosen import Mask, chosen_mask
from lmeval.engine.masked_spans import Span, masked_spans
from lmeval.engine.memory import attempt
from lmeval.engine.network import Network
from lmeval.engine.parts import ScorePlan, Units, batch_units
from lmeval.engine.pieces import Pieces, num_alternatives
from lmeval.engine.tokenization import TextEncoder
from lmeval.engine.work import measure_work
from lmeval.errors import ModelError
from lmeval.records import (
    PLL_VARIANTS,
    GenerationOutput,
    GenerationRequest,
    ModelRecord,
    ScoreOutput,
    ScoreRequest,
    TokenizerRecord,
)

Int = NDArray[np.int64]

REVEALED = "revealed"  # a target inside its context: masked as a span, then shown from left to right


@dataclass(frozen=True, slots=True)
class Copies:
    """The distinct masked copies of some spans, and the scored tokens that are read off each.

    Slot s, a scored token, is number `offset[s]` of what `spans[span[s]]` scores, and is read off copy `copy[s]`.
    A copy is known by one of its slots, `made_for`: its tokens are put together when it is run, so that copies cost
    some bytes each, however long their texts are.
    """

    spans: Sequence[Span]
    variants: Sequence[str]  # of each span: one of PLL_VARIANTS, or REVEALED
    span: Int  # (S,)
    offset: Int  # (S,)
    copy: Int  # (S,)
    made_for: Int  # (C,)

    def hidden(self, slot: int) -> Int:
        """The positions masked in the copy that scores a slot."""
        span = int(self.span[slot])
        return hidden_positions(self.spans[span], int(self.offset[slot]), self.variants[span])

    def tokens(self, copy: int, mask_id: int) -> Int:
        """A copy as the model reads it."""
        slot = int(self.made_for[copy])
        ids: Int = self.spans[self.span[slot]].ids.astype(np.int64)
        ids[self.hidden(slot)] = mask_id
        return ids

    def query(self, slot: int) -> tuple[int, int]:
        """The position of a slot's token, and the token that stood there."""
        span = self.spans[self.span[slot]]
        position = int(span.scored[self.offset[slot]])
        return position, int(span.ids[position])

    def lengths(self) -> Int:
        """Tokens of each copy, (C,)."""
        return np.array([len(span.ids) for span in self.spans], dtype=np.int64)[self.span[self.made_for]]

    def slots(self) -> list[Int]:
        """The slots of each copy."""
        by_copy = np.argsort(self.copy, kind="stable")
        return np.split(by_copy, np.cumsum(np.bincount(self.copy, minlength=len(self.made_for)))[:-1])


def hidden_positions(span: Span, offset: int, variant: str) -> Int:
    """The positions masked in the copy that scores `span.scored[offset]`."""
    if variant == REVEALED:
        return span.scored[offset:]
    position = span.scored[offset]
    if variant == "original" or span.words[position] < 0:
        return np.array([position])
    same_word = np.flatnonzero(span.words == span.words[position])
    return same_word if variant == "whole_word" else same_word[same_word >= position]


def make_copies(spans: Sequence[Span], variants: Sequence[str], mask_id: int) -> Copies:
    """The copies that score every span; slots count the scored positions span by span. Equal copies are one."""
    sizes = [len(span.scored) for span in spans]
    span = np.repeat(np.arange(len(spans)), sizes)
    offset = np.concatenate([np.arange(size) for size in sizes]) if sizes else np.empty(0, dtype=np.int64)
    copies = Copies(spans, variants, span, offset, np.empty(len(span), np.int64), np.arange(len(span)))
    known: dict[bytes, int] = {}
    made_for: list[int] = []
    for slot in range(len(span)):
        tokens = copies.tokens(slot, mask_id)  # as yet each slot has a copy of its own
        copy = known.setdefault(hashlib.blake2b(tokens.tobytes(), digest_size=16).digest(), len(made_for))
        if copy == len(made_for):
            made_for.append(slot)
        copies.copy[slot] = copy
    return replace(copies, made_for=np.array(made_for, dtype=np.int64))


def next_batch(lengths: Int, done: int, budget: int) -> int:
    """Where a batch that begins at `done` ends; `lengths` (C,) descend.

    Copies of one length need neither padding nor a mask, so a batch ends where the length changes if it is half
    full by then.
    """
    size = max(1, budget // int(lengths[done]))
    end = min(done + size, len(lengths))
    same = int(np.searchsorted(-lengths[done:end], -lengths[done], side="right"))
    return done + same if 2 * same >= size else end


def _costs(copies: Copies, sizes: Sequence[int]) -> Costs:
    """What each request's copies count for; one that several ask is distinct for the first."""
    owner, lengths = np.repeat(np.arange(len(sizes)), sizes), copies.lengths()
    requested, distinct = (np.zeros(len(sizes), dtype=np.int64) for _ in range(2))
    np.add.at(requested, owner, lengths[copies.copy])
    np.add.at(distinct, owner[copies.made_for], lengths)
    return Costs(requested, distinct)


class MaskedEngine:
    """A masked model: likelihoods of targets and pseudo-log-likelihoods of texts. See base.Engine."""

    def __init__(
        self,
        network: Network,
        encoder: TextEncoder,
        record: ModelRecord,
        *,
        max_length: int,
        batch_tokens: int,
    ) -> None:
        self.network, self.encoder, self.model = network, encoder, record
        self.tokenizer: TokenizerRecord = encoder.record()
        self.device = str(network.device)
        self.versions = network.versions
        self.peak_memory_bytes = network.peak_memory_bytes
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.variant = record.pll or PLL_VARIANTS[0]  # of requests that name none
        self.pieces = Pieces(encoder)
        self.usage = Usage(note="masked models run a copy per scored token")

    def score(
        self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, ScoreOutput]]:
        """Log-likelihoods, each request's as soon as its last copy is scored."""
        yield from self.plan_scores(requests).ask(self.usage, chosen_mask(only, len(requests)))

    def plan_scores(self, requests: Sequence[ScoreRequest]) -> ScorePlan:
        """The requests' spans and their copies; see parts."""
        asked = [(r.pll or self.variant) if r.whole_text else REVEALED for r in requests]
        read = masked_spans(requests, self.encoder, self.max_length, asked)
        spans = collect(known(read, self.encoder, lambda own: [span.ids for span in own]))
        flat = [span for own in spans for span in own]
        variants = [variant for variant, own in zip(asked, spans, strict=True) for _ in own]
        assert self.encoder.mask_id is not None
        copies = make_copies(flat, variants, self.encoder.mask_id)
        sizes, top = [sum(len(span.scored) for span in own) for own in spans], num_alternatives(requests)
        return ScorePlan(
            sizes=sizes,
            truncated=[any(span.truncated for span in own) for own in spans],
            ranked=[r.rank for r in requests],
            costs=_costs(copies, sizes),
            kept=self.pieces.keep_spans(requests, spans),
            run=lambda wanted: self._run(copies, wanted, top),
            units=lambda: self._units(copies),
        )

    def _units(self, copies: Copies) -> Units:
        lengths, slots = copies.lengths(), copies.slots()
        order = np.argsort(-lengths, kind="stable")
        lengths, done, batches = lengths[order], 0, []
        while done < len(order):
            end = next_batch(lengths, done, self.batch_tokens)
            own = np.concatenate([slots[copy] for copy in order[done:end].tolist()])
            batches.append((own, (end - done) * int(lengths[done])))
            done = end
        return batch_units(len(copies.copy), batches)

    def work(self) -> Work | None:
        """See base.Engine."""
        return measure_work(self.network, self.usage, self.batch_tokens)

    def generate(
        self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """Not what a masked model can do.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            "a masked model does not write text",
            where=self.model.id,
            fix="use a causal or seq2seq model for tasks that generate",
        )

    def _run(self, copies: Copies, wanted: Mask, top: int = 0) -> Iterator[Scored]:
        """Batches of copies, longest first, so that those of a batch are of about one length.

        A batch is run where one of its slots is `wanted` (S,).
        """
        lengths, slots = copies.lengths(), copies.slots()
        asked = np.zeros(len(lengths), dtype=bool)
        asked[copies.copy[wanted]] = True
        order = np.argsort(-lengths, kind="stable")
        lengths, asked, done = lengths[order], asked[order], 0
        self.usage.tokens_planned += self._planned(lengths, asked)
        while done < len(order):
            end = next_batch(lengths, done, self.batch_tokens)
            if not asked[done:end].any():
                done = end
                continue
            width, batch = int(lengths[done]), order[done:end].tolist()
            scored = attempt(
                partial(self._run_batch, copies, batch, [slots[copy] for copy in batch], width, top),
                partial(self._halve_batch, len(batch), width),
            )
            if scored is None:
                continue
            yield scored
            done = end

    def _halve_batch(self, count: int, width: int) -> bool:
        if count == 1:  # a text alone is not cut: what is left to lower is what its head takes
            return self.network.halve_head()
        self.batch_tokens = max(1, count * width // 2)
        return True

    def _planned(self, lengths: Int, asked: Mask) -> int:
        """Tokens of the batches that will run, padding included."""
        tokens = done = 0
        while done < len(lengths):
            end = next_batch(lengths, done, self.batch_tokens)
            tokens += (end - done) * int(lengths[done]) if asked[done:end].any() else 0
            done = end
        return tokens

    @torch.inference_mode()
    def _run_batch(
        self, copies: Copies, batch: Sequence[int], slots: Sequence[Int], width: int, top: int
    ) -> Scored:
        """Run copies of at most `width` tokens, and read off each the tokens of its slots."""
        mask_id = self.encoder.mask_id
        assert mask_id is not None
        rows = [copies.tokens(copy, mask_id) for copy in batch]
        tokens = np.full((len(batch), width), self.encoder.pad_id, dtype=np.int64)
        for line, row in enumerate(rows):
            tokens[line, : len(row)] = row
        self.usage.tokens_computed += tokens.size
        inputs = {"input_ids": self.network.to_device(tokens)}
        if len(rows[-1]) < width:
            seen = np.arange(width) < np.array([[len(row)] for row in rows])
            inputs["attention_mask"] = self.network.to_device(seen.astype(np.int64))
        asked = [(line * width, slot) for line, own in enumerate(slots) for slot in own.tolist()]
        queries = np.array([(first, *copies.query(slot)) for first, slot in asked], dtype=np.int64)
        cells = queries[:, 0] + queries[:, 1]
        order = np.argsort(cells, kind="stable")
        positions, query = np.unique(cells[order], return_inverse=True)
        picked = self.network.score_cells(inputs, positions, query, queries[order, 2], top)
        return picked.read_back(np.concatenate(slots)[order])
