"""Beam search by transformers' own `generate`, for causal models and encoder-decoders.

A hypothesis ends at an end token, at a stop string in its decoded text, or at its limit; all of them are ranked by
log-probability / length ** length_penalty. What the search does beyond width and penalty (early stopping) is as the
model's generation configuration says. Prompts go in batches where that changes nothing but rounding, else alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmeval.engine.base import Usage
from lmeval.engine.chosen import chosen_mask
from lmeval.engine.decode import before_stop, decoded, not_finite, special_texts, without_specials
from lmeval.engine.memory import attempt
from lmeval.engine.network import Network
from lmeval.engine.tokenization import Ids, TextEncoder
from lmeval.errors import NumericError
from lmeval.records import GenerationOutput, GenerationRequest

BATCH_TOKENS = 4096  # prompt tokens, padding included, times beams
MAX_ROWS = 64  # beams side by side


@dataclass(frozen=True, slots=True)
class Prompt:
    """What `generate` is given: the prompt of a causal model, or what an encoder reads."""

    ids: Ids
    truncated: bool
    start: tuple[int, ...] = ()  # encoder-decoder: what the decoder begins with
    forced: int | None = None  # encoder-decoder: the first token that must be written


class Searcher:
    """Runs beam searches.

    Args:
        network: The model.
        encoder: Its tokenizer.
        eos_ids: Tokens that end a text.
        usage: Gains the tokens generated and computed.
        pads: Whether prompts of unequal length may share a batch.
    """

    def __init__(
        self, network: Network, encoder: TextEncoder, eos_ids: frozenset[int], usage: Usage, *, pads: bool
    ) -> None:
        self.network, self.encoder, self.eos_ids = network, encoder, eos_ids
        self.usage, self.pads = usage, pads
        self.is_seq2seq = bool(network.model.config.is_encoder_decoder)
        self.max_rows = MAX_ROWS
        self.specials = special_texts(encoder)

    def run(
        self,
        requests: Sequence[GenerationRequest],
        prompts: Sequence[Prompt],
        only: Collection[int] | None = None,
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """Each request's best hypothesis, with its index; requests that ask the same share batches.

        Where `only` some are asked, the batches that hold one of them are run.
        """
        wanted = chosen_mask(only, len(requests))
        groups: dict[tuple[object, ...], list[int]] = {}
        for index, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            asked = (request.stop, request.max_new_tokens, request.decoding, prompt.start, prompt.forced)
            groups.setdefault(asked, []).append(index)
        for group in groups.values():
            queue = sorted(group, key=lambda index: len(prompts[index].ids), reverse=True)
            while queue:
                batch = self._next_batch(queue, requests[queue[0]].decoding.num_beams, prompts)
                if not wanted[batch].any():
                    queue = queue[len(batch) :]
                    continue
                beams = requests[batch[0]].decoding.num_beams
                try:
                    outputs = attempt(
                        partial(self._search, [requests[i] for i in batch], [prompts[i] for i in batch]),
                        partial(self._halve_rows, len(batch), beams),
                    )
                except NumericError as error:
                    error.index = None if error.index is None else batch[error.index]
                    raise
                if outputs is None:
                    continue
                queue = queue[len(batch) :]
                steps = max(output.num_tokens for output in outputs)
                for index, output in zip(batch, outputs, strict=True):
                    if wanted[index]:  # counted one by one, as they are kept
                        self.usage.tokens_generated += output.num_tokens
                        self.usage.slot_steps += steps
                        yield index, output

    def _halve_rows(self, count: int, num_beams: int) -> bool:
        if count == 1:
            return False
        self.max_rows = count * num_beams // 2
        return True

    def _next_batch(self, queue: Sequence[int], num_beams: int, prompts: Sequence[Prompt]) -> Sequence[int]:
        width = len(prompts[queue[0]].ids)
        batch = queue[: max(1, min(self.max_rows, BATCH_TOKENS // width) // num_beams)]
        return batch if self.pads else [i for i in batch if len(prompts[i].ids) == width]

    @torch.inference_mode()
    def _search(
        self, requests: Sequence[GenerationRequest], prompts: Sequence[Prompt]
    ) -> list[GenerationOutput]:
        """One `generate` for prompts that ask the same of it."""
        request, prompt, network = requests[0], prompts[0], self.network
        inputs = self._inputs(prompts)
        skip = len(prompt.start) if self.is_seq2seq else inputs["input_ids"].shape[1]
        if self.is_seq2seq:
            assert skip == 1
            inputs |= {"decoder_start_token_id": prompt.start[0], "forced_bos_token_id": prompt.forced}
        written = network.model.generate(
            **inputs,
            do_sample=False,
            num_beams=request.decoding.num_beams,
            length_penalty=request.decoding.length_penalty,
            max_new_tokens=request.max_new_tokens,
            eos_token_id=sorted(self.eos_ids) or None,
            pad_token_id=self.encoder.pad_id,
            stopping_criteria=[_Stops(self.encoder, request.stop, skip, self._body)],
            logits_processor=[_Finite(request.decoding.num_beams)],
        )[:, skip:]
        outputs = [
            self._output(row, request, p.truncated) for row, p in zip(written.tolist(), prompts, strict=True)
        ]
        self._count(request.decoding.num_beams, inputs["input_ids"], outputs)
        return outputs

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Padded on the side that `generate` takes: left for a causal model, right for an encoder."""
        width = max(len(prompt.ids) for prompt in prompts)
        ids = np.full((len(prompts), width), self.encoder.pad_id, dtype=np.int64)
        seen = np.zeros((len(prompts), width), dtype=np.int64)
        for line, prompt in enumerate(prompts):
            size = len(prompt.ids)
            where = slice(0, size) if self.is_seq2seq else slice(width - size, width)
            ids[line, where], seen[line, where] = prompt.ids, 1
        return {"input_ids": self.network.to_device(ids), "attention_mask": self.network.to_device(seen)}

    def _body(self, ids: Sequence[int]) -> list[int]:
        """A hypothesis without its end token and the filling behind it."""
        ends = {*self.eos_ids, -1}
        if self.eos_ids:  # filled with the padding token, or with an end token where that one is 0
            ends.add(self.encoder.pad_id)
        end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        return list(ids[:end])

    def _output(self, ids: list[int], request: GenerationRequest, truncated: bool) -> GenerationOutput:
        body = self._body(ids)
        text, num_tokens = decoded(self.encoder, body), len(body)
        before = before_stop(text, request.stop)
        if before is not None:
            text, reason = before, "stop"
        elif num_tokens >= request.max_new_tokens:
            reason = "length"
        else:
            reason, num_tokens = "eos", num_tokens + 1
        return GenerationOutput(without_specials(text, self.specials), reason, num_tokens, truncated)

    def _count(self, num_beams: int, ids: Tensor, outputs: Sequence[GenerationOutput]) -> None:
        """Add a search to the usage; other hypotheses may have run on behind the best one."""
        steps = max(output.num_tokens for output in outputs)
        # a causal model reads each prompt once a beam, an encoder once
        read = ids.numel() * (1 if self.is_seq2seq else num_beams)
        self.usage.tokens_computed += read + (steps - 1) * num_beams * len(outputs)


class _Finite:
    """A logits processor of `generate` that changes nothing, and stops at logits that are no numbers."""

    def __init__(self, num_beams: int) -> None:
        self.num_beams = num_beams

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        finite: list[bool] = scores.max(dim=-1).values.isfinite().tolist()
        if not all(finite):
            raise not_finite(finite.index(False) // self.num_beams)
        return scores


class _Stops:
    """A stopping criterion of `generate`: a stop string in the text that a hypothesis has written."""

    def __init__(self, encoder: TextEncoder, stops: Sequence[str], skip: int, body: Any) -> None:
        self.encoder, self.stops, self.skip, self.body = encoder, stops, skip, body

    def __call__(self, input_ids: Tensor, scores: Tensor | None, **kwargs: Any) -> Tensor:
        texts = (decoded(self.encoder, self.body(row)) for row in input_ids[:, self.skip :].tolist())
        hit = [any(stop in text for stop in self.stops) for text in texts]
        return torch.tensor(hit, device=input_ids.device)
