"""An engine whose weights are not loaded before something is asked of it.

What it is (its record, window, budget, path) is known from an earlier run of the same files and options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from lmeval.engine.base import Engine, HeadEngine, Usage, Work
from lmeval.errors import ModelError
from lmeval.records import (
    GenerationOutput,
    GenerationRequest,
    HeadOutput,
    HeadRecord,
    HeadRequest,
    ModelRecord,
    ScoreOutput,
    ScoreRequest,
    TokenizerRecord,
)


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What is known of an engine once it was loaded."""

    model: ModelRecord
    tokenizer: TokenizerRecord
    device: str
    max_length: int
    batch_tokens: int
    versions: Mapping[str, str]
    path: str
    note: str | None

    @classmethod
    def of(cls, engine: Engine) -> EngineFacts:
        """Those of a loaded engine."""
        return cls(
            engine.model,
            engine.tokenizer,
            engine.device,
            engine.max_length,
            engine.batch_tokens,
            dict(engine.versions),
            engine.usage.path,
            engine.usage.note,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EngineFacts | None:
        """What `to_json` gave, here or in JSON; None where it is something else, as another version may have it."""
        try:
            model = dict(value["model"])
            if (head := model["head"]) is not None:
                model["head"] = HeadRecord(head["kind"], tuple(head["labels"]))
            model["remote_code"] = tuple(model["remote_code"])
            own = {"model": ModelRecord(**model), "tokenizer": TokenizerRecord(**value["tokenizer"])}
            return cls(**{**value, **own})
        except (KeyError, TypeError, AttributeError):
            return None


class DeferredEngine:
    """An engine of known facts, loaded when it is first asked. See base.Engine."""

    def __init__(self, facts: EngineFacts, load: Callable[[], Engine]) -> None:
        self.model, self.tokenizer = facts.model, facts.tokenizer
        self.device, self.max_length = facts.device, facts.max_length
        self._facts, self._load = facts, load
        self._engine: Engine | None = None
        self.usage = Usage(path=facts.path, note=facts.note)  # until the loaded engine's takes its place

    @property
    def batch_tokens(self) -> int:
        """As the loaded engine has it; until then as it was."""
        return self._facts.batch_tokens if self._engine is None else self._engine.batch_tokens

    @property
    def versions(self) -> dict[str, str]:
        """Of the libraries that compute."""
        return dict(self._facts.versions)

    @property
    def num_workers(self) -> int | None:
        """The processes that the loaded engine is on; None: this one, or none."""
        return getattr(self._engine, "num_workers", None)

    @property
    def device_map(self) -> dict[str, int] | None:
        """Where the parts of the loaded engine's model lie; None: in one place, or nowhere."""
        return getattr(self._engine, "device_map", None)

    @property
    def is_loaded(self) -> bool:
        """Something was asked."""
        return self._engine is not None

    def peak_memory_bytes(self) -> int:
        """The most memory that was held."""
        if self._engine is not None:
            return self._engine.peak_memory_bytes()
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def work(self) -> Work | None:
        """Of the loaded engine."""
        return None if self._engine is None else self._engine.work()

    def score(
        self, requests: Sequence[ScoreRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, ScoreOutput]]:
        """As the loaded engine does."""
        yield from self.loaded().score(requests, only)

    def generate(
        self, requests: Sequence[GenerationRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, GenerationOutput]]:
        """As the loaded engine does."""
        yield from self.loaded().generate(requests, only)

    def classify(
        self, requests: Sequence[HeadRequest], only: Collection[int] | None = None
    ) -> Iterator[tuple[int, HeadOutput]]:
        """As the loaded engine does."""
        engine = self.loaded()
        assert isinstance(engine, HeadEngine), "only a classifier is asked by its head"
        yield from engine.classify(requests, only)

    def loaded(self) -> Engine:
        """The engine itself.

        Raises:
            ModelError: It does not load, or is not what it was: then what was reused is another model's.
        """
        if self._engine is None:
            engine = self._load()
            if engine.model != self.model or engine.tokenizer != self.tokenizer:
                raise ModelError(
                    f"the files of {self.model.id} changed while it was run",
                    fix="wait until they are written, then run the same command again",
                )
            for field in fields(Usage):  # what was counted before is of the same run
                if isinstance(number := getattr(self.usage, field.name), int | float):
                    setattr(engine.usage, field.name, getattr(engine.usage, field.name) + number)
            if (self.usage.path, self.usage.note) != (self._facts.path, self._facts.note):
                # a resumed run knows from its journal what the engine found out about itself
                engine.usage.path, engine.usage.note = self.usage.path, self.usage.note
            self._engine, self.usage = engine, engine.usage
        return self._engine
