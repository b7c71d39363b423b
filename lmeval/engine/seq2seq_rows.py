"""An encoder-decoder's side of the decoding loop: rows that share steps, each with a source and a length of its own.

The keys and values of the decoder's own tokens are padded on the left, those of the encoder's states on the right.
Where the decoder adds position embeddings to its inputs (BART and its kin; T5 has relative positions), a row's
position is its own, not the cache's length: the module that gives them is swapped for one that looks them up.

What a model's generation configuration makes `generate` do to logits (forced and forbidden tokens, no repeated
n-grams) is done here by the same processors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EncoderDecoderCache

from lmeval.engine.base import Usage
from lmeval.engine.encoder_decoder import EncoderDecoder, new_cache
from lmeval.engine.memory import reraise_fault
from lmeval.engine.network import returning
from lmeval.engine.processors import Processors, configured_processors
from lmeval.engine.proof import REFUSALS, say_the_same
from lmeval.engine.targets import Tokens
from lmeval.engine.tokenization import Ids

FOR_A_SOURCE = (
    "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size",
)  # they look at what the encoder read


def logits_processors(
    network: EncoderDecoder, source: Ids, start: Tokens, forced: int | None, max_new_tokens: int
) -> Processors | None:
    """What `generate` would do to a text's logits with the model's own generation configuration."""
    assert len(start) == 1
    return configured_processors(
        network.model,
        network.to_device(source)[None],
        decoder_start_token_id=start[0],
        forced_bos_token_id=forced,
        max_new_tokens=max_new_tokens,
    )


class ProcessorsOf:
    """The logits processors of each row: the same for all sources, unless they look at the source."""

    def __init__(
        self, network: EncoderDecoder, start: Tokens, forced: int | None, max_new_tokens: int
    ) -> None:
        self._make: Callable[[Ids], Processors | None] = lambda source: logits_processors(
            network, source, start, forced, max_new_tokens
        )
        generation = network.model.generation_config
        self._by_source = any(getattr(generation, name, None) not in (None, 0, 1.0) for name in FOR_A_SOURCE)
        self._known: dict[bytes, Processors | None] = {}

    def __call__(self, source: Ids) -> Processors | None:
        """The processors of a row that answers this source."""
        key = source.tobytes() if self._by_source else b""
        if key not in self._known:
            self._known[key] = self._make(source)
        return self._known[key]


@contextmanager
def positions_of_rows(decoder: Any, table: Tensor | None, positions: Tensor) -> Iterator[None]:
    """Within the block the decoder's token of row b stands at `positions[b]`; `table` (T, H) has the embeddings."""
    block = nullcontext() if table is None else returning(decoder.embed_positions, table[positions][:, None])
    with block:
        yield


def position_table(network: EncoderDecoder, length: int) -> Tensor | None:
    """(length, H) position embeddings that the decoder adds to its inputs; None where it adds none."""
    module = getattr(network.decoder, "embed_positions", None)
    if module is None:
        return None
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    token = next(i for i in range(network.vocabulary) if i != network.pad_id)
    try:
        ids = torch.full((1, length), token, device=network.device)
        network.decoder(input_ids=ids, use_cache=False)
    finally:
        hook.remove()
    return seen[0].reshape(length, -1)


class Seq2SeqRows:
    """Rows of an encoder-decoder; see decode.Rows. A prompt is what the encoder reads.

    Args:
        network: The model.
        start: What the decoder begins with.
        processors: Of each source.
        sources: All sources that will ever be added: one that comes again is encoded once.
        table: See `position_table`.
        usage: Gains the tokens computed.
    """

    num_shared = 0

    def __init__(
        self,
        network: EncoderDecoder,
        start: Tokens,
        processors: Callable[[Ids], Processors | None],
        sources: Sequence[Ids],
        table: Tensor | None,
        usage: Usage,
    ) -> None:
        self.network, self.start, self.processors = network, start, processors
        self.table, self.usage = table, usage
        self._to_come = Counter(source.tobytes() for source in sources)
        self._states: dict[bytes, Tensor] = {}  # (S, H) of sources that come again
        self.cache: EncoderDecoderCache = new_cache()
        self.seen = network.to_device(np.zeros((0, 0), dtype=np.int64))  # (B, S): where a source has a token
        self.texts: list[list[int]] = []  # the decoder's tokens so far
        self.edits: list[Processors | None] = []

    def add(self, prompts: Sequence[Ids]) -> Tensor:
        """See decode.Rows."""
        network = self.network
        states, seen = self._encode(prompts)
        cache = new_cache()
        ids = network.to_device(np.array([self.start] * len(prompts)))
        hidden = network.hidden(
            input_ids=ids,
            encoder_hidden_states=states,
            encoder_attention_mask=seen,
            past_key_values=cache,
            use_cache=True,
        )
        self.usage.tokens_computed += ids.numel()
        first = len(self.texts)
        self.texts += [list(self.start) for _ in prompts]
        self.edits += [self.processors(source) for source in prompts]
        self._join(cache, seen)
        return self._edited(network.logits(hidden[:, -1]), range(first, len(self.texts)))

    def _encode(self, prompts: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """States (B, S, H) and mask (B, S) of the prompts, each distinct one encoded once."""
        network = self.network
        keys = [source.tobytes() for source in prompts]
        fresh = {key: s for key, s in zip(keys, prompts, strict=True) if key not in self._states}
        if fresh:
            encoded, mask = network.read_sources(list(fresh.values()))
            self.usage.tokens_computed += mask.numel()
            for key, states, source in zip(fresh, encoded, fresh.values(), strict=True):
                self._states[key] = states[: len(source)]
        rows = [self._states[key] for key in keys]
        for key in keys:
            self._to_come[key] -= 1
            if self._to_come[key] <= 0:
                self._states.pop(key, None)
        width = max(len(row) for row in rows)
        states = torch.stack([torch.nn.functional.pad(row, (0, 0, 0, width - len(row))) for row in rows])
        lengths = network.to_device(np.array([len(source) for source in prompts]))
        columns = torch.arange(width, device=network.device)
        return states, (columns[None] < lengths[:, None]).long()

    def step(self, tokens: Sequence[int]) -> Tensor:
        """See decode.Rows."""
        network = self.network
        for text, token in zip(self.texts, tokens, strict=True):
            text.append(token)
        lengths = network.to_device(np.array([len(text) for text in self.texts]))
        width = self.cache.get_seq_length() + 1
        columns = torch.arange(width, device=network.device)
        mask = (columns[None] >= width - lengths[:, None]).long()
        # the cache holds what the decoder needs of the encoder's states; only their shape is looked at
        size = (*self.seen.shape, network.width)
        states = torch.zeros((1, 1, 1), dtype=network.dtype, device=network.device).expand(size)
        with positions_of_rows(network.decoder, self.table, lengths - 1):
            hidden = network.hidden(
                input_ids=network.to_device(np.array(tokens)[:, None]),
                attention_mask=mask,
                encoder_hidden_states=states,
                encoder_attention_mask=self.seen,
                past_key_values=self.cache,
                use_cache=True,
            )
        self.usage.tokens_computed += len(tokens)
        return self._edited(network.logits(hidden[:, -1]), range(len(self.texts)))

    def _edited(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """(b, V) logits of these rows after their processors."""
        if not any(self.edits[row] for row in rows):
            return logits
        alike: dict[
            tuple[int, int], list[int]
        ] = {}  # processors and a length: lines that are edited together
        for line, row in enumerate(rows):
            alike.setdefault((id(self.edits[row]), len(self.texts[row])), []).append(line)
        edited = logits.float().clone()  # generate hands its processors float32 too
        for lines in alike.values():
            if (process := self.edits[rows[lines[0]]]) is not None:
                texts = torch.tensor([self.texts[rows[line]] for line in lines], device=logits.device)
                edited[lines] = process(texts, edited[lines])
        return edited

    def keep(self, rows: Sequence[int]) -> None:
        """See decode.Rows."""
        self.texts = [self.texts[row] for row in rows]
        self.edits = [self.edits[row] for row in rows]
        if not rows:
            self.cache, self.seen = new_cache(), self.seen[:0]
            return
        lines = self.network.to_device(np.array(rows, dtype=np.int64))
        self.cache.batch_select_indices(lines)
        self.seen = self.seen[lines]
        self._trim()

    def _trim(self) -> None:
        """Cut the columns that no row needs any more."""
        own = max(len(text) for text in self.texts)
        if own < self.cache.get_seq_length():
            for layer in self.cache.self_attention_cache.layers:
                layer.keys, layer.values = layer.keys[:, :, -own:], layer.values[:, :, -own:]
        source = int(self.seen.sum(-1).max())
        if source < self.seen.shape[1]:
            for layer in self.cache.cross_attention_cache.layers:
                layer.keys, layer.values = layer.keys[:, :, :source], layer.values[:, :, :source]
            self.seen = self.seen[:, :source]

    def _join(self, cache: EncoderDecoderCache, seen: Tensor) -> None:
        """Put the rows of a cache below those that are here."""
        if not len(self.seen):
            self.cache, self.seen = cache, seen
            return
        halves = (
            (self.cache.self_attention_cache, cache.self_attention_cache, "left"),
            (self.cache.cross_attention_cache, cache.cross_attention_cache, "right"),
        )
        for half, fresh, side in halves:
            for layer, new in zip(half.layers, fresh.layers, strict=True):
                layer.keys = _stacked(layer.keys, new.keys, -2, side)
                layer.values = _stacked(layer.values, new.values, -2, side)
        self.seen = _stacked(self.seen, seen, -1, "right")


def _stacked(above: Tensor, below: Tensor, dim: int, side: str) -> Tensor:
    """Two batches in one, zeros on a side where one is shorter along a dimension."""
    width = max(above.shape[dim], below.shape[dim])

    def padded(tensor: Tensor) -> Tensor:
        missing = list(tensor.shape)
        missing[dim] = width - tensor.shape[dim]
        if not missing[dim]:
            return tensor
        parts = [tensor.new_zeros(missing), tensor]
        return torch.cat(parts if side == "left" else parts[::-1], dim=dim)

    return torch.cat([padded(above), padded(below)])


@torch.inference_mode()
def prove(network: EncoderDecoder, table: Tensor | None) -> bool:
    """Whether rows of unequal sources, one of them added late, step to what each text gives when run whole."""
    vocabulary = network.vocabulary
    rng = np.random.default_rng(0)
    # without the padding token, at which some models look for where a text ends
    tokens = np.setdiff1d(np.arange(vocabulary), [network.pad_id])
    sources = [rng.choice(tokens, size=n).astype(np.int32) for n in (7, 4, 9)]
    texts = [rng.choice(tokens, size=n).tolist() for n in (4, 5, 3)]
    start = (texts[0][0],)
    try:
        rows = Seq2SeqRows(network, start, lambda source: None, sources, table, Usage())
        rows.add(sources[:2])
        rows.step([texts[0][1], texts[1][1]])
        rows.step([texts[0][2], texts[1][2]])
        rows.keep([1])
        rows.add(sources[2:])
        rows.step([texts[1][3], texts[2][1]])
        got = rows.step([texts[1][4], texts[2][2]])
    except REFUSALS as refusal:
        reraise_fault(refusal)
        return False
    whole = torch.cat(
        [
            network.model(
                input_ids=network.to_device(source)[None],
                decoder_input_ids=torch.tensor([[*start, *text[1:]]], device=network.device),
            ).logits[:, -1]
            for source, text in ((sources[1], texts[1]), (sources[2], texts[2]))
        ]
    )
    return say_the_same(got, whole, network.dtype)
