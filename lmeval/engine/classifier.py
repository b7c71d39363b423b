"""Fine-tuned heads: the logits of a sequence classifier, or of a next-sentence head, for one text or two.

A text goes in as the model's own tokenizer makes it: special tokens, segments, and the order in which texts too long
for the window are cut, as in fine-tuning. Batches are of texts of about one length, padded to the right; whether
padding changes nothing is proved on the model, and one that it changes gets batches of one length. A decoder's head
reads the last token that is not padding: where its configuration names no padding, an id is lent to it that no text
of the batch holds.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Never

import numpy as np
import torch

from lmeval.engine.base import Stopwatch, Usage, Work, collect, known
from lmeval.engine.chosen import Mask, chosen_mask
from lmeval.engine.memory import attempt
from lmeval.engine.network import Network, without_cache
from lmeval.engine.parts import LastPlan, Units, batch_units
from lmeval.engine.tokenization import ENCODE_BATCH, TextEncoder, require_unicode
from lmeval.engine.work import measure_work
from lmeval.errors import NOT_FINITE, ModelError, NumericError
from lmeval.records import (
    GenerationOutput,
    GenerationRequest,
    HeadOutput,
    HeadRequest,
    ModelRecord,
    ScoreOutput,
    ScoreRequest,
    TokenizerRecord,
)

Askers = dict[tuple[tuple[int, ...], ...], list[int]]  # Input.key: the requests that ask it

PROBES = ("a", "a b c d e f g h i j")  # of unequal length, to prove the padding on
TOLERANCE, TOLERANCE_HALF = 1e-4, 5e-2


@dataclass(frozen=True, slots=True)
class Input:
    """A tokenized text or pair: what the tokenizer gives the model, by name."""

    fields: Mapping[str, tuple[int, ...]]  # input_ids, and token_type_ids where the tokenizer has them
    truncated: bool = False

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens."""
        return self.fields["input_ids"]

    @property
    def key(self) -> tuple[tuple[int, ...], ...]:
        """Equal for what the model cannot tell apart."""
        return tuple(self.fields[name] for name in sorted(self.fields))


class ClassifierEngine:
    """A model with a fine-tuned head: logits of texts. See base.Engine and base.HeadEngine."""

    def __init__(
        self,
        network: Network,
        encoder: TextEncoder,
        record: ModelRecord,
        *,
        max_length: int,
        batch_tokens: int,
    ) -> None:
        assert record.head is not None, "a classifier's record says what its head is"
        self.network, self.encoder, self.model = network, encoder, record
        self.tokenizer: TokenizerRecord = encoder.record()
        self.device = str(network.device)
        self.versions = network.versions
        self.peak_memory_bytes = network.peak_memory_bytes
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.num_outputs = len(record.head.labels)
        self.config = network.model.config.get_text_config()
        parameters = inspect.signature(network.model.forward).parameters
        self.takes = {
            name for name in ("input_ids", "token_type_ids", "attention_mask") if name in parameters
        }
        self.options = without_cache(network.model)
        self.usage = Usage()
        self._texts: LastPlan[tuple[list[Input], Askers]] = LastPlan()

    def classify(
        self, requests: Sequence[HeadRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, HeadOutput]]:
        """The head's logits, in any order; equal texts are read once.

        Raises:
            RequestError: A text that no tokenizer can read.
            ModelError: The window holds nothing beside the special tokens.
            NumericError: The head gives NaN or infinity.
        """
        inputs, askers = self._texts.of(requests, lambda: self._plan(requests))
        wanted = chosen_mask(only, len(requests))
        asked = np.array([wanted[askers[item.key]].any() for item in inputs], dtype=bool)
        watch = Stopwatch()
        for done, logits in watch.time(self._run(inputs, asked)):
            self.usage.seconds_model += watch.lap()
            for item, values in zip(done, logits.tolist(), strict=True):
                own = askers[item.key]
                for index in own:
                    if not wanted[index]:
                        continue
                    output = HeadOutput(tuple(values), len(item.ids), item.truncated)
                    _require_finite(output, index)
                    self.usage.tokens_requested += len(item.ids)
                    self.usage.tokens_distinct += len(item.ids) if index == own[0] else 0
                    yield index, output

    def _plan(self, requests: Sequence[HeadRequest]) -> tuple[list[Input], Askers]:
        """The distinct texts, and the requests that ask each."""
        askers: Askers = {}
        inputs: list[Input] = []
        for index, item in enumerate(collect(known(self.encode(requests), self.encoder, lambda i: [i.ids]))):
            own = askers.setdefault(item.key, [])
            if not own:
                inputs.append(item)
            own.append(index)
        return inputs, askers

    def text_units(self, requests: Sequence[HeadRequest]) -> Units:
        """The batches, and the requests that each answers."""
        inputs, askers = self._texts.of(requests, lambda: self._plan(requests))
        (order, ends), batches, done = self._in_order(inputs), [], 0
        while done < len(order):
            rows = self._next_batch(inputs, order[done:], ends)
            own = [index for i in rows for index in askers[inputs[i].key]]
            batches.append((own, len(rows) * len(inputs[rows[0]].ids)))
            done += len(rows)
        return batch_units(len(requests), batches)

    def score(
        self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, ScoreOutput]]:
        """Not what a head can do.

        Raises:
            ModelError: Always.
        """
        self._refuse("gives no likelihood of a text")

    def work(self) -> Work | None:
        """See base.Engine."""
        return measure_work(self.network, self.usage, self.batch_tokens)

    def generate(
        self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """Not what a head can do.

        Raises:
            ModelError: Always.
        """
        self._refuse("does not write text")

    def _refuse(self, what: str) -> Never:
        raise ModelError(
            f"a classifier {what}",
            where=self.model.id,
            fix="use a causal, masked or seq2seq model, or tasks that a head can do",
        )

    # ---- texts to tokens ----

    def encode(self, requests: Sequence[HeadRequest]) -> Iterator[Input]:
        """The requests as the tokenizer makes them, in order."""
        require_unicode(request.text + (request.text_pair or "") for request in requests)
        for begin in range(0, len(requests), ENCODE_BATCH):
            batch = requests[begin : begin + ENCODE_BATCH]
            texts, pairs = [r.text for r in batch], [r.text_pair for r in batch]
            if None in pairs:  # the tokenizer takes a second text for all or for none
                yield from (self._encode(r.text, r.text_pair) for r in batch)
                continue
            fields = self._tokenize(texts, pairs)
            for number, request in enumerate(batch):
                item = _input({name: rows[number] for name, rows in fields.items()})
                fits = len(item.ids) <= self.max_length
                yield item if fits else self._cut(request.text, request.text_pair)

    def _encode(self, text: str, pair: str | None) -> Input:
        item = _input(self._tokenize(text, pair))
        return item if len(item.ids) <= self.max_length else self._cut(text, pair)

    def _cut(self, text: str, pair: str | None) -> Input:
        """Cut to the window as in fine-tuning: of two texts the longer one, token by token."""
        special = self.encoder.hf.num_special_tokens_to_add(pair=pair is not None)
        if special >= self.max_length:
            raise ModelError(
                f"a window of {self.max_length} holds nothing beside {special} special tokens",
                fix=f"raise --max-length to {special + 1} or more",
            )
        cut = self._tokenize(text, pair, truncation=True, max_length=self.max_length)
        return _input(cut, truncated=True)

    def _tokenize(self, text: Any, pair: Any, **options: Any) -> dict[str, Any]:
        found = self.encoder.hf(
            text, pair, padding=False, return_attention_mask=False, verbose=False, **options
        )
        return {name: rows for name, rows in found.items() if name in self.takes}

    # ---- tokens to logits ----

    def _run(self, inputs: Sequence[Input], asked: Mask) -> Iterator[tuple[list[Input], torch.Tensor]]:
        """Batches, longest first, with their logits (B, L) in float32 on the CPU; those that hold what is `asked`."""
        order, ends = self._in_order(inputs)
        done = 0
        while done < len(order):
            rows = self._next_batch(inputs, order[done:], ends)
            self.usage.tokens_planned += len(rows) * len(inputs[rows[0]].ids) if asked[rows].any() else 0
            done += len(rows)
        done = 0
        while done < len(order):
            rows = self._next_batch(inputs, order[done:], ends)
            if not asked[rows].any():
                done += len(rows)
                continue
            batch, width = [inputs[i] for i in rows], len(inputs[rows[0]].ids)
            logits = attempt(partial(self._logits, batch), partial(self._halve_batch, len(batch), width))
            if logits is None:
                continue
            self.usage.tokens_computed += len(batch) * width
            yield batch, logits
            done += len(batch)

    def _halve_batch(self, count: int, width: int) -> bool:
        if count == 1:
            return False
        self.batch_tokens = max(1, count * width // 2)
        return True

    def _in_order(self, inputs: Sequence[Input]) -> tuple[list[int], list[int]]:
        """The order in which inputs are run, and the end tokens that an encoder-decoder's head counts in each."""
        eos = self.config.eos_token_id if self.network.model.config.is_encoder_decoder else None
        # an encoder-decoder's head reads the last end token, and a batch must have as many in each text
        ends = [0 if eos is None else item.ids.count(eos) for item in inputs]
        return sorted(range(len(inputs)), key=lambda i: (-ends[i], -len(inputs[i].ids))), ends

    def _next_batch(self, inputs: Sequence[Input], order: Sequence[int], ends: Sequence[int]) -> list[int]:
        width = len(inputs[order[0]].ids)
        rows = [i for i in order[: max(1, self.batch_tokens // width)] if ends[i] == ends[order[0]]]
        if len(rows) > 1 and not self.pads:
            rows = [i for i in rows if len(inputs[i].ids) == width]
        return rows

    @cached_property
    def pads(self) -> bool:
        """Whether a text's logits stay the same beside a longer one; proved once, on the model."""
        short, long = self.encode([HeadRequest(text) for text in PROBES])
        alone, beside = self._logits([short])[0], self._logits([short, long])[0]
        tolerance = TOLERANCE if self.network.dtype == torch.float32 else TOLERANCE_HALF
        if torch.allclose(alone, beside, tolerance, tolerance):
            return True
        self.usage.note = "padding changes what this model computes: batches are of texts of one length"
        return False

    @torch.inference_mode()
    def _logits(self, batch: Sequence[Input]) -> torch.Tensor:
        """(B, L) logits of a batch, in float32 on the CPU."""
        with self._padding(batch) as pad:
            if pad is None:
                return torch.cat([self._logits([item]) for item in batch])
            logits: torch.Tensor = self.network.model(**self._padded(batch, pad), **self.options).logits
        return logits.float().cpu()

    def _padded(self, batch: Sequence[Input], pad: int) -> dict[str, torch.Tensor]:
        width = max(len(item.ids) for item in batch)
        fills = {"input_ids": pad, "token_type_ids": int(getattr(self.encoder.hf, "pad_token_type_id", 0))}
        arrays = {name: np.full((len(batch), width), fills[name]) for name in batch[0].fields}
        seen = np.zeros((len(batch), width), dtype=np.int64)
        for line, item in enumerate(batch):
            seen[line, : len(item.ids)] = 1
            for name, values in item.fields.items():
                arrays[name][line, : len(values)] = values
        if "attention_mask" in self.takes:
            arrays["attention_mask"] = seen
        return {name: self.network.to_device(array) for name, array in arrays.items()}

    @contextmanager
    def _padding(self, batch: Sequence[Input]) -> Iterator[int | None]:
        """The id to pad with; None where the texts must be run one by one.

        A decoder's head looks for its configuration's padding to find the last token, and takes one text at a time
        where there is none.
        """
        own = self.config.pad_token_id
        if own is not None or len(batch) == 1:
            yield self.encoder.pad_id if own is None else own
            return
        used = set().union(*(item.ids for item in batch))
        free = next((i for i in range(int(self.config.vocab_size)) if i not in used), None)
        self.config.pad_token_id = free
        try:
            yield free
        finally:
            self.config.pad_token_id = None


def _input(fields: Mapping[str, Any], *, truncated: bool = False) -> Input:
    return Input({name: tuple(values) for name, values in fields.items()}, truncated)


def _require_finite(output: HeadOutput, index: int) -> None:
    """Stop at the first logit that is no number."""
    if not np.isfinite(output.logits).all():
        error = NumericError(
            f"the head gives {output.logits}",
            fix=NOT_FINITE,
        )
        error.index = index
        raise error
