"""An output for every request: from a cache, from the journal of a run that was stopped, or from the engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from lmeval.engine.base import Engine, HeadEngine
from lmeval.engine.memory import told_apart
from lmeval.errors import NOT_FINITE, NumericError, RequestError, WorkerError
from lmeval.journal import Journal
from lmeval.keys import request_keys
from lmeval.listener import Listener
from lmeval.records import GenerationRequest, HeadRequest, ScoreOutput, ScoreRequest
from lmeval.requests import Output, Request
from lmeval.stopping import finishing_batches
from lmeval.store import Outputs

R = TypeVar("R", ScoreRequest, GenerationRequest, HeadRequest)


def ask_all(
    requests: Sequence[Request], engine: Engine, stores: Sequence[Outputs], listener: Listener, stage: str
) -> tuple[list[Output], int]:
    """An output for every request, and how many came from the caches among the stores."""
    keys = request_keys(engine, requests) if stores else []
    journal = next((store for store in stores if isinstance(store, Journal)), None)
    caches = [store for store in stores if store is not journal]
    before = None if journal is None else journal.begin(keys, engine.usage)
    done: dict[int, Output] = {} if before is None else before.done
    given: dict[int, Output] = {}
    if before is None or not before.has_begun:
        given = _look_up(caches, keys, done)
        done |= given
        if before is not None:
            before.give(given)
    listener.begin(stage, len(requests))
    for _ in done:
        listener.advance()
    left = frozenset(i for i in range(len(requests)) if i not in done)
    try:
        with finishing_batches():
            for index, answer in _run(requests, left, engine):
                output = (
                    answer if _is_finite(answer) else _asked_alone(requests[index], index, answer, engine)
                )
                done[index] = output
                if before is not None:
                    before.put(index, output, engine.usage)
                for cache in caches:
                    cache.put(keys[index], output)
                listener.advance(engine.usage)
    finally:
        for store in stores:
            store.commit()
    if before is not None:
        before.end(engine.usage)
    reused = len(given) if before is None else before.num_given
    return [done[i] for i in range(len(requests))], reused


def _look_up(caches: Sequence[Outputs], keys: Sequence[str], done: Mapping[int, Output]) -> dict[int, Output]:
    """What the caches have of the requests that are not done, by index."""
    found: dict[str, Output] = {}
    for cache in caches:
        found |= cache.get(
            dict.fromkeys(key for i, key in enumerate(keys) if i not in done and key not in found)
        )
    return {i: found[key] for i, key in enumerate(keys) if i not in done and key in found}


def _run(
    requests: Sequence[Request], chosen: Collection[int], engine: Engine
) -> Iterator[tuple[int, Output]]:
    """The engine's outputs with the index of their request among all."""
    score = [(i, r) for i, r in enumerate(requests) if isinstance(r, ScoreRequest)]
    write = [(i, r) for i, r in enumerate(requests) if isinstance(r, GenerationRequest)]
    with told_apart(engine.device, lambda: engine.batch_tokens):
        yield from _numbered(engine.score, score, chosen)
        yield from _numbered(engine.generate, write, chosen)
        if isinstance(engine, HeadEngine):
            ask = [(i, r) for i, r in enumerate(requests) if isinstance(r, HeadRequest)]
            yield from _numbered(engine.classify, ask, chosen)


def _numbered(
    ask: Callable[..., Iterator[tuple[int, Output]]],
    requests: Sequence[tuple[int, R]],
    chosen: Collection[int],
) -> Iterator[tuple[int, Output]]:
    """Ask all requests of a kind, or only some: then those are planned as in a run that asks all."""
    only = [place for place, (index, _) in enumerate(requests) if index in chosen]
    if not only:
        return
    try:
        options = {} if len(only) == len(requests) else {"only": only}
        for place, output in ask([request for _, request in requests], **options):
            yield requests[place][0], output
    except (RequestError, NumericError) as error:
        error.index = None if error.index is None else requests[error.index][0]
        raise
    except WorkerError as error:
        error.indices = tuple(requests[place][0] for place in error.indices)
        raise


def _is_finite(output: Output) -> bool:
    """False for a likelihood that is no number."""
    return not isinstance(output, ScoreOutput) or math.isfinite(output.loglikelihood)


def _asked_alone(request: Request, index: int, given: Output, engine: Engine) -> Output:
    """The output of a request by itself, where it is no number among others: what is none spoils its row.

    Raises:
        NumericError: It is no number by itself either. Nothing that follows could make up for it.
    """
    output = given
    if isinstance(request, ScoreRequest) and getattr(engine, "num_workers", None) is None:
        ((_, output),) = engine.score([request])
    if not _is_finite(output):
        assert isinstance(output, ScoreOutput)
        error = NumericError(f"the log-likelihood is {output.loglikelihood}", fix=NOT_FINITE)
        error.index = index
        raise error
    return output
