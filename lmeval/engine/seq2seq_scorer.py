"""Likelihoods of targets from an encoder-decoder.

A context is encoded once for all its targets, in every document that asks it, and so is what stands before each of
them: the decoder reads it into a key/value cache (of the encoder's states too) that the targets' rows take over. The
first token of every target is predicted from there, so targets of one token need no row of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import EncoderDecoderCache

from lmeval.engine.base import Costs, Scored, Usage
from lmeval.engine.chosen import Mask
from lmeval.engine.encoder_decoder import EncoderDecoder, new_cache, padded, select_rows
from lmeval.engine.memory import attempt
from lmeval.engine.parts import Units, batch_units
from lmeval.engine.targets import Pair, Tokens
from lmeval.engine.tokenization import Ids

Int = NDArray[np.int64]


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
