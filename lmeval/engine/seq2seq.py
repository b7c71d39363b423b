"""An encoder-decoder (T5, BART, Marian, mBART, NLLB): likelihoods by seq2seq_scorer.Seq2SeqScorer, and texts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lmeval.engine.base import Stopwatch, Usage, Work, collect, known, renumbered
from lmeval.engine.beam import Prompt, Searcher
from lmeval.engine.causal_windows import Window
from lmeval.engine.chosen import chosen_mask, positions
from lmeval.engine.decode import MAX_ROWS, MAX_ROWS_ACCELERATOR, Decoder, eos_token_ids
from lmeval.engine.encoder_decoder import EncoderDecoder
from lmeval.engine.parts import LastPlan, ScorePlan, Units, text_units
from lmeval.engine.pieces import Pieces, num_alternatives, target_texts
from lmeval.engine.seq2seq_rows import ProcessorsOf, Seq2SeqRows, position_table, prove
from lmeval.engine.seq2seq_scorer import Seq2SeqScorer, make_entries
from lmeval.engine.targets import Pair, PairEncoder, SourcePrompt, decoder_rules, language_tokens
from lmeval.engine.tokenization import Ids, TextEncoder
from lmeval.records import (
    GenerationOutput,
    GenerationRequest,
    ModelRecord,
    ScoreOutput,
    ScoreRequest,
    TokenizerRecord,
)

EMPTY_INPUT = "whole texts are scored as targets of an empty input"


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
