"""A causal model: likelihoods by scorer.CausalScorer, texts by decode.Decoder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

import numpy as np

from lmeval.engine import decode, plain_rows
from lmeval.engine.attention import can_be_handed
from lmeval.engine.base import Costs, Stopwatch, Usage, Work, collect, known, renumbered
from lmeval.engine.beam import Prompt, Searcher
from lmeval.engine.causal_windows import Window, causal_windows, generation_prompts
from lmeval.engine.chosen import chosen_mask, positions
from lmeval.engine.decode import Rows
from lmeval.engine.network import Network
from lmeval.engine.parts import LastPlan, ScorePlan, Units, text_units
from lmeval.engine.pieces import Pieces, causal_texts, num_alternatives
from lmeval.engine.plan import build_forest
from lmeval.engine.processors import Processors, configured_processors
from lmeval.engine.scorer import CausalScorer, Walk, scoring_costs
from lmeval.engine.slots import SlotRows
from lmeval.engine.tokenization import Ids, TextEncoder
from lmeval.engine.work import measure_work
from lmeval.records import (
    GenerationOutput,
    GenerationRequest,
    ModelRecord,
    ScoreOutput,
    ScoreRequest,
    TokenizerRecord,
)


class CausalEngine:
    """A causal model: likelihoods of targets and texts, and greedy generation. See base.Engine."""

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
        self.usage = Usage()
        self._has_processors: bool | None = None
        self.pieces = Pieces(encoder)
        self.scorer = CausalScorer(network, batch_tokens, self.usage)
        self._prompts: LastPlan[tuple[list[Window], Costs]] = LastPlan()

    @property
    def batch_tokens(self) -> int:
        """The token budget of a row; smaller than asked for after the device ran out of memory."""
        return self.scorer.batch_tokens

    def score(
        self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, ScoreOutput]]:
        """Log-likelihoods, each request's as soon as its last token is scored."""
        yield from self.plan_scores(requests).ask(self.usage, chosen_mask(only, len(requests)))

    def plan_scores(self, requests: Sequence[ScoreRequest]) -> ScorePlan:
        """The requests' windows and their forest; see parts."""
        windows = causal_windows(requests, self.encoder, self.max_length)
        per_request = collect(known(windows, self.encoder, lambda own: [window.ids for window in own]))
        flat = [window for windows in per_request for window in windows]
        forest, top, walk = build_forest(flat), num_alternatives(requests), Walk()
        return ScorePlan(
            sizes=[sum(len(window.ids) - window.start for window in windows) for windows in per_request],
            truncated=[any(window.truncated for window in windows) for windows in per_request],
            ranked=[r.rank for r in requests],
            costs=scoring_costs(per_request, forest),
            kept=self.pieces.keep(causal_texts(requests)),
            run=lambda wanted: self.scorer.score(flat, forest, top, wanted, walk),
            units=lambda: self.scorer.units(flat, forest),
        )

    def _slot_rows(self, prompts: Sequence[Ids]) -> Rows:
        return SlotRows(
            self.network,
            prompts,
            self.usage,
            batch_tokens=self.batch_tokens,
            chain_tokens=self.scorer.chain_budget,
            in_blocks=self.scorer.in_blocks,
        )

    def _cached_rows(self, prompts: Sequence[Ids]) -> Rows:
        return plain_rows.CachedRows(self.network, self.encoder.pad_id, self.usage)

    def _recomputed_rows(self, prompts: Sequence[Ids]) -> Rows:
        return plain_rows.RecomputedRows(self.network, self.usage)

    def _proved(self, make_rows: Callable[[Sequence[Ids]], Rows]) -> bool:
        computed = self.usage.tokens_computed
        proved = plain_rows.prove(make_rows, self.network)
        self.usage.tokens_computed = computed
        return proved

    @cached_property
    def _takes_slots(self) -> bool:
        packed = self.usage.path == "packed"
        return packed and can_be_handed(self.network) and self._proved(self._slot_rows)

    @cached_property
    def _takes_cache(self) -> bool:
        proved = self._proved(self._cached_rows)
        if not proved:
            note = "generation runs each text anew at every step: the model keeps no key/value cache"
            self.usage.note = f"{self.usage.note}; {note}" if self.usage.note else note
        return proved

    def _choose_rows(self, longest: int) -> Callable[[Sequence[Ids]], Rows]:
        """The fastest rows that give what whole texts of so many tokens give, proved once."""
        # beyond a layer's reach a slot's keys are not those that the layer would look at
        if longest <= self.scorer.reach and self._takes_slots:
            return self._slot_rows
        return self._cached_rows if self._takes_cache else self._recomputed_rows

    def _processors_of(self, prompt: Ids, max_new_tokens: int) -> Processors | None:
        """The generation configuration's; where it has none for one prompt, it has none for any."""
        if self._has_processors is False:
            return None
        ids = self.network.to_device(prompt)[None]
        ends = sorted(decode.eos_token_ids(self.network.model, self.encoder)) or None
        found = configured_processors(
            self.network.model, ids, max_new_tokens=max_new_tokens, eos_token_id=ends
        )
        self._has_processors = found is not None
        return found

    def work(self) -> Work | None:
        """See base.Engine."""
        return measure_work(self.network, self.usage, self.batch_tokens)

    def generate(
        self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """Continuations, greedy, drawn or searched for."""
        prompts, costs = self._prompts.of(requests, lambda: self._plan_prompts(requests))
        watch = Stopwatch()
        for index, output in watch.time(self._write(requests, prompts, only)):
            seconds = watch.lap()
            self.usage.seconds_model += seconds
            self.usage.seconds_generating += seconds
            costs.add_to(self.usage, index)
            self.usage.tokens_requested += output.num_tokens
            self.usage.tokens_distinct += output.num_tokens
            yield index, output

    def _plan_prompts(self, requests: Sequence[GenerationRequest]) -> tuple[list[Window], Costs]:
        read = generation_prompts(requests, self.encoder, self.max_length)
        prompts = collect(known(read, self.encoder, lambda prompt: [prompt.ids]))
        windows = [Window(np.append(p.ids, 0).astype(np.int32), len(p.ids)) for p in prompts]
        # a prompt's last token is read to write the first: as many steps follow as tokens, less one
        requested = np.array([len(p.ids) - 1 for p in prompts])
        return prompts, Costs(requested, build_forest(windows).fresh - 1)

    def write_units(self, requests: Sequence[GenerationRequest]) -> Units:
        """Prompts as units, those next to each other that begin alike."""
        prompts, costs = self._prompts.of(requests, lambda: self._plan_prompts(requests))
        return text_units([p.ids for p in prompts], costs.distinct, requests)

    def _write(
        self,
        requests: Sequence[GenerationRequest],
        prompts: Sequence[Window],
        only: Collection[int] | None = None,
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """Outputs by index: beam search by transformers' own, the others by the loop over slots."""
        searched = [i for i, request in enumerate(requests) if request.decoding.strategy == "beam"]
        stepped = [i for i, request in enumerate(requests) if request.decoding.strategy != "beam"]
        for write, chosen in ((self._decode, stepped), (self._search, searched)):
            if chosen:
                own = positions(only, chosen)
                outputs = write([requests[i] for i in chosen], [prompts[i] for i in chosen], own)
                yield from renumbered(outputs, chosen)

    def _search(
        self, requests: Sequence[GenerationRequest], prompts: Sequence[Window], only: Collection[int] | None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        eos_ids = decode.eos_token_ids(self.network.model, self.encoder)
        # what left-padded rows give with a cache, they give `generate` too
        searcher = Searcher(self.network, self.encoder, eos_ids, self.usage, pads=self._takes_cache)
        yield from searcher.run(requests, [Prompt(prompt.ids, prompt.truncated) for prompt in prompts], only)

    def _decode(
        self, requests: Sequence[GenerationRequest], prompts: Sequence[Window], only: Collection[int] | None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        usage, network = self.usage, self.network
        texts = [prompt.ids for prompt in prompts]
        longest = max(len(p.ids) + r.max_new_tokens for p, r in zip(prompts, requests, strict=True))
        make_rows = self._choose_rows(longest)
        max_rows = decode.MAX_ROWS if network.device.type == "cpu" else decode.MAX_ROWS_ACCELERATOR
        decoder = decode.Decoder(
            lambda: make_rows(texts),
            self.encoder,
            decode.eos_token_ids(network.model, self.encoder),
            usage,
            max_rows=1 if self.scorer.same_length else max_rows,
            processors=self._processors_of,
            smaller=lambda: self.scorer.halve_rows(self.batch_tokens),
        )
        yield from decoder.run(requests, prompts, only)
