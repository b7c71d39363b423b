"""Likelihoods of targets, and generation, with an encoder-decoder (T5, BART, Marian, mBART, NLLB).

A context is encoded once for all its targets, in every document that asks it, and so is what stands before each of
them: the decoder reads it into a key/value cache (of the encoder's states too) that the targets' rows take over. The
first token of every target is predicted from there, so targets of one token need no row of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import EncoderDecoderCache

from lmeval.engine.base import Costs, Scored, Stopwatch, Usage, Work, collect, known, renumbered
from lmeval.engine.beam import Prompt, Searcher
from lmeval.engine.chosen import Mask, chosen_mask, positions
from lmeval.engine.decode import MAX_ROWS, MAX_ROWS_ACCELERATOR, Decoder, eos_token_ids
from lmeval.engine.encoder_decoder import EncoderDecoder, new_cache, padded, select_rows
from lmeval.engine.memory import attempt
from lmeval.engine.parts import LastPlan, ScorePlan, Units, batch_units, text_units
from lmeval.engine.pieces import Pieces, num_alternatives, target_texts
from lmeval.engine.seq2seq_rows import ProcessorsOf, Seq2SeqRows, position_table, prove
from lmeval.engine.targets import Pair, PairEncoder, SourcePrompt, Tokens, decoder_rules, language_tokens
from lmeval.engine.tokenization import Ids, TextEncoder, Window
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

    def add(self, target: Ids, slot: int) -> bool:
        """Ask a target; whether it is a new one."""
        number = self.known.setdefault(target.tobytes(), len(self.targets))
        if number == len(self.targets):
            self.targets.append(target)
            self.slots.append([])
        self.slots[number].append(slot)
        return len(self.slots[number]) == 1

    @property
    def num_tokens(self) -> int:
        """Tokens that the model has to read: the source, the prefix, and each target but its last token."""
        return len(self.source) + len(self.prefix) + sum(len(target) - 1 for target in self.targets)

    def all_slots(self) -> Iterator[int]:
        """The slots of all tokens of its targets."""
        for target, slots in zip(self.targets, self.slots, strict=True):
            for first in slots:
                yield from range(first, first + len(target))

    def is_asked(self, wanted: Mask) -> bool:
        """Whether one of its targets is, if of the slots (S,) those in `wanted` are: all of a target's, or none."""
        return any(wanted[slots].any() for slots in self.slots)


def make_entries(pairs: Sequence[Pair]) -> tuple[list[Entry], Costs]:
    """The distinct contexts of some pairs, and what each pair counts for.

    Slots count the targets' tokens pair by pair.
    """
    entries: dict[tuple[bytes, Tokens], Entry] = {}
    slot = 0
    requested, distinct = (np.zeros(len(pairs), dtype=np.int64) for _ in range(2))
    for number, pair in enumerate(pairs):
        key = (pair.source.tobytes(), pair.prefix)
        read = len(pair.source) + len(pair.prefix)
        if key not in entries:
            entries[key] = Entry(pair.source, pair.prefix)
            distinct[number] = read
        if entries[key].add(pair.target, slot):
            distinct[number] += len(pair.target) - 1
        slot += len(pair.target)
        requested[number] = read + len(pair.target) - 1
    return list(entries.values()), Costs(requested, distinct)


def _in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Contexts of one prefix together, longest first."""
    return sorted(entries, key=lambda entry: (len(entry.prefix), entry.prefix, -len(entry.source)))


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

    def score(self, entries: Sequence[Entry], wanted: Mask, top: int = 0) -> Iterator[Scored]:
        """Scores of the targets' tokens, part by part. For `top` see Network.

        Batches are run that hold a slot that is `wanted` (S,).
        """
        entries = _in_order(entries)
        self.usage.tokens_planned += self._planned(entries, wanted)
        done = 0
        while done < len(entries):
            batch = self._next_batch(entries, done)
            if not any(entry.is_asked(wanted) for entry in batch):
                done += len(batch)
                continue
            parts = attempt(partial(self._parts_of, batch, top), partial(self._halve_batch, batch))
            if parts is None:
                continue
            done += len(batch)
            yield from parts

    def _parts_of(self, batch: Sequence[Entry], top: int) -> list[Scored]:
        return list(self._run_batch(batch, top))

    def _halve_batch(self, batch: Sequence[Entry]) -> bool:
        if self.batch_tokens == 1:
            return self.network.halve_head()
        self.batch_tokens = max(1, min(self.batch_tokens, sum(entry.num_tokens for entry in batch)) // 2)
        return True

    def units(self, entries: Sequence[Entry]) -> Units:
        """The batches of contexts, and the scored tokens of each."""
        entries, done, batches = _in_order(entries), 0, []
        while done < len(entries):
            batch = self._next_batch(entries, done)
            own = [slot for entry in batch for slot in entry.all_slots()]
            batches.append((own, sum(entry.num_tokens for entry in batch)))
            done += len(batch)
        return batch_units(sum(len(own) for own, _ in batches), batches)

    def _next_batch(self, entries: Sequence[Entry], done: int) -> Sequence[Entry]:
        first = entries[done]
        size = max(1, self.batch_tokens // len(first.source))
        batch = entries[done : done + size]
        return [entry for entry in batch if len(entry.prefix) == len(first.prefix)]

    def _planned(self, entries: Sequence[Entry], wanted: Mask) -> int:
        """Tokens of the batches that will run, padding included."""
        tokens = done = 0
        while done < len(entries):
            batch = self._next_batch(entries, done)
            if any(entry.is_asked(wanted) for entry in batch):
                width = max(len(entry.source) for entry in batch)
                tokens += len(batch) * (width + len(batch[0].prefix))
                targets = (len(target) for entry in batch for target in entry.targets if len(target) > 1)
                lengths = sorted(targets, reverse=True)
                while lengths:
                    rows = self._num_rows(lengths[0], width)
                    tokens += len(lengths[:rows]) * (lengths[0] - 1)
                    lengths = lengths[rows:]
            done += len(batch)
        return tokens

    def _num_rows(self, target: int, width: int) -> int:
        """Targets run at once: a row costs its own tokens, and the encoder's states that it looks at."""
        return max(1, self.batch_tokens // max(target - 1, width))

    @torch.inference_mode()
    def _run_batch(self, batch: Sequence[Entry], top: int) -> Iterator[Scored]:
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
        yield self._read(hidden[:, -1:], first, top)
        rows.sort(key=lambda row: len(row[1]), reverse=True)
        done = 0
        while done < len(rows):
            chosen = rows[done : done + self._num_rows(len(rows[done][1]), states.shape[1])]
            yield self._run_targets(chosen, states, seen, cache, top)
            done += len(chosen)

    def _run_targets(
        self,
        rows: Sequence[tuple[int, Ids, list[int]]],
        states: Tensor,
        seen: Tensor,
        cache: EncoderDecoderCache,
        top: int,
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
        return self._read(hidden, queries, top)

    def _read(self, hidden: Tensor, queries: Queries, top: int) -> Scored:
        cells = np.array(queries.cells, dtype=np.int64)
        order = np.argsort(cells, kind="stable")
        positions, query = np.unique(cells[order], return_inverse=True)
        tokens = np.array(queries.tokens, dtype=np.int64)[order]
        picked = self.network.score_positions(hidden.flatten(0, 1), positions, query, tokens, top)
        asked = [queries.slots[number] for number in order]
        times = np.array([len(slots) for slots in asked])
        slots = np.array([slot for slots in asked for slot in slots], dtype=np.int64)
        read = picked.read_back(slots)._asdict().items()
        repeated = {
            key: np.repeat(value, times, axis=0)
            for key, value in read
            if key != "slots" and value is not None
        }
        return Scored(slots, **repeated)


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
        self.usage = Usage()
        self.pieces = Pieces(encoder)
        rules = decoder_rules(network.model, language_tokens(encoder.hf), encoder.hf)
        self.pairs = PairEncoder(encoder, rules, source_window=max_length, target_window=target_length)
        self.scorer = Seq2SeqScorer(network, batch_tokens, self.usage)
        self._prompts: LastPlan[tuple[list[SourcePrompt], set[int]]] = LastPlan()

    @property
    def batch_tokens(self) -> int:
        """The token budget of a batch; smaller than asked for after the device ran out of memory."""
        return self.scorer.batch_tokens

    def work(self) -> Work | None:
        """None: tokens of encoder and decoder are counted together, and each pass has its own maps."""
        return None

    def score(
        self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, ScoreOutput]]:
        """Log-likelihoods, each request's as soon as its last token is scored."""
        yield from self.plan_scores(requests).ask(self.usage, chosen_mask(only, len(requests)))

    def plan_scores(self, requests: Sequence[ScoreRequest]) -> ScorePlan:
        """The requests' contexts and targets; see parts."""
        encoded = self.pairs.pairs(requests)
        pairs = collect(known(encoded, self.encoder, self._ids_of))
        if any(request.whole_text for request in requests):
            self._note(EMPTY_INPUT)
        entries, costs = make_entries(pairs)
        top = num_alternatives(requests)
        return ScorePlan(
            sizes=[len(pair.target) for pair in pairs],
            truncated=[pair.truncated for pair in pairs],
            ranked=[r.rank for r in requests],
            costs=costs,
            kept=self.pieces.keep(target_texts(requests)),
            run=lambda wanted: self.scorer.score(entries, wanted, top),
            units=lambda: self.scorer.units(entries),
        )

    def _ids_of(self, pair: Pair) -> list[Ids]:
        """What of a pair goes through the encoder's embeddings; Marian may have others for targets."""
        shares = getattr(self.network.model.config, "share_encoder_decoder_embeddings", True)
        return [pair.source, pair.target] if shares else [pair.source]

    def _note(self, text: str) -> None:
        if text not in (self.usage.note or ""):
            self.usage.note = f"{self.usage.note}; {text}" if self.usage.note else text

    def generate(
        self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """Continuations of the decoder's start, greedy, drawn or searched for."""
        prompts, makers = self._prompts.of(requests, lambda: self._plan_prompts(requests))
        watch = Stopwatch()
        for index, output in watch.time(self._write(requests, prompts, only)):
            seconds = watch.lap()
            self.usage.seconds_model += seconds
            self.usage.seconds_generating += seconds
            written = len(prompts[index].start) + output.num_tokens - 1
            self.usage.tokens_requested += len(prompts[index].source) + written
            self.usage.tokens_distinct += written + (len(prompts[index].source) if index in makers else 0)
            # the space that a language's token or a tokenizer leaves before the first word
            yield index, replace(output, text=output.text.lstrip())

    def _plan_prompts(self, requests: Sequence[GenerationRequest]) -> tuple[list[SourcePrompt], set[int]]:
        """The prompts, and of each distinct source the first that has it."""
        prompts = collect(known(self.pairs.prompts(requests), self.encoder, lambda prompt: [prompt.source]))
        first: dict[bytes, int] = {}
        for number, prompt in enumerate(prompts):
            first.setdefault(prompt.source.tobytes(), number)
        return prompts, set(first.values())

    def write_units(self, requests: Sequence[GenerationRequest]) -> Units:
        """Sources as units."""
        prompts, _ = self._prompts.of(requests, lambda: self._plan_prompts(requests))
        sources = [prompt.source for prompt in prompts]
        return text_units(sources, np.array([len(source) for source in sources]), requests)

    def _write(
        self,
        requests: Sequence[GenerationRequest],
        prompts: Sequence[SourcePrompt],
        only: Collection[int] | None = None,
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """Outputs by index; the loop runs requests apart that differ in what their logits undergo."""
        groups: dict[tuple[object, ...], list[int]] = {}
        searched = []
        for index, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            if request.decoding.strategy == "beam":
                searched.append(index)
            else:
                kind = (prompt.start, prompt.forced, request.max_new_tokens)
                groups.setdefault(kind, []).append(index)
        runs = [(self._decode, group) for group in groups.values()]
        for run, group in [*runs, (self._search, searched)]:
            own = positions(only, group)
            outputs = run([requests[i] for i in group], [prompts[i] for i in group], own)
            yield from renumbered(outputs, group)

    @cached_property
    def _position_table(self) -> Tensor | None:
        with torch.inference_mode():
            return position_table(self.network, self.pairs.target_window)

    @cached_property
    def _rows_step(self) -> bool:
        """Whether rows of unequal lengths may share their steps; texts are written one at a time where not."""
        proved = prove(self.network, self._position_table)
        if not proved:
            self._note("texts are written one at a time: rows of unequal lengths cannot share their steps")
        return proved

    @cached_property
    def _eos_ids(self) -> frozenset[int]:
        return eos_token_ids(self.network.model, self.encoder)

    def _search(
        self,
        requests: Sequence[GenerationRequest],
        prompts: Sequence[SourcePrompt],
        only: Collection[int] | None,
    ) -> Iterator[tuple[int, GenerationOutput]]:
        given = [Prompt(p.source, p.truncated, p.start, p.forced) for p in prompts]
        searcher = Searcher(self.network, self.encoder, self._eos_ids, self.usage, pads=self._rows_step)
        yield from searcher.run(requests, given, only)

    def _decode(
        self,
        requests: Sequence[GenerationRequest],
        prompts: Sequence[SourcePrompt],
        only: Collection[int] | None,
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """The loop over slots, for requests of one start, forced token and limit."""
        first, usage = prompts[0], self.usage
        wanted = chosen_mask(only, len(prompts))
        sources = [p.source for p, is_wanted in zip(prompts, wanted, strict=True) if is_wanted]
        processors = ProcessorsOf(self.network, first.start, first.forced, requests[0].max_new_tokens)
        windows = [Window(prompt.source, len(prompt.source), prompt.truncated) for prompt in prompts]
        many = MAX_ROWS if self.network.device.type == "cpu" else MAX_ROWS_ACCELERATOR
        table = self._position_table if self._rows_step else None  # a row alone stands at the cache's end
        decoder = Decoder(
            lambda: Seq2SeqRows(self.network, first.start, processors, sources, table, usage),
            self.encoder,
            self._eos_ids,
            usage,
            max_rows=many if self._rows_step else 1,
        )
        yield from decoder.run(requests, windows, only)
