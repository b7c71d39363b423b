"""What an engine is: it scores and writes, and counts what that cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.chosen import Mask
from lmeval.engine.pieces import KeptTokens
from lmeval.engine.tokenization import Ids, TextEncoder
from lmeval.errors import NumericError, RequestError
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

T = TypeVar("T")


class Scored(NamedTuple):
    """Q scored tokens; the last three where a request keeps its tokens."""

    slots: NDArray[np.int64]
    values: NDArray[np.float64]  # log-probabilities in nats
    greedy: NDArray[np.bool_]  # each is the argmax
    ranks: NDArray[np.int64] | None = None  # 1: the argmax
    top_ids: NDArray[np.int64] | None = None  # (Q, K) the likeliest tokens
    top_values: NDArray[np.float32] | None = None  # (Q, K)


@dataclass(slots=True)
class Usage:
    """Running totals of an engine's work; see EfficiencyRecord for the terms."""

    seconds_model: float = 0.0
    tokens_requested: int = 0
    tokens_distinct: int = 0
    tokens_computed: int = 0
    tokens_generated: int = 0
    tokens_planned: int = 0  # to be computed by the scoring calls that have begun, if memory never runs out
    seconds_generating: float = 0.0
    slot_steps: int = 0  # rows that decoding steps ran, live or not; 1 / occupancy of tokens_generated
    path: str = "plain"
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A model's matrix products."""

    flops: float  # done so far with its weights, two for each multiply and add
    matrix_rate: float  # of such products alone, per second, on this device and in this precision


class Engine(Protocol):
    """A loaded model. Outputs come as they are done, each with the index of its request."""

    model: ModelRecord
    tokenizer: TokenizerRecord
    device: str
    max_length: int
    usage: Usage

    @property
    def batch_tokens(self) -> int:
        """The token budget of a row or batch; it shrinks where the device runs out of memory."""
        ...

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries that compute, by name; torch and transformers among them."""
        ...

    def peak_memory_bytes(self) -> int:
        """The most memory that was held: the device's where it is a GPU, else this process's."""
        ...

    def work(self) -> Work | None:
        """The matrix products done, and the device's rate, which is measured now; None where not known."""
        ...

    def score(
        self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, ScoreOutput]]:
        """Log-likelihoods of the requests' targets, in any order.

        Args:
            requests: All that a task asks: rows and batches are planned for them.
            only: Indices of those that are answered and counted; what of the plan they need is run. None: all.

        Raises:
            RequestError: A request that cannot be asked (its `index` says which), before any is computed.
        """
        ...

    def generate(
        self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """Continuations of the requests' contexts, in any order; of those in `only`, if given.

        Raises:
            RequestError: As for `score`.
        """
        ...


@runtime_checkable
class HeadEngine(Protocol):
    """What an engine with a fine-tuned head can do beside."""

    def classify(
        self, requests: Sequence[HeadRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, HeadOutput]]:
        """The head's logits of the requests' texts, in any order; for `only` see `Engine.score`.

        Raises:
            RequestError: As for `Engine.score`.
        """
        ...


def renumbered(outputs: Iterable[tuple[int, T]], indices: Sequence[int]) -> Iterator[tuple[int, T]]:
    """Outputs of a part of the requests by their index among all; so is what an error is about."""
    try:
        for place, output in outputs:
            yield indices[place], output
    except NumericError as error:
        error.index = None if error.index is None else indices[error.index]
        raise


def known(
    items: Iterable[T], encoder: TextEncoder, ids_of: Callable[[T], Iterable[Sequence[int] | Ids]]
) -> Iterator[T]:
    """`items`, one a request, whose tokens the model all knows.

    Raises:
        RequestError: It does not know one.
    """
    for item in items:
        for ids in ids_of(item):
            encoder.require_known(ids)
        yield item


def collect(items: Iterable[T]) -> list[T]:
    """All of `items`, one a request; a RequestError raised on the way learns the index of its request."""
    done: list[T] = []
    try:
        for item in items:
            done.append(item)
    except RequestError as error:
        error.index = len(done) if error.index is None else error.index
        raise
    return done


class Costs(NamedTuple):
    """What each of R requests counts for, so that requests asked apart count as much as together."""

    requested: NDArray[np.int64]  # (R,) tokens
    distinct: NDArray[np.int64]  # (R,) tokens that it adds to those of the requests planned before it

    def add_to(self, usage: Usage, index: int) -> None:
        """Count a request that is done."""
        usage.tokens_requested += int(self.requested[index])
        usage.tokens_distinct += int(self.distinct[index])


def assemble(
    parts: Iterable[Scored],
    sizes: Sequence[int],
    truncated: Sequence[bool],
    usage: Usage,
    kept: KeptTokens | None = None,
    *,
    ranked: Sequence[bool],
    costs: Costs,
    wanted: Mask,
) -> Iterator[tuple[int, ScoreOutput]]:
    """Put scored tokens together to requests' outputs, each as soon as its last token is there.

    Args:
        parts: Scored tokens in any order; request i owns the `sizes[i]` slots that follow those of request i - 1.
        sizes: Scored tokens of each request.
        truncated: Whether a request's context was cut.
        usage: Gains the seconds that `parts` took, and the costs of the requests that are done.
        kept: Holds the texts of the tokens that are to be kept one by one.
        ranked: Whether a request asks for the worst rank of its tokens.
        costs: Of the requests.
        wanted: Whether a request is asked; what comes of others is passed over.
    """
    ends = np.cumsum(sizes)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    left = np.array(sizes, dtype=np.int64)
    values, greedy = np.empty(len(owner)), np.empty(len(owner), dtype=bool)
    ranks = np.zeros(len(owner), dtype=np.int64)
    watch = Stopwatch()
    for part in watch.time(parts):
        usage.seconds_model += watch.lap()
        slots = part.slots
        values[slots], greedy[slots] = part.values, part.greedy
        if part.ranks is not None:
            ranks[slots] = part.ranks
        if kept is not None:
            assert part.ranks is not None and part.top_ids is not None and part.top_values is not None
            kept.add(slots, part.ranks, part.top_ids, part.top_values)
        touched, counts = np.unique(owner[slots], return_counts=True)
        left[touched] -= counts
        for index in touched[left[touched] == 0].tolist():
            if not wanted[index]:
                continue
            own = slice(int(ends[index]) - sizes[index], int(ends[index]))
            total = float(values[own].sum())  # in slot order, so that it does not depend on the parts
            tokens = None if kept is None else kept.take(index, own.start, values[own].tolist())
            rank = int(ranks[own].max()) if ranked[index] else None
            is_greedy = bool(greedy[own].all())
            costs.add_to(usage, index)
            yield index, ScoreOutput(total, is_greedy, sizes[index], truncated[index], rank, tokens)


class Stopwatch:
    """Wall seconds spent inside an iterator's own work, not in its consumer's."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def lap(self) -> float:
        """Seconds since the last lap."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def time(self, items: Iterable[T]) -> Iterator[T]:
        """`items`; the time until each arrives is counted."""
        iterator = iter(items)
        while True:
            begin = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._seconds += time.perf_counter() - begin
            yield item
