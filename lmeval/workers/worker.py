"""A worker: the actor that holds a copy of the model and runs shards of plans.

Ray starts it anew where its process died; it then knows nothing, and is told again. Errors of ours are handed back
as values: raised, they would come wrapped in Ray's own.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmeval.errors import LmevalError
from lmeval.workers.messages import Chunk, Facts, Outline, gained
from lmeval.workers.shards import Shard

if TYPE_CHECKING:
    from lmeval.engine.base import Scored, Work
    from lmeval.engine.parts import ScorePlan
    from lmeval.engine.sources import ModelOptions

PLANNED_BY = {"score": "plan_scores", "generate": "write_units", "classify": "text_units"}
CHUNK_SECONDS = 0.5  # outputs are sent this often: what a killed driver loses


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of all workers; `number` tells one job from the next."""

    number: int
    kind: str  # score | generate | classify
    box: tuple[
        Any, ...
    ]  # references, kept from being resolved with each call: requests, and what of it is asked


@dataclass(slots=True)
class OpenJob:
    """A job whose requests are here."""

    number: int
    requests: Any
    asked: NDArray[np.bool_]  # (R,)
    plan: ScorePlan | None = None
    slots: NDArray[np.bool_] | None = None  # (S,) scored tokens that are asked
    told: set[int] = field(default_factory=set)  # tokens whose pieces the driver knows


class Worker:
    """See crew for who calls what, when."""

    def __init__(self, options: ModelOptions, threads: int, folder: str, caches: str | None) -> None:
        """Take what to load, and do nothing: what fails here could not be told as an error of ours."""
        # before torch is imported: oneDNN and OpenMP read it once, and Ray sets it to what it thinks best
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if caches is not None:
            os.environ["LMEVAL_CACHE"] = caches
        if Path(folder).is_dir():  # relative paths of models mean the same as for the driver
            os.chdir(folder)
        self.options, self.threads = options, threads
        self.engine: Any = None
        self.job: OpenJob | None = None

    def describe(self, batch_tokens: int | None) -> Facts | LmevalError:
        """Load the model, unless it is there; what it is. With `batch_tokens` rows are cut by them."""
        try:
            if self.engine is None:
                self.engine = self._load()
        except LmevalError as error:
            return _on_this_machine(error)
        if batch_tokens is not None:
            self._cut_by(batch_tokens)
        import lmeval
        from lmeval.engine import ENGINE_VERSION
        from lmeval.keys import libraries

        engine = self.engine
        return Facts(
            lmeval=lmeval.__version__,
            engine_version=ENGINE_VERSION,
            versions=engine.versions,
            libraries=libraries(engine.model),
            model=engine.model,
            tokenizer=engine.tokenizer,
            max_length=engine.max_length,
            device=engine.device.partition(":")[0],
            host=socket.gethostname(),
            pid=os.getpid(),
            batch_tokens=engine.batch_tokens,
            path=engine.usage.path,
            note=engine.usage.note,
        )

    def _load(self) -> Any:
        from lmeval.engine.devices import use_threads
        from lmeval.engine.kinds import load_config
        from lmeval.engine.loading import load_encoder, load_engine
        from lmeval.engine.sources import convert_gguf, find_model

        use_threads(self.threads)
        source = find_model(self.options)
        if source.folder is None:
            source = convert_gguf(source)
        encoder = load_encoder(source, self.options)
        return load_engine(source, load_config(source, self.options), encoder, self.options)

    def _cut_by(self, batch_tokens: int) -> None:
        # those of one size on all workers: so rows, and with them the last bits of scores, are the same on all
        owner = getattr(self.engine, "scorer", self.engine)
        owner.batch_tokens = batch_tokens

    def work(self) -> Work | None:
        """Matrix products done here, and this device's rate."""
        found: Work | None = self.engine.work()
        return found

    def plan(self, job: Job) -> Outline | LmevalError:
        """Plan a job's requests."""
        try:
            if not hasattr(self.engine, PLANNED_BY[job.kind]):  # it says itself that it cannot
                list(getattr(self.engine, job.kind)([]))
            opened = self._open(job)
            if job.kind == "score":
                plan = opened.plan
                assert plan is not None
                return Outline(
                    units=plan.units(),
                    sizes=np.array(plan.sizes, dtype=np.int64),
                    truncated=np.array(plan.truncated, dtype=bool),
                    costs=plan.costs,
                    texts=None if plan.kept is None else plan.kept.texts,
                )
            return Outline(units=getattr(self.engine, PLANNED_BY[job.kind])(opened.requests))
        except LmevalError as error:
            self.job = None
            return error

    def _open(self, job: Job) -> OpenJob:
        if self.job is None or self.job.number != job.number:
            import ray

            self.job = None  # what the last one kept is given back first
            requests, asked = (ray.get(reference) for reference in job.box)
            opened = OpenJob(job.number, requests, asked)
            if job.kind == "score":
                opened.plan = self.engine.plan_scores(requests)
                opened.slots = np.repeat(asked, opened.plan.sizes)
            self.job = opened
        return self.job

    def run(self, job: Job, shard: Shard, of: NDArray[np.int32]) -> Iterator[Chunk]:
        """Chunks of a shard's outputs as they come. `of` (S,) says what the driver's units are."""
        usage, begin = replace(self.engine.usage), time.perf_counter()

        def chunk(**content: Any) -> Chunk:
            nonlocal usage, begin
            now, end = replace(self.engine.usage), time.perf_counter()
            counted, seconds = gained(usage, now), end - begin
            usage, begin = now, end
            memory = self.engine.peak_memory_bytes()
            return Chunk(usage=counted, seconds=seconds, peak_memory_bytes=memory, **content)

        from lmeval.engine.memory import told_apart

        try:
            with told_apart(self.engine.device, lambda: int(self.engine.batch_tokens)):
                opened = self._open(job)
                inside = (of >= shard.first) & (of < shard.end)
                run = self._scored if job.kind == "score" else self._answered
                yield from run(job, opened, inside, chunk)
        except LmevalError as error:
            self.job = None
            yield chunk(error=error)

    def _scored(
        self, job: Job, opened: OpenJob, inside: NDArray[np.bool_], chunk: Callable[..., Chunk]
    ) -> Iterator[Chunk]:
        assert opened.plan is not None and opened.slots is not None
        held: list[Scored] = []
        sent = time.perf_counter()
        for part in opened.plan.run(inside & opened.slots):
            held.append(part)
            if time.perf_counter() - sent > CHUNK_SECONDS:
                yield chunk(scored=held, pieces=self._pieces(held, opened))
                held, sent = [], time.perf_counter()
        yield chunk(scored=held, pieces=self._pieces(held, opened))

    def _pieces(self, parts: list[Scored], opened: OpenJob) -> dict[int, str]:
        """What the alternatives in some parts read as that the driver was not told yet."""
        assert opened.plan is not None
        kept = opened.plan.kept
        if kept is None:
            return {}
        ids = {int(i) for part in parts if part.top_ids is not None for i in np.unique(part.top_ids)}
        new = ids - opened.told
        opened.told |= new
        return {i: kept.piece(i) for i in new}

    def _answered(
        self, job: Job, opened: OpenJob, inside: NDArray[np.bool_], chunk: Callable[..., Chunk]
    ) -> Iterator[Chunk]:
        ask = self.engine.generate if job.kind == "generate" else self.engine.classify
        held: list[Any] = []
        sent = time.perf_counter()
        for answer in ask(opened.requests, only=np.flatnonzero(inside & opened.asked).tolist()):
            held.append(answer)
            if time.perf_counter() - sent > CHUNK_SECONDS:
                yield chunk(outputs=held)
                held, sent = [], time.perf_counter()
        yield chunk(outputs=held)


def _on_this_machine(error: LmevalError) -> LmevalError:
    """The same, saying where: another machine may lack what the user's own has."""
    host = f"machine {socket.gethostname()}"
    return type(error)(error.what, where=f"{error.where}, {host}" if error.where else host, fix=error.fix)
