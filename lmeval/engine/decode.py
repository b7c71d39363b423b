"""Greedy generation: length-sorted batches, left-padded, a finished row dropped from its batch at once.

Stops are looked for in the decoded text of what was generated, never in the prompt, row by row, and cut at the
earliest. Of equal logits the lowest token id is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from lmeval.engine.base import Usage
from lmeval.engine.network import Network
from lmeval.engine.rows import depends_on_length, release_memory
from lmeval.engine.tokenization import Ids, TextEncoder, Window
from lmeval.records import GenerationOutput, GenerationRequest

MAX_ROWS = 32  # rows decoded at once
PREFILL_TOKENS = 8192  # prompt tokens of a batch, padding included, at the most


@dataclass(slots=True)
class Slot:
    """A prompt being continued."""

    index: int
    request: GenerationRequest
    prompt: Window
    specials: tuple[str, ...]  # left out of the text
    generated: list[int] = field(default_factory=list)

    def finish(self, encoder: TextEncoder, eos_ids: frozenset[int]) -> GenerationOutput | None:
        """The output, if the last token ended it."""
        if self.generated[-1] in eos_ids:
            return self._output(self._text(encoder, self.generated[:-1]), "eos")
        text = self._text(encoder, self.generated)
        found = [place for stop in self.request.stop if (place := text.find(stop)) >= 0]
        if found:
            return self._output(text[: min(found)], "stop")
        if len(self.generated) >= self.request.max_new_tokens:
            return self._output(text, "length")
        return None

    def _text(self, encoder: TextEncoder, ids: list[int]) -> str:
        # special tokens are kept here: one of them may be a stop
        return str(encoder.hf.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _output(self, text: str, reason: str) -> GenerationOutput:
        for token in self.specials:
            text = text.replace(token, "")
        return GenerationOutput(text, reason, len(self.generated), self.prompt.truncated)


def special_texts(encoder: TextEncoder) -> tuple[str, ...]:
    """The tokens that decoding leaves out: those with a role, and those that the vocabulary marks as special."""
    marked = getattr(encoder.hf, "added_tokens_decoder", {}).values()
    texts = {*encoder.hf.all_special_tokens, *(token.content for token in marked if token.special)}
    return tuple(sorted(texts, key=len, reverse=True))


def eos_token_ids(model: Any, encoder: TextEncoder) -> frozenset[int]:
    """The ids that end a text: the generation configuration's, and the tokenizer's EOS."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured, encoder.eos_id]
    return frozenset(int(i) for i in ids if i is not None)


def generate(
    network: Network,
    encoder: TextEncoder,
    requests: Sequence[GenerationRequest],
    prompts: Sequence[Window],
    usage: Usage,
    *,
    cached: bool = True,
) -> Iterator[tuple[int, GenerationOutput]]:
    """Greedy continuations with the index of their request, as they finish.

    Args:
        cached: Step with a key/value cache; see `prove_cache`.
    """
    eos_ids = eos_token_ids(network.model, encoder)
    specials = special_texts(encoder)
    pairs = zip(requests, prompts, strict=True)
    slots = [Slot(i, request, prompt, specials) for i, (request, prompt) in enumerate(pairs)]
    slots.sort(key=lambda slot: len(slot.prompt.ids), reverse=True)
    max_rows, done = 1 if depends_on_length(network.model.config) else MAX_ROWS, 0
    while done < len(slots):
        width = len(slots[done].prompt.ids)
        rows = max(1, min(max_rows, PREFILL_TOKENS // width))
        batch = slots[done : done + rows]
        try:
            finished = list(_decode_batch(network, encoder, batch, eos_ids, usage, cached=cached))
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            max_rows = len(batch) // 2
            for slot in batch:
                slot.generated.clear()
            release_memory()
            continue
        done += len(batch)
        usage.tokens_requested += sum(len(slot.prompt.ids) + len(slot.generated) - 1 for slot in batch)
        usage.tokens_distinct += sum(len(slot.prompt.ids) + len(slot.generated) - 1 for slot in batch)
        usage.tokens_generated += sum(len(slot.generated) for slot in batch)
        yield from finished


@torch.inference_mode()
def _decode_batch(
    network: Network,
    encoder: TextEncoder,
    batch: Sequence[Slot],
    eos_ids: frozenset[int],
    usage: Usage,
    *,
    cached: bool,
) -> Iterator[tuple[int, GenerationOutput]]:
    prompts = [slot.prompt.ids for slot in batch]
    rows = CachedRows(network, prompts, encoder.pad_id) if cached else RecomputedRows(network, prompts)
    active = list(batch)
    while active:
        usage.tokens_computed += rows.num_inputs
        chosen = rows.logits().float().argmax(dim=-1)
        kept: list[int] = []
        for line, token in enumerate(chosen.tolist()):
            slot = active[line]
            slot.generated.append(token)
            output = slot.finish(encoder, eos_ids)
            if output is None:
                kept.append(line)
            else:
                yield slot.index, output
        active = [active[line] for line in kept]
        if active:
            rows.go_on(kept, chosen)


class CachedRows:
    """Left-padded rows that step token by token with a key/value cache."""

    def __init__(self, network: Network, prompts: Sequence[Ids], pad_id: int) -> None:
        self.network = network
        width = max(len(ids) for ids in prompts)
        tokens = np.full((len(prompts), width), pad_id, dtype=np.int64)
        seen = np.zeros((len(prompts), width), dtype=np.int64)
        for line, ids in enumerate(prompts):
            tokens[line, width - len(ids) :], seen[line, width - len(ids) :] = ids, 1
        self.input_ids, self.mask = network.to_device(tokens), network.to_device(seen)
        self.positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        self.cache = DynamicCache()

    @property
    def num_inputs(self) -> int:
        """Tokens that the next step runs, padding included."""
        return self.input_ids.numel()

    def logits(self) -> Tensor:
        """(B, V) of each row's next token; the cache grows by the inputs."""
        inputs = {
            "input_ids": self.input_ids,
            "attention_mask": self.mask,
            "position_ids": self.positions,
            "past_key_values": self.cache,
            "use_cache": True,
        }
        if self.network.is_split:
            return self.network.logits(self.network.hidden(**inputs)[:, -1])
        logits: Tensor = self.network.model(**inputs).logits[:, -1]
        return logits

    def go_on(self, kept: list[int], chosen: Tensor) -> None:
        """Drop the rows that are not `kept`, and give each of the others its `chosen` token."""
        if len(kept) < len(chosen):
            lines = torch.tensor(kept, device=self.network.device)
            self.cache.batch_select_indices(lines)
            chosen, self.mask, self.positions = chosen[lines], self.mask[lines], self.positions[lines]
        self.input_ids = chosen[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones((len(kept), 1))], dim=-1)
        self.positions = self.positions[:, -1:] + 1


class RecomputedRows:
    """Right-padded rows that run whole at every step: for models whose state is not a key/value cache."""

    def __init__(self, network: Network, prompts: Sequence[Ids]) -> None:
        self.network = network
        self.rows = [ids.tolist() for ids in prompts]

    @property
    def num_inputs(self) -> int:
        """Tokens that the next step runs, padding included."""
        return len(self.rows) * max(len(row) for row in self.rows)

    def logits(self) -> Tensor:
        """(B, V) of each row's next token."""
        width = max(len(row) for row in self.rows)
        tokens = self.network.to_device(np.array([row + [0] * (width - len(row)) for row in self.rows]))
        last = self.network.to_device(np.array([len(row) - 1 for row in self.rows]))
        lines = torch.arange(len(self.rows), device=last.device)
        if self.network.is_split:
            return self.network.logits(self.network.hidden(input_ids=tokens)[lines, last])
        logits: Tensor = self.network.model(input_ids=tokens).logits[lines, last]
        return logits

    def go_on(self, kept: list[int], chosen: Tensor) -> None:
        """Drop the rows that are not `kept`, and give each of the others its `chosen` token."""
        tokens = chosen.tolist()
        self.rows = [[*self.rows[line], tokens[line]] for line in kept]


@torch.inference_mode()
def prove_cache(network: Network) -> bool:
    """Whether two short rows step with a cache, one of them behind padding, to what they give when run whole.

    A recurrent model may swallow a key/value cache without a word and then see its last token only.
    """
    vocabulary = int(network.model.config.get_text_config().vocab_size)
    texts = [np.random.default_rng(n).integers(0, vocabulary, size=n).astype(np.int32) for n in (9, 6)]
    try:
        stepped = CachedRows(network, [ids[:-2] for ids in texts], pad_id=0)
        for step in (-2, -1):
            stepped.logits()
            stepped.go_on([0, 1], network.to_device(np.array([ids[step] for ids in texts])))
        got = stepped.logits()
    except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError, IndexError):
        return False
    whole = torch.cat([RecomputedRows(network, [ids]).logits() for ids in texts])
    error = (got.float().log_softmax(-1) - whole.float().log_softmax(-1)).abs().mean().item()
    return error <= (1e-3 if network.dtype in (torch.float32, torch.float64) else 0.25)
