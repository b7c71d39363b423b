"""What the driver and its workers tell each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmeval.engine.base import Costs, Scored, Usage
from lmeval.engine.parts import Units
from lmeval.errors import LmevalError
from lmeval.records import GenerationOutput, HeadOutput, ModelRecord, TokenizerRecord


@dataclass(frozen=True, slots=True)
class Facts:
    """What a worker says that it is. All but the last five must be the same of all workers."""

    lmeval: str
    engine_version: int
    versions: Mapping[str, str]  # of the engine's libraries
    libraries: Mapping[str, str]  # of others that may have a part in its numbers
    model: ModelRecord
    tokenizer: TokenizerRecord
    max_length: int
    device: str
    host: str
    pid: int
    batch_tokens: int
    path: str  # see Usage
    note: str | None


def differences(one: Facts, other: Facts) -> list[str]:
    """In what two workers differ that must not, as sentences."""
    found = []
    for name in ("lmeval", "engine_version", "max_length", "device"):
        found += _differing(name, getattr(one, name), getattr(other, name), one, other)
    for name in ("versions", "libraries"):
        mine, theirs = getattr(one, name), getattr(other, name)
        for key in sorted({*mine, *theirs}):
            found += _differing(key, mine.get(key, "missing"), theirs.get(key, "missing"), one, other)
    for name in ("model", "tokenizer"):
        mine, theirs = getattr(one, name), getattr(other, name)
        for each in fields(mine):
            label = f"the {name}'s {each.name}"
            found += _differing(label, getattr(mine, each.name), getattr(theirs, each.name), one, other)
    return found


def _differing(label: str, mine: object, theirs: object, one: Facts, other: Facts) -> list[str]:
    return [] if mine == theirs else [f"{label} is {mine} on {one.host} and {theirs} on {other.host}"]


@dataclass(frozen=True, slots=True)
class Outline:
    """A plan as the driver needs it: what to hand out, and how the answers are put together."""

    units: Units
    sizes: NDArray[np.int64] | None = (
        None  # (R,) scored tokens of each request; None: requests answered whole
    )
    truncated: NDArray[np.bool_] | None = None
    costs: Costs | None = None
    texts: Sequence[Sequence[str] | None] | None = None  # of tokens that are kept one by one


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a worker has done of a shard since its last chunk."""

    scored: Sequence[Scored] = ()
    outputs: Sequence[tuple[int, GenerationOutput | HeadOutput]] = ()
    usage: Usage = field(default_factory=Usage)  # gained since the last chunk
    pieces: Mapping[int, str] = field(default_factory=dict)  # what tokens read as that were not told before
    peak_memory_bytes: int = 0
    seconds: float = 0.0  # since the last chunk, or since the shard was taken up
    error: LmevalError | None = None  # the last chunk of a shard that cannot be done


COUNTED = (
    "tokens_requested",
    "tokens_distinct",
    "tokens_computed",
    "tokens_generated",
    "slot_steps",
)  # of a Usage: they are summed over workers; its seconds are the driver's own


def gained(before: Usage, now: Usage) -> Usage:
    """What was counted in between."""
    counts: dict[str, Any] = {name: getattr(now, name) - getattr(before, name) for name in COUNTED}
    return Usage(path=now.path, note=now.note, **counts)
