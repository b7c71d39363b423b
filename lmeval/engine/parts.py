"""Requests planned apart from running them, so that parts of one plan can be run in different places.

What is run at once, a packed row or a batch, is a unit. A part is a range of units; which scored tokens are in it is
said by the tokens' slots, so that a part is the same wherever its plan was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.base import Costs, Scored, Usage, assemble
from lmeval.engine.chosen import Mask
from lmeval.engine.pieces import KeptTokens
from lmeval.records import GenerationRequest, ScoreOutput

P = TypeVar("P")
Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Units:
    """The U units of a plan, in the order in which they run, for the S things that it asks: tokens, or texts."""

    of: NDArray[np.int32]  # (S,) the unit of each
    tokens: Int  # (U,) that a unit computes
    lead: Int  # (U,) that are computed once more where a part begins with this unit: what it hangs on


def batch_units(count: int, batches: Sequence[tuple[Sequence[int] | Int, int]]) -> Units:
    """Units that hang on nothing: what each asks, of `count` things in all, and the tokens that it computes."""
    of = np.zeros(count, dtype=np.int32)
    for number, (own, _) in enumerate(batches):
        of[own] = number
    tokens = np.array([size for _, size in batches], dtype=np.int64)
    return Units(of, tokens, np.zeros(len(batches), dtype=np.int64))


def text_units(
    prompts: Sequence[NDArray[np.int32]], fresh: Int, requests: Sequence[GenerationRequest]
) -> Units:
    """Distinct prompts as units, in an order in which those that begin alike are neighbours.

    Args:
        prompts: (R,) of the texts to be written.
        fresh: (R,) tokens that reading each adds to reading those before it.
        requests: (R,) they say how much may be written.
    """
    keys = [prompt.astype(">u4").tobytes() for prompt in prompts]
    own: dict[bytes, list[int]] = {}
    for index in sorted(range(len(keys)), key=keys.__getitem__):
        own.setdefault(keys[index], []).append(index)
    return batch_units(
        len(prompts),
        [(group, sum(int(fresh[i]) + requests[i].max_new_tokens for i in group)) for group in own.values()],
    )


@dataclass(frozen=True, slots=True)
class ScorePlan:
    """R requests that own S scored tokens, their slots numbered request by request."""

    sizes: Sequence[int]  # (R,) slots of each
    truncated: Sequence[bool]  # (R,) whether its context was cut
    ranked: Sequence[bool]  # (R,) whether it asks for the worst rank of its tokens
    costs: Costs
    kept: KeptTokens | None  # the texts of tokens that are to be kept one by one
    run: Callable[
        [Mask], Iterator[Scored]
    ]  # scores of the slots (S,) that are wanted; others may come with them
    units: Callable[[], Units]

    def answers(
        self, parts: Iterator[Scored], usage: Usage, wanted: Mask
    ) -> Iterator[tuple[int, ScoreOutput]]:
        """Scored tokens put together to the outputs of the requests that are `wanted` (R,); see `assemble`."""
        yield from assemble(
            parts,
            self.sizes,
            self.truncated,
            usage,
            self.kept,
            ranked=self.ranked,
            costs=self.costs,
            wanted=wanted,
        )

    def ask(self, usage: Usage, wanted: Mask) -> Iterator[tuple[int, ScoreOutput]]:
        """Run what the `wanted` (R,) requests need, and answer them."""
        yield from self.answers(self.run(np.repeat(wanted, self.sizes)), usage, wanted)


class LastPlan(Generic[P]):
    """The plan of the requests that were asked last: who asks more of the same need not wait for it again."""

    def __init__(self) -> None:
        self._requests: object = None
        self._plan: P | None = None

    def of(self, requests: object, make: Callable[[], P]) -> P:
        """Their plan, made where they are not the very object that was asked last."""
        if self._plan is None or self._requests is not requests:
            self._requests = self._plan = None  # else two plans would be in memory at once
            self._plan = make()
            self._requests = requests
        return self._plan
