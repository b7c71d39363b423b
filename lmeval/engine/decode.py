"""Generation: a loop that keeps a number of rows busy, each continuing a prompt of its own.

A row that comes to its stop, its end token or its limit leaves at once, and the next prompt takes its place. Stops
are looked for in the decoded text of what was generated, never in the prompt, row by row, and cut at the earliest.
Of equal logits the lowest token id is taken. What a model's generation configuration makes `generate` do to logits
(a repetition penalty, forced and forbidden tokens) is done here by the same processors. How rows are run is the
business of a `Rows`: see `slots` for models whose attention can be handed a shared prefix, and `plain_rows` for the
others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lmeval import stopping
from lmeval.engine.base import Usage
from lmeval.engine.causal_windows import Window
from lmeval.engine.chosen import chosen_mask
from lmeval.engine.memory import is_out_of_memory, release_memory
from lmeval.engine.processors import Processors
from lmeval.engine.tokenization import Ids, TextEncoder
from lmeval.errors import NOT_FINITE, NumericError
from lmeval.records import DecodingSettings, GenerationOutput, GenerationRequest

MAX_ROWS = 32  # on a CPU, where more are no faster: the products are then as fast as they get
MAX_ROWS_ACCELERATOR = 128
PREFILL_TOKENS = 8192  # prompt tokens, padding included, that are added to the rows at once at the most
WORTH_TOKENS = (
    64  # rows wait for company until so many prompt tokens, or a quarter of the rows, can be added at once
)


class Rows(Protocol):
    """Texts that a model continues side by side, in the order in which they were added."""

    num_shared: int  # tokens that all prompts begin with and that are read once for all

    def add(self, prompts: Sequence[Ids]) -> Tensor:
        """Read further prompts; (b, V) logits of the token after each."""
        ...

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Give every row its next token; (B, V) logits of the one after it."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order."""
        ...


@dataclass(slots=True)
class Slot:
    """A prompt being continued."""

    index: int
    request: GenerationRequest
    prompt: Window
    specials: tuple[str, ...]  # left out of the text
    generated: list[int] = field(default_factory=list)
    rng: np.random.Generator | None = None
    edit: Processors | None = None

    def restart(self) -> None:
        """Forget what was generated; the draws begin anew."""
        self.generated.clear()
        sampled = self.request.decoding.strategy == "sample"
        self.rng = np.random.Generator(np.random.Philox(self.request.seed)) if sampled else None

    def finish(self, encoder: TextEncoder, eos_ids: frozenset[int]) -> GenerationOutput | None:
        """The output, if the last token ended it."""
        if self.generated[-1] in eos_ids:
            return self._output(decoded(encoder, self.generated[:-1]), "eos")
        text = decoded(encoder, self.generated)
        before = before_stop(text, self.request.stop)
        if before is not None:
            return self._output(before, "stop")
        if len(self.generated) >= self.request.max_new_tokens:
            return self._output(text, "length")
        return None

    def _output(self, text: str, reason: str) -> GenerationOutput:
        text = without_specials(text, self.specials)
        return GenerationOutput(text, reason, len(self.generated), self.prompt.truncated)


def decoded(encoder: TextEncoder, ids: Sequence[int]) -> str:
    """Ids as text, special tokens kept: one of them may be a stop."""
    return str(encoder.hf.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def before_stop(text: str, stops: Sequence[str]) -> str | None:
    """The text before the earliest stop; None where there is no stop in it."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else None


def without_specials(text: str, specials: Sequence[str]) -> str:
    """The text without special tokens; see `special_texts`."""
    for token in specials:
        text = text.replace(token, "")
    return text


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


class Decoder:
    """The loop over rows.

    Args:
        make_rows: Empty rows; called again after the device ran out of memory.
        encoder: Decodes what is generated.
        eos_ids: Tokens that end a text.
        usage: Gains the tokens generated and the rows run for them.
        max_rows: Rows run at once; halved where the device runs out of memory.
        processors: Of a prompt and its max_new_tokens; None where the rows see to it, or there are none.
        smaller: Lowers what a row alone is read with, see memory.attempt; None: nothing is to lower.
    """

    def __init__(
        self,
        make_rows: Callable[[], Rows],
        encoder: TextEncoder,
        eos_ids: frozenset[int],
        usage: Usage,
        max_rows: int,
        processors: Callable[[Ids, int], Processors | None] | None = None,
        smaller: Callable[[], bool] | None = None,
    ) -> None:
        self.make_rows, self.encoder, self.eos_ids = make_rows, encoder, eos_ids
        self.usage, self.max_rows, self.processors, self.smaller = usage, max_rows, processors, smaller

    def run(
        self,
        requests: Sequence[GenerationRequest],
        prompts: Sequence[Window],
        only: Collection[int] | None = None,
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """Continuations with the index of their request, as they finish; the longest prompts begin.

        Where `only` some are asked, the others are not written.
        """
        wanted = chosen_mask(only, len(requests))
        specials = special_texts(self.encoder)
        pairs = zip(requests, prompts, strict=True)
        slots = [Slot(i, request, prompt, specials) for i, (request, prompt) in enumerate(pairs)]
        asked = [slot for slot in slots if wanted[slot.index]]
        queue = deque(sorted(asked, key=lambda slot: len(slot.prompt.ids), reverse=True))
        while queue:
            stopping.check()
            live: list[Slot] = []
            try:
                yield from self._run(queue, live)
                return
            except Exception as error:
                if not is_out_of_memory(error) or not self._shrink(len(live)):
                    raise
            queue.extendleft(reversed(live))
            release_memory()

    def _shrink(self, num_live: int) -> bool:
        """Run half as many rows, or read a row alone in smaller parts; False where nothing is left to lower."""
        if num_live > 1:
            self.max_rows = num_live // 2
            return True
        return self.smaller is not None and self.smaller()

    @torch.inference_mode()
    def _run(self, queue: deque[Slot], live: list[Slot]) -> Iterator[tuple[int, GenerationOutput]]:
        """Until queue and rows are empty, or the rows when asked to stop: texts that were begun come to their end.

        `live` holds the slots of the rows, so that a caller can see them: at any moment those that are neither in the
        queue nor given out.
        """
        rows = self.make_rows()
        while live or (queue and not stopping.is_asked()):
            fresh = self._take(queue, len(live), rows.num_shared)
            live += fresh
            if fresh:
                self._begin(fresh)
                first = len(live) - len(fresh)
                logits = rows.add([slot.prompt.ids for slot in fresh])
            else:
                first, logits = 0, rows.step([slot.generated[-1] for slot in live])
            logits = edited(logits, live[first:])
            for slot, token in zip(live[first:], choose_tokens(logits, live[first:]), strict=True):
                slot.generated.append(token)
            outputs = {row: live[row].finish(self.encoder, self.eos_ids) for row in range(first, len(live))}
            ended = [row for row, output in outputs.items() if output is not None]
            done = [(live[row], outputs[row]) for row in ended]
            kept = _without(len(live), ended)
            live[:] = [live[row] for row in kept]
            for slot, output in done:
                assert output is not None
                self.usage.tokens_generated += len(slot.generated)
                self.usage.slot_steps += len(slot.generated)
                yield slot.index, output
            if ended:
                rows.keep(kept)

    def _begin(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            slot.restart()
            if self.processors is not None and slot.edit is None:
                slot.edit = self.processors(slot.prompt.ids, slot.request.max_new_tokens)

    def _take(self, queue: deque[Slot], num_live: int, num_shared: int) -> list[Slot]:
        """The next slots to begin, if it is worth it: reading one short prompt costs as much as a step of all rows."""
        taken: list[Slot] = []
        if stopping.is_asked():
            return taken
        tokens = 0
        while queue and num_live + len(taken) < self.max_rows:
            tokens += len(queue[0].prompt.ids) - num_shared
            if taken and tokens > PREFILL_TOKENS:
                break
            taken.append(queue.popleft())
        enough = tokens >= WORTH_TOKENS or 4 * len(taken) >= self.max_rows or not queue or not num_live
        if not enough:
            queue.extendleft(reversed(taken))
            return []
        return taken


def _without(count: int, ended: Sequence[int]) -> list[int]:
    """The rows left of `count`, the last ones moved into the holes, so that few are moved."""
    left = count - len(ended)
    holes = [row for row in ended if row < left]
    movers = [row for row in range(left, count) if row not in set(ended)]
    kept = list(range(left))
    for hole, mover in zip(holes, movers, strict=True):
        kept[hole] = mover
    return kept


def edited(logits: Tensor, slots: Sequence[Slot]) -> Tensor:
    """(B, V) logits after the processors of their slots."""
    if all(slot.edit is None for slot in slots):
        return logits
    changed = logits.float().clone()  # generate hands its processors float32 too
    for row, slot in enumerate(slots):
        if slot.edit is not None:
            tokens = torch.tensor([[*slot.prompt.ids.tolist(), *slot.generated]], device=logits.device)
            changed[row : row + 1] = slot.edit(tokens, changed[row : row + 1])
    return changed


def choose_tokens(logits: Tensor, slots: Sequence[Slot]) -> list[int]:
    """The next token of each slot from (B, V) logits: the most likely, or one drawn by the slot's own generator.

    Raises:
        NumericError: A slot's logits are no numbers.
    """
    scores = logits.float()
    best = scores.argmax(dim=-1)
    # of a row with NaN or infinity that is the argmax; a row of -inf alone has nothing to choose
    finite: list[bool] = scores.gather(-1, best[:, None]).isfinite()[:, 0].tolist()
    if not all(finite):
        raise not_finite(slots[finite.index(False)].index)
    chosen: list[int] = best.tolist()
    for row, slot in enumerate(slots):
        if slot.rng is not None:
            chosen[row] = draw(scores[row], slot.request.decoding, slot.rng)
    return chosen


def not_finite(index: int) -> NumericError:
    """The error of a request whose next token could not be told, for its logits are no numbers."""
    error = NumericError("the logits of the next token are NaN or infinite", fix=NOT_FINITE)
    error.index = index
    return error


def draw(logits: Tensor, decoding: DecodingSettings, rng: np.random.Generator) -> int:
    """A token drawn from (V,) logits after temperature, top-k and top-p, in that order, as transformers applies them.

    The draw inverts the distribution function over ascending token ids, so that it depends on the generator alone.
    """
    scores = logits.double() / decoding.temperature
    if decoding.top_k is not None and decoding.top_k < len(scores):
        scores[scores < scores.topk(decoding.top_k).values[-1]] = -torch.inf
    if decoding.top_p is not None and decoding.top_p < 1:
        ascending, order = scores.sort()
        # the tail whose probability is at most 1 - top_p goes; the most likely token always stays
        tail = ascending.softmax(-1).cumsum(-1) <= 1 - decoding.top_p
        tail[-1] = False
        scores[order[tail]] = -torch.inf
    cumulative = scores.softmax(-1).cumsum(-1)
    place = torch.searchsorted(cumulative, float(cumulative[-1]) * rng.random(), right=True)
    return min(int(place), len(scores) - 1)
