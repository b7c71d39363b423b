"""An engine whose work is done by workers. See base.Engine.

It plans nothing and holds no weights. Its seconds are wall time while workers work, its counts are summed over them,
and its memory is that of the worker that held most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.base import Scored, Stopwatch, Usage, Work
from lmeval.engine.chosen import chosen_mask
from lmeval.engine.parts import ScorePlan
from lmeval.engine.pieces import KeptTokens
from lmeval.engine.sources import ModelOptions
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
from lmeval.workers.cluster import join, nodes_of, share_out
from lmeval.workers.crew import Crew, Task
from lmeval.workers.messages import COUNTED, Chunk, Outline
from lmeval.workers.shards import cut_shards
from lmeval.workers.worker import Job

LEAST_TEXTS = 16  # that a shard has written: rows that end leave slots idle, until the next shard
TEXT_SHARES = 1.5  # for the same reason shards of texts are larger


class WorkersEngine:
    """A model on `num_workers` workers."""

    def __init__(self, options: ModelOptions, num_workers: int | None, address: str | None = None) -> None:
        """Start the workers, or have a cluster start them; back when the first has loaded the model.

        Raises:
            LmevalError: There is no Ray or no cluster, too little of it, or the model does not load.
        """
        ray = join(address, num_workers or 1)
        share = share_out(nodes_of(ray), num_workers, options.device)
        own = replace(options, device=share.device, workers=None, ray_address=None)
        self.crew = Crew(ray, own, share, others=address is not None)
        self._ray, self.num_workers = ray, share.num_workers
        facts = self.crew.facts
        assert facts is not None
        self.model: ModelRecord = facts.model
        self.tokenizer: TokenizerRecord = facts.tokenizer
        self.device, self.max_length = facts.device, facts.max_length
        self.versions = dict(facts.versions)
        self.batch_tokens = facts.batch_tokens
        self.usage = Usage(path=facts.path, note=facts.note)
        self._peak_memory_bytes = 0

    def peak_memory_bytes(self) -> int:
        """The most memory that one worker held."""
        return self._peak_memory_bytes

    def work(self) -> Work | None:
        """Of all workers together, their rates measured at the same time."""
        found: list[Work | None] = self.crew.call_all("work")
        known = [work for work in found if work is not None]
        if not known or len(known) < len(found):
            return None
        return Work(sum(work.flops for work in known), sum(work.matrix_rate for work in known))

    def score(
        self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, ScoreOutput]]:
        """Log-likelihoods, each request's as soon as its last token is there, whoever scored it."""
        asked = chosen_mask(only, len(requests))
        job, outline = self.crew.begin("score", requests, asked)
        assert outline.sizes is not None and outline.truncated is not None and outline.costs is not None
        pieces: dict[int, str] = {}
        task = self._task(job, outline, np.repeat(asked, outline.sizes))
        plan = ScorePlan(
            sizes=outline.sizes.tolist(),
            truncated=outline.truncated.tolist(),
            ranked=[request.rank for request in requests],
            costs=outline.costs,
            kept=None if outline.texts is None else KeptTokens(outline.texts, pieces.__getitem__),
            run=lambda wanted: self._scored(task, pieces),
            units=lambda: outline.units,
        )
        yield from plan.ask(self.usage, asked)

    def generate(
        self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """Continuations of the requests' contexts."""
        for index, output, seconds in self._answers("generate", requests, only):
            self.usage.seconds_generating += seconds
            yield index, output

    def classify(
        self, requests: Sequence[HeadRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, HeadOutput]]:
        """A head's logits; see base.HeadEngine."""
        for index, output, _ in self._answers("classify", requests, only):
            yield index, output

    def _answers(
        self, kind: str, requests: Sequence[Any], only: Collection[int] | None
    ) -> Iterator[tuple[int, Any, float]]:
        """Outputs by index, and the seconds since the one before."""
        asked = chosen_mask(only, len(requests))
        job, outline = self.crew.begin(kind, requests, asked)
        shape = {"least_asked": LEAST_TEXTS, "shares": TEXT_SHARES} if kind == "generate" else {}
        task = self._task(job, outline, asked, **shape)
        watch = Stopwatch()
        for chunk in watch.time(self.crew.chunks(task)):
            seconds = watch.lap()
            self._count(chunk)
            self.usage.seconds_model += seconds
            for index, output in chunk.outputs:
                if task.missing[index]:
                    task.missing[index] = False
                    yield index, output, seconds
                    seconds = 0.0

    def _task(self, job: Job, outline: Outline, missing: NDArray[np.bool_], **shape: Any) -> Task:
        units = outline.units
        shards = cut_shards(units, missing, self.num_workers, **shape)
        asked = np.bincount(units.of[missing], minlength=len(units.tokens)) > 0
        self.usage.tokens_planned += int(units.tokens[asked].sum())
        return Task(job, outline, self._ray.put(units.of), missing.copy(), deque(shards))

    def _scored(self, task: Task, pieces: dict[int, str]) -> Iterator[Scored]:
        """Scored tokens as they arrive, each once: a shard that was run again may bring some twice."""
        for chunk in self.crew.chunks(task):
            self._count(chunk)
            pieces |= chunk.pieces
            for part in chunk.scored:
                fresh = task.missing[part.slots]
                if not fresh.all():
                    part = _of_slots(part, fresh)
                task.missing[part.slots] = False
                if len(part.slots):
                    yield part

    def _count(self, chunk: Chunk) -> None:
        for name in COUNTED:
            setattr(self.usage, name, getattr(self.usage, name) + getattr(chunk.usage, name))
        if chunk.usage.path != self.usage.path or chunk.usage.note:
            self.usage.path, self.usage.note = chunk.usage.path, chunk.usage.note
        self._peak_memory_bytes = max(self._peak_memory_bytes, chunk.peak_memory_bytes)


def _of_slots(part: Scored, chosen: NDArray[np.bool_]) -> Scored:
    """The chosen (Q,) of some scored tokens."""
    columns: list[Any] = [None if column is None else column[chosen] for column in part]
    return Scored(*columns)
