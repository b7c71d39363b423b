"""Likelihoods from a causal model: packed rows of the prefix forest, or length-sorted batches (the plain path).

Position t of a causal model predicts token t + 1: the node that holds input t answers the query for token t + 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from lmeval import stopping
from lmeval.engine.attention import can_be_handed
from lmeval.engine.base import Costs, Scored, Usage
from lmeval.engine.causal_windows import Window
from lmeval.engine.chosen import WHOLE, Mask, Use, until_last, uses_of_rows
from lmeval.engine.memory import attempt, reraise_fault
from lmeval.engine.network import Network, Picked
from lmeval.engine.parts import Units, batch_units
from lmeval.engine.plan import Forest, Row, build_forest, cut_rows, tokens_requested
from lmeval.engine.proof import REFUSALS
from lmeval.engine.rows import (
    carry,
    depends_on_length,
    packed_reach,
    passed_by,
    rewind,
    roomy_cache,
    row_hidden,
)

Int = NDArray[np.int64]
OnDevice = tuple[Int, Picked]  # slots and what was picked for them: not yet read back

CHAIN_TOKENS = 8192  # the longest row without a mask, where attention is the model's own
# mean difference of a token on the proof; on a 135M model in bfloat16 it was 0.05 where the paths agree (0.02 between
# two plain batches) and 1.5 under a mask that lets branches see each other
PROOF_TOLERANCE_NATS = {torch.float32: 1e-4, torch.float64: 1e-4}
PROOF_TOLERANCE_HALF_NATS = 0.15
PROOF_ROW = 20  # nodes; each row reads all weights, so few of them


def _no_nodes() -> Int:
    return np.empty(0, dtype=np.int64)


@dataclass(slots=True)
class Walk:
    """How far the rows of a forest have come, so that who asks for later ones goes on with the open path."""

    begin: int = 0  # the first node of the next row
    path: Int = field(default_factory=_no_nodes)  # its ancestors
    held: Int = field(default_factory=_no_nodes)  # those of them that the cache holds
    cache: DynamicCache | None = None

    def restart(self) -> None:
        """Back to the first row."""
        self.begin, self.path, self.held, self.cache = 0, _no_nodes(), _no_nodes(), None


class CausalScorer:
    """Scores token windows with a causal network, by the packed path where the model can take it."""

    def __init__(self, network: Network, batch_tokens: int, usage: Usage) -> None:
        self.network = network
        self.batch_tokens = batch_tokens
        self.chain_tokens = CHAIN_TOKENS
        self.usage = usage
        self.same_length = depends_on_length(network.model.config)
        self.reach, usage.note = packed_reach(network.model.config)
        # on an accelerator the mask stays dense: there the many small calls of blocks were not measured
        self.in_blocks = network.device.type == "cpu" and can_be_handed(network)
        if usage.note is None:
            usage.note = self._prove()
        elif network.is_split:
            network.prove_split()
        usage.path = "plain" if usage.note else "packed"

    @property
    def chain_budget(self) -> int:
        """Tokens of a row that branches nowhere: in blocks, a long one is no cheaper than its parts."""
        return self.batch_tokens if self.in_blocks else self.chain_tokens

    def _prove(self) -> str | None:
        """Find how packed rows are exact; None, or why they are not in any way."""
        note = prove_packed(self)
        if note is None:
            return None
        self.network.prove_split()  # it may have been taken on trust
        for in_blocks in (True, False) if self.in_blocks else (False,):
            self.in_blocks = in_blocks
            note = prove_packed(self)
            if note is None:
                break
        return note

    def score(
        self,
        windows: Sequence[Window],
        forest: Forest,
        top: int = 0,
        wanted: Mask | None = None,
        walk: Walk | None = None,
    ) -> Iterator[Scored]:
        """Scores of the windows' tokens, part by part; slots number them window by window, as in their forest.

        Ranks and `top` alternatives come with them where `top` is not 0. Where only some slots are `wanted` (S,),
        only the parts that they need are run. A `walk` that is handed in again goes on where it stopped.
        """
        if wanted is not None and wanted.all():
            wanted = None
        if self._settle_path(windows) == "packed":
            walk = walk or Walk()
            if wanted is not None and _first_node(forest, wanted) < walk.begin:
                walk.restart()
            self.usage.tokens_planned += self._row_tokens(forest, wanted, walk)
            parts = self._packed(forest, top, wanted, walk)
        else:
            batches = list(self._batches(windows, self._groups(windows), wanted, forest.slots))
            self.usage.tokens_planned += sum(len(batch) * width for batch, width, runs in batches if runs)
            parts = self._plain(windows, forest.slots, top, wanted)
        for slots, picked in _one_behind(parts):
            yield picked.read_back(slots)

    def _settle_path(self, windows: Sequence[Window]) -> str:
        longest = max((len(w.ids) - 1 for w in windows), default=0)
        if self.usage.path == "packed" and longest > self.reach:
            self.usage.path, self.usage.note = (
                "plain",
                f"windows of {longest} tokens outreach a layer's attention",
            )
        return self.usage.path

    def units(self, windows: Sequence[Window], forest: Forest) -> Units:
        """The rows or batches, and the scored tokens of each."""
        if self._settle_path(windows) == "packed":
            return row_units(forest, list(cut_rows(forest, self.batch_tokens, self.chain_budget)))
        slots = forest.slots
        batches = [
            (np.concatenate([np.arange(slots[w], slots[w + 1]) for group in batch for w in group]), width)
            for batch, width, _ in self._batches(windows, self._groups(windows), None, slots)
        ]
        return batch_units(int(slots[-1]), batches)

    def _packed(
        self, forest: Forest, top: int = 0, wanted: Mask | None = None, walk: Walk | None = None
    ) -> Iterator[OnDevice]:
        walk = walk or Walk()
        most = 1 + int(forest.depths.max(initial=0))  # of a row that branches nowhere and its path
        while walk.begin < len(forest):
            cut = partial(cut_rows, forest, self.batch_tokens, self.chain_budget, walk.begin, walk.path)
            uses: Iterable[Use] = (
                repeat(WHOLE) if wanted is None else until_last(uses_of_rows(forest, cut(), wanted))
            )
            for use, row in zip(uses, cut(), strict=False):
                if not use.runs:
                    walk.cache, walk.held = passed_by(walk.cache, walk.held, row)
                    walk.begin, walk.path = row.end, row.next_path
                    continue
                assert np.array_equal(walk.held, row.path)
                is_last = not len(row.next_path)  # nothing of its path, nor of itself, is needed any more
                if walk.cache is None and not is_last:
                    walk.cache = roomy_cache(most if row.is_chain else most + self.batch_tokens)
                cache = None if is_last and not len(row.path) else walk.cache
                done = attempt(
                    partial(self._run_row, forest, row, cache, top, use.scores),
                    partial(self.halve_rows, row.end - row.begin),
                )
                if done is None:
                    walk.cache = rewind(walk.cache, len(row.path)) if len(row.path) else None
                    break
                (scored,) = done
                if walk.cache is not None:
                    walk.cache = rewind(walk.cache, 0) if is_last else carry(walk.cache, row)
                walk.begin, walk.path, walk.held = row.end, row.next_path, row.next_path
                if scored is not None:
                    yield scored
            else:
                return

    def halve_rows(self, size: int) -> bool:
        """Cut rows to half of `size` at the most; False where that leaves none."""
        half = size // 2
        if half < 1:
            return False
        # both: a long row without a mask is not held to batch_tokens
        self.batch_tokens = min(self.batch_tokens, half)
        self.chain_tokens = min(self.chain_tokens, half)
        return True

    def _halve_batch(self, count: int, width: int) -> bool:
        if count == 1:  # a text alone is not cut: what is left to lower is what its head takes
            return self.network.halve_head()
        self.batch_tokens = max(1, count * width // 2)
        return True

    def _row_tokens(self, forest: Forest, wanted: Mask | None, walk: Walk) -> int:
        """Nodes of the rows that will run."""
        if wanted is None:
            return len(forest) - walk.begin
        cut = partial(cut_rows, forest, self.batch_tokens, self.chain_budget, walk.begin, walk.path)
        uses = uses_of_rows(forest, cut(), wanted)
        return sum(row.end - row.begin for row, use in zip(cut(), uses, strict=True) if use.runs)

    @torch.inference_mode()
    def _run_row(
        self, forest: Forest, row: Row, cache: DynamicCache | None, top: int, scores: bool
    ) -> tuple[OnDevice | None]:
        hidden = row_hidden(self.network, forest, row, cache, in_blocks=self.in_blocks)
        self.usage.tokens_computed += row.end - row.begin
        low, high = np.searchsorted(forest.query_node, (row.begin, row.end))
        scored = None
        if scores and high > low:
            nodes, query = np.unique(forest.query_node[low:high], return_inverse=True)
            picked = self.network.score_positions(
                hidden, nodes - row.begin, query, forest.query_token[low:high], top
            )
            scored = (forest.query_slot[low:high], picked)
        return (scored,)

    def _plain(
        self, windows: Sequence[Window], slots: Int, top: int = 0, wanted: Mask | None = None
    ) -> Iterator[OnDevice]:
        """Right-padded batches, longest first; windows with the same input run once.

        Causal attention and recurrence never look right, so the padding needs no mask. A rotary base that depends
        on the row's length does feel it: such models get rows of one length.
        """
        groups, done = self._groups(windows), 0
        while done < len(groups):
            for batch, width, runs in self._batches(windows, groups[done:], wanted, slots):
                if runs:
                    scored = attempt(
                        partial(self._run_batch, windows, batch, width, slots, top),
                        partial(self._halve_batch, len(batch), width),
                    )
                    if scored is None:
                        break
                    yield scored
                done += len(batch)

    def _groups(self, windows: Sequence[Window]) -> list[list[int]]:
        """The windows of each distinct input, longest first."""
        inputs: dict[bytes, list[int]] = {}
        for w, window in enumerate(windows):
            inputs.setdefault(window.ids[:-1].tobytes(), []).append(w)
        return sorted(inputs.values(), key=lambda group: len(windows[group[0]].ids), reverse=True)

    def _batches(
        self, windows: Sequence[Window], groups: Sequence[list[int]], wanted: Mask | None, slots: Int
    ) -> Iterator[tuple[Sequence[list[int]], int, bool]]:
        """Batches of inputs, the width of each, and whether it is run: it is where one of its slots is wanted."""
        done = 0
        while done < len(groups):
            width = len(windows[groups[done][0]].ids) - 1
            batch = groups[done : done + max(1, self.batch_tokens // max(1, width))]
            if self.same_length:
                batch = [group for group in batch if len(windows[group[0]].ids) - 1 == width]
            own = [w for group in batch for w in group]
            yield batch, width, wanted is None or any(wanted[slots[w] : slots[w + 1]].any() for w in own)
            done += len(batch)

    @torch.inference_mode()
    def _run_batch(
        self, windows: Sequence[Window], batch: Sequence[Sequence[int]], width: int, slots: Int, top: int
    ) -> OnDevice:
        tokens = np.zeros((len(batch), width), dtype=np.int64)
        for line, group in enumerate(batch):
            ids = windows[group[0]].ids[:-1]
            tokens[line, : len(ids)] = ids
        cells, targets, where = [], [], []
        for line, group in enumerate(batch):
            for w in group:
                ids, start = windows[w].ids, windows[w].start
                cells.append(line * width + np.arange(start - 1, len(ids) - 1))
                targets.append(ids[start:])
                where.append(np.arange(slots[w], slots[w + 1]))
        cell = np.concatenate(cells)
        order = np.argsort(cell, kind="stable")
        positions, query = np.unique(cell[order], return_inverse=True)
        target, slot = np.concatenate(targets)[order], np.concatenate(where)[order]
        self.usage.tokens_computed += tokens.size
        inputs = {"input_ids": self.network.to_device(tokens)}
        return slot, self.network.score_cells(inputs, positions, query, target, top)


def _first_node(forest: Forest, wanted: Mask) -> int:
    """The first node that a wanted slot (S,) asks."""
    asked = np.flatnonzero(wanted[forest.query_slot])
    return int(forest.query_node[asked[0]]) if len(asked) else len(forest)


def row_units(forest: Forest, rows: Sequence[Row]) -> Units:
    """Rows as units: each scored token belongs to the row that answers it."""
    ends = np.array([row.end for row in rows], dtype=np.int64)
    tokens = np.diff(ends, prepend=0)
    of = np.empty(len(forest.query_slot), dtype=np.int32)
    of[forest.query_slot] = np.searchsorted(ends, forest.query_node, side="right")
    owners = [np.unique(np.searchsorted(ends, row.path, side="right")) for row in rows]
    return Units(of, tokens, np.array([int(tokens[own].sum()) for own in owners], dtype=np.int64))


def scoring_costs(per_request: Sequence[Sequence[Window]], forest: Forest) -> Costs:
    """What each request's windows count for; a window sent by itself has all its tokens as inputs but the last."""
    owner = np.repeat(np.arange(len(per_request)), [len(own) for own in per_request])
    distinct = np.zeros(len(per_request), dtype=np.int64)
    np.add.at(distinct, owner, forest.fresh)
    requested = [tokens_requested(own) for own in per_request]
    return Costs(np.array(requested, dtype=np.int64), distinct)


def _one_behind(parts: Iterable[OnDevice]) -> Iterator[OnDevice]:
    """Hold each part back until the next has been handed to the device, so that reading it waits for nothing.

    Where the next one fails for good, what is held is given first.
    """
    held: OnDevice | None = None
    iterator = iter(parts)
    while True:
        try:
            part = next(iterator, None)
        except (Exception, stopping.Stopped):
            if held is not None:
                yield held
            raise
        if held is not None:
            yield held
        if part is None:
            return
        held = part


def prove_packed(scorer: CausalScorer) -> str | None:
    """Run a few short requests packed, and plain through the whole model; None where they agree, else what is wrong.

    The plain side does not split the model in body and head, so that the split is proved too.
    """
    network, usage = scorer.network, scorer.usage
    if not network.is_split:
        return "the model's head could not be told from its body"
    windows, forest = _proof_windows(network)
    budget, body, computed = scorer.batch_tokens, network.body, usage.tokens_computed
    try:
        scorer.batch_tokens = PROOF_ROW  # short enough to branch and to carry an open path
        packed = _collected(scorer._packed(forest), int(forest.slots[-1]))
        scorer.batch_tokens, network.body = 1024, None
        plain = _collected(scorer._plain(windows, forest.slots), int(forest.slots[-1]))
    except REFUSALS as error:
        reraise_fault(error)
        return f"packed rows are refused by the model ({type(error).__name__})"
    finally:
        scorer.batch_tokens, network.body, usage.tokens_computed = budget, body, computed
    difference = float(np.abs(packed - plain).mean())
    tolerance = PROOF_TOLERANCE_NATS.get(network.dtype, PROOF_TOLERANCE_HALF_NATS)
    if difference <= tolerance:
        return None
    return f"packed and plain scores differ by {difference:.2g} nats a token on the proof"


def _collected(parts: Iterable[OnDevice], size: int) -> NDArray[np.float64]:
    values = np.zeros(size)
    for slots, picked in parts:
        values[slots] = picked.values.double().cpu().numpy()
    return values


def _proof_windows(network: Network) -> tuple[list[Window], Forest]:
    """Seven windows with shared prefixes, branches and a carried path, of seeded random tokens."""
    vocabulary = int(network.model.config.get_text_config().vocab_size)
    tokens = np.random.default_rng(0).integers(0, vocabulary, size=(9, 6)).astype(np.int32)
    shared, branch = tokens[0], tokens[1][:3]
    windows = [Window(np.concatenate([shared, branch, tokens[i][:4]]), 4) for i in range(2, 5)]
    windows += [Window(np.concatenate([shared, tokens[i]]), 6) for i in range(5, 7)]
    windows += [Window(tokens[i], 1) for i in range(7, 9)]
    return windows, build_forest(windows)
