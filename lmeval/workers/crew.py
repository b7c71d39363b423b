"""The driver's side of the workers: it hands out shards, takes what comes, and gives what a dead worker had to others.

A worker that dies is started anew by Ray and asked what it is before it gets work again. What it died on, the first
unit that it had not delivered, becomes a shard of its own; a shard that three workers died on is set aside until all
others are done, and is then an error that names its requests.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.sources import ModelOptions
from lmeval.errors import DeviceError, LmevalError, ModelError, WorkerError
from lmeval.stopping import check, is_asked
from lmeval.workers.cluster import Share
from lmeval.workers.messages import Chunk, Facts, Outline, differences
from lmeval.workers.shards import Shard, left_of
from lmeval.workers.worker import Job, Worker

MAX_DEATHS = 3  # of workers on one shard; of one worker without a chunk in between
PLACED_SECONDS = 30.0  # a process starts in less; then a cluster that does not start any is busy
POLL_SECONDS = 1.0  # so that an interrupt is seen


@dataclass(slots=True)
class Member:
    """A worker as the driver sees it."""

    number: int
    handle: Any
    doing: str = ""  # describe | plan | run; empty: nothing
    call: Any = None  # the reference or generator that it is busy with
    shard: Shard | None = None
    facts: Facts | None = None
    deaths: int = 0  # since it last delivered
    seconds: float = 0.0  # spent on its shard, and tokens computed
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class ShardTime:
    """What a shard took."""

    job: int
    worker: int
    units: int
    tokens: int
    seconds: float


@dataclass(slots=True)
class Task:
    """A job that is under way: what is asked, what has arrived, what is yet to be handed out."""

    job: Job
    outline: Outline
    reference: Any  # of the units' numbers, for the workers
    missing: NDArray[np.bool_]  # (S,)
    shards: deque[Shard]
    aside: list[Shard] = field(default_factory=list)  # that too many workers died on


class Crew:
    """Workers of one model."""

    def __init__(self, ray: Any, options: ModelOptions, share: Share, *, others: bool = False) -> None:
        """Start the workers; the first that has the model loaded says what all must be.

        `others`: who else uses the cluster may leave it no room.
        """
        self._ray, self.share = ray, share
        self._jobs = 0
        self.times: list[ShardTime] = []
        self.plan_seconds: list[float] = []  # of each job, until its plan was here
        self.num_deaths = 0
        self.last_death = ""
        actor = ray.remote(Worker).options(
            num_cpus=share.threads,
            num_gpus=share.gpus,
            max_restarts=-1,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        self.caches = os.environ.get("LMEVAL_CACHE")  # a cluster's own processes do not know it
        given = (options, share.threads, os.getcwd(), self.caches)
        self._members = [Member(number, actor.remote(*given)) for number in range(share.num_workers)]
        self.facts: Facts | None = None
        for member in self._members:
            self._describe(member)
        placed = [member.handle.__ray_ready__.remote() for member in self._members] if others else []
        self._set_up(placed)

    def _set_up(self, placed: Sequence[Any]) -> None:
        """Wait for the first worker; saying so where the cluster may be busy with other things."""
        begin = time.perf_counter()
        has_said = not placed
        while self.facts is None:
            self._wait()
            if not has_said and time.perf_counter() - begin > PLACED_SECONDS:
                has_said = True
                if not self._ray.wait(placed, num_returns=1, timeout=0)[0]:
                    print(
                        "warning: the cluster has no room for a worker yet; waiting for it", file=sys.stderr
                    )

    def shutdown(self) -> None:
        """End the workers."""
        for member in self._members:
            self._ray.kill(member.handle, no_restart=True)
        self._members = []

    def living(self) -> list[Facts]:
        """What the workers are that have the model loaded."""
        ready = [member for member in self._members if member.doing != "describe"]
        return [member.facts for member in ready if member.facts is not None]

    def call_all(self, method: str) -> list[Any]:
        """What a method of the workers gives, of those that live."""
        calls = [getattr(m.handle, method).remote() for m in self._members if m.doing != "describe"]
        found = []
        for call in calls:
            try:
                found.append(self._ray.get(call))
            except self._ray.exceptions.RayError:
                continue
        return found

    # ---- a job from its requests to its chunks ----

    def begin(self, kind: str, requests: Sequence[Any], asked: NDArray[np.bool_]) -> tuple[Job, Outline]:
        """Give all workers the requests; the plan that the first of them has made.

        Raises:
            LmevalError: The requests cannot be asked, or no worker is left.
        """
        self._jobs += 1
        begin = time.perf_counter()
        job = Job(self._jobs, kind, (self._ray.put(list(requests)), self._ray.put(asked)))
        for member in self._members:
            # who still runs a shard of a job that was given up comes to this one after it
            if member.doing != "describe":
                self._set(member, "plan", member.handle.plan.remote(job))
        while True:
            for member, result in self._wait():
                if member.doing == "plan":
                    self._set(member)
                    self.plan_seconds.append(time.perf_counter() - begin)
                    return job, _value(result)
                self._set(member, "plan", member.handle.plan.remote(job))

    def chunks(self, task: Task) -> Iterator[Chunk]:
        """What the workers deliver of a task's shards, until all is there.

        Whoever takes a chunk removes what is in it from `task.missing` before the next.

        Raises:
            LmevalError: As the engine raised it; WorkerError where workers died of it.
            Stopped: The run was asked to stop, and every worker has delivered once more.
        """
        heard: set[int] = set()  # of whom something came since the run was asked to stop
        while task.shards or any(member.doing == "run" for member in self._members):
            if not is_asked():
                self._hand_out(task)
            elif all(member.number in heard for member in self._members if member.doing == "run"):
                check()
            for member, result in self._wait(task):
                heard |= {member.number} if is_asked() else set()
                if member.doing != "run":  # it is described, or has planned: it is ready for shards
                    self._set(member)
                elif result is not None:
                    yield result
                    self._log(member, task, result)
                else:
                    self._finished(member, task)
        if task.aside:
            raise self._fatal(task, f"{MAX_DEATHS} workers died on the same requests")

    def _hand_out(self, task: Task) -> None:
        for member in self._members:
            if task.shards and not member.doing:
                shard = task.shards.popleft()
                call = member.handle.run.options(num_returns="streaming")
                self._set(member, "run", call.remote(task.job, shard, task.reference), shard)

    def _finished(self, member: Member, task: Task) -> None:
        """A shard came to its end; what it did not deliver after all is handed out again."""
        shard = member.shard
        assert shard is not None
        task.shards.extendleft(left_of(shard, task.outline.units, task.missing))
        self.times.append(
            ShardTime(task.job.number, member.number, shard.end - shard.first, member.tokens, member.seconds)
        )
        self._set(member)

    def _log(self, member: Member, task: Task, chunk: Chunk) -> None:
        member.deaths = 0
        member.seconds += chunk.seconds
        member.tokens += chunk.usage.tokens_computed

    # ---- one event ----

    def _set(self, member: Member, doing: str = "", call: Any = None, shard: Shard | None = None) -> None:
        member.doing, member.call, member.shard = doing, call, shard
        member.seconds, member.tokens = 0.0, 0

    def _describe(self, member: Member) -> None:
        batch_tokens = None if self.facts is None else self.facts.batch_tokens
        self._set(member, "describe", member.handle.describe.remote(batch_tokens))

    def _wait(self, task: Task | None = None) -> list[tuple[Member, Any]]:
        """What happened next: each with the member that it happened to; None is the end of a shard.

        Deaths, and what members say of themselves, are dealt with here.
        """
        busy = [member for member in self._members if member.doing]
        if not busy:
            raise self._none_left(task)
        calls = [member.call for member in busy]
        ready, _ = self._ray.wait(calls, num_returns=1, timeout=POLL_SECONDS, fetch_local=False)
        events = []
        for member in busy:
            if not any(member.call is call for call in ready):
                continue
            try:
                result = self._take(member)
            except self._ray.exceptions.RayError as error:
                self._lost(member, error, task)
                continue
            if isinstance(result, Chunk) and isinstance(result.error, DeviceError):
                self._ray.kill(member.handle, no_restart=False)  # a process whose device failed is of no use
                self._lost(member, result.error, task)
            elif member.doing == "describe":
                if self._is_one_of_us(member, result):
                    events.append((member, result))
            else:
                events.append((member, result))
        return events

    def _take(self, member: Member) -> Any:
        if member.doing != "run":
            return self._ray.get(member.call)
        try:
            chunk: Chunk = self._ray.get(next(member.call))
        except StopIteration:
            return None
        if chunk.error is not None and not isinstance(chunk.error, DeviceError):
            raise chunk.error
        return chunk

    # ---- who is a member, and who is no longer ----

    def _is_one_of_us(self, member: Member, found: Facts | LmevalError) -> bool:
        """Whether a member that said what it is may work; one that cannot load again what it had is given up."""
        if isinstance(found, LmevalError):
            if member.facts is None or self.facts is None:
                raise found
            self._give_up(member)
            return False
        if self.facts is None:
            self.facts = found
        differing = differences(self.facts, found)
        if differing:
            raise ModelError(
                f"the workers are not alike: {differing[0]}"
                + (f" (and {len(differing) - 1} more differences)" if len(differing) > 1 else ""),
                fix="have the same files at the same path, and the same versions, on all machines",
            )
        member.facts = found
        if found.batch_tokens != self.facts.batch_tokens:
            self._describe(member)
            return False
        return True

    def _lost(self, member: Member, error: Exception, task: Task | None) -> None:
        """A member died, or cannot go on: what it had is for others, and it is started anew."""
        member.deaths += 1
        self.num_deaths += 1
        self.last_death = _reason(error)
        if self.num_deaths == 1:
            print(
                f"warning: a worker died ({self.last_death}); what it had is given to others", file=sys.stderr
            )
        if task is not None and member.shard is not None:
            for shard in left_of(member.shard, task.outline.units, task.missing):
                if shard.deaths >= MAX_DEATHS:
                    task.aside.append(shard)
                elif shard.deaths:
                    task.shards.append(
                        shard
                    )  # at the end, so that all else is done and kept if it kills again
                else:
                    task.shards.appendleft(shard)
        if isinstance(error, self._ray.exceptions.RayTaskError):
            self._ray.kill(member.handle, no_restart=False)
        if member.deaths > MAX_DEATHS:
            self._give_up(member)
        else:
            self._describe(member)

    def _give_up(self, member: Member) -> None:
        self._members.remove(member)
        self._ray.kill(member.handle, no_restart=True)

    def _none_left(self, task: Task | None) -> WorkerError:
        why = f"no worker is left: {self.last_death}" if self.last_death else "no worker started"
        return self._fatal(task, why)

    def _fatal(self, task: Task | None, why: str) -> WorkerError:
        """An error that names the requests that workers died on."""
        error = WorkerError(
            why if self.last_death in why else f"{why}: {self.last_death}",
            fix="what was finished is kept: run the same command again; with a smaller --batch-tokens where memory "
            "ran out, or without --workers to see what is wrong",
        )
        if task is not None:
            suspects = [*task.aside, *(shard for shard in task.shards if shard.deaths)]
            error.indices = requests_of(task, suspects)
        return error


def requests_of(task: Task, shards: Sequence[Shard]) -> tuple[int, ...]:
    """The requests that have something missing in some shards."""
    of, inside = task.outline.units.of, np.zeros(len(task.missing), dtype=bool)
    for shard in shards:
        inside |= (of >= shard.first) & (of < shard.end)
    places = np.flatnonzero(inside & task.missing)
    if task.outline.sizes is not None:
        places = np.unique(np.searchsorted(np.cumsum(task.outline.sizes), places, side="right"))
    return tuple(places.tolist())


def _value(result: Outline | LmevalError) -> Outline:
    if isinstance(result, LmevalError):
        raise result
    return result


def _reason(error: Exception) -> str:
    """Why a worker is gone, in a line, from Ray's pages about it."""
    text = str(error)
    if "memory" in type(error).__name__.lower() or "OOM" in text.partition("Some common causes")[0]:
        return "its machine ran out of memory"
    if isinstance(error, DeviceError):
        return str(error.what)
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {str(cause).strip().splitlines()[0][:200] if str(cause) else ''}"
    if "ModuleNotFoundError" in text or "ImportError" in text:
        return next(line.strip()[:200] for line in text.splitlines() if "Error" in line)
    return "its process or its machine was lost"
