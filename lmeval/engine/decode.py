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
from lmeval.engine.rows import release_memory
from lmeval.engine.tokenization import TextEncoder, Window
from lmeval.records import GenerationOutput, GenerationRequest

MAX_ROWS = 32  # rows decoded at once
PREFILL_TOKENS = 8192  # prompt tokens of a batch, padding included, at the most


@dataclass(slots=True)
class Slot:
    """A prompt being continued."""

    index: int
    request: GenerationRequest
    prompt: Window
    generated: list[int] = field(default_factory=list)

    def finish(self, encoder: TextEncoder, eos_ids: frozenset[int]) -> GenerationOutput | None:
        """The output, if the last token ended it."""
        if self.generated[-1] in eos_ids:
            return self._output(self._text(encoder, self.generated[:-1]), "eos", encoder)
        text = self._text(encoder, self.generated)
        found = [place for stop in self.request.stop if (place := text.find(stop)) >= 0]
        if found:
            return self._output(text[: min(found)], "stop", encoder)
        if len(self.generated) >= self.request.max_new_tokens:
            return self._output(text, "length", encoder)
        return None

    def _text(self, encoder: TextEncoder, ids: list[int]) -> str:
        # special tokens are kept here: one of them may be a stop
        return str(encoder.hf.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _output(self, text: str, reason: str, encoder: TextEncoder) -> GenerationOutput:
        for token in encoder.hf.all_special_tokens:
            text = text.replace(token, "")
        return GenerationOutput(text, reason, len(self.generated), self.prompt.truncated)


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
) -> Iterator[tuple[int, GenerationOutput]]:
    """Greedy continuations with the index of their request, as they finish."""
    eos_ids = eos_token_ids(network.model, encoder)
    slots = [
        Slot(i, request, prompt) for i, (request, prompt) in enumerate(zip(requests, prompts, strict=True))
    ]
    slots.sort(key=lambda slot: len(slot.prompt.ids), reverse=True)
    max_rows, done = MAX_ROWS, 0
    while done < len(slots):
        width = len(slots[done].prompt.ids)
        rows = max(1, min(max_rows, PREFILL_TOKENS // width))
        batch = slots[done : done + rows]
        try:
            finished = list(_decode_batch(network, encoder, batch, eos_ids, usage))
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
    network: Network, encoder: TextEncoder, batch: Sequence[Slot], eos_ids: frozenset[int], usage: Usage
) -> Iterator[tuple[int, GenerationOutput]]:
    lengths = np.array([len(slot.prompt.ids) for slot in batch])
    width = int(lengths.max())
    tokens = np.full((len(batch), width), encoder.pad_id, dtype=np.int64)
    seen = np.zeros((len(batch), width), dtype=np.int64)
    for line, slot in enumerate(batch):
        tokens[line, width - lengths[line] :] = slot.prompt.ids
        seen[line, width - lengths[line] :] = 1
    input_ids, mask = network.to_device(tokens), network.to_device(seen)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache, active = DynamicCache(), list(batch)
    while True:
        usage.tokens_computed += input_ids.numel()
        chosen = _next_tokens(network, input_ids, mask, positions, cache)
        kept: list[int] = []
        for line, token in enumerate(chosen.tolist()):
            slot = active[line]
            slot.generated.append(token)
            output = slot.finish(encoder, eos_ids)
            if output is None:
                kept.append(line)
            else:
                yield slot.index, output
        if not kept:
            return
        if len(kept) < len(active):
            lines = torch.tensor(kept, device=network.device)
            cache.batch_select_indices(lines)
            active = [active[line] for line in kept]
            chosen, mask, positions = chosen[lines], mask[lines], positions[lines]
        input_ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones((len(active), 1))], dim=-1)
        positions = positions[:, -1:] + 1


def _next_tokens(
    network: Network, input_ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache
) -> Tensor:
    """(B,) the likeliest next token of each row; the cache grows by the inputs."""
    inputs = {
        "input_ids": input_ids,
        "attention_mask": mask,
        "position_ids": positions,
        "past_key_values": cache,
        "use_cache": True,
    }
    if network.is_split:
        logits = network.logits(network.hidden(**inputs)[:, -1])
    else:
        logits = network.model(**inputs).logits[:, -1]
    return logits.float().argmax(dim=-1)
