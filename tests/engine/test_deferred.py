"""Engines that are loaded when they are first asked."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from lmeval.engine.base import Usage
from lmeval.engine.deferred import DeferredEngine, EngineFacts
from lmeval.engine.table import TableEngine
from lmeval.errors import ModelError
from lmeval.records import GenerationRequest, HeadRecord, ScoreOutput, ScoreRequest

ASKED = [ScoreRequest("", "a"), ScoreRequest("", "b c")]


def engine() -> TableEngine:
    made = TableEngine(lambda request: (-1.0, len(request.target.split()), True), lambda request: "text")
    made.model = replace(made.model, head=HeadRecord("classes", ("no", "yes")), step=3)
    return made


def test_facts_come_back_from_json() -> None:
    facts = EngineFacts.of(engine())
    assert EngineFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


@pytest.mark.parametrize("change", ["model", "head", "unknown", "missing", "list"])
def test_facts_of_another_version_are_none(change: str) -> None:
    value: Any = EngineFacts.of(engine()).to_json()
    if change == "model":
        value["model"]["colour"] = "blue"
    elif change == "head":
        value["model"]["head"] = {"kind": "classes"}
    elif change == "unknown":
        value["colour"] = "blue"
    elif change == "missing":
        del value["window" if "window" in value else "max_length"]
    else:
        value = []
    assert EngineFacts.from_json(value) is None


def test_it_is_loaded_once_and_when_asked() -> None:
    loads = []

    def load() -> TableEngine:
        loads.append(1)
        return engine()

    deferred = DeferredEngine(EngineFacts.of(engine()), load)
    real = engine()
    for name in ("model", "tokenizer", "device", "max_length", "batch_tokens", "versions"):
        assert getattr(deferred, name) == getattr(real, name)
    assert deferred.work() is None and deferred.peak_memory_bytes() > 0
    assert deferred.usage == Usage(note=real.usage.note) and loads == [] and not deferred.is_loaded
    assert dict(deferred.score(ASKED)) == {0: ScoreOutput(-1.0, True, 1), 1: ScoreOutput(-1.0, True, 2)}
    assert dict(deferred.score(ASKED, [1])) == {1: ScoreOutput(-1.0, True, 2)}
    assert next(iter(deferred.generate([GenerationRequest("", (), 1)])))[1].text == "text"
    assert loads == [1] and deferred.is_loaded and deferred.peak_memory_bytes() == 0
    assert deferred.usage.tokens_requested == 6


def test_what_was_counted_before_it_was_loaded_counts() -> None:
    deferred = DeferredEngine(EngineFacts.of(engine()), engine)
    deferred.usage.tokens_requested, deferred.usage.seconds_model = 100, 2.5
    list(deferred.score(ASKED))
    assert asdict(deferred.usage) | {"note": ""} == asdict(Usage(2.5, 103, 3, 3, note=""))


def test_one_that_is_not_what_it_was_is_refused() -> None:
    facts = EngineFacts.of(engine())
    deferred = DeferredEngine(replace(facts, model=replace(facts.model, weights_sha256="f" * 64)), engine)
    with pytest.raises(ModelError, match="changed while it was run") as error:
        list(deferred.score(ASKED))
    assert error.value.fix is not None and "run the same command again" in error.value.fix
