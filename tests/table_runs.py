"""Finished runs of canned answers, made by the way that every run takes: evaluate, run_record, finish_run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmeval.engine.table import TableEngine
from lmeval.evaluate import evaluate
from lmeval.prepare import PreparedTask
from lmeval.records import GenerationRequest, ScoreRequest
from lmeval.run_record import run_record
from lmeval.store import finish_run

WORDS = ["one", "two", "three", "four", "five", "1,234", "=", "-3", "Paris", "noon", "Rain", "fell.", "Ada"]


def _draw(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6])


def random_engine(name: str, *, model_type: str = "causal") -> TableEngine:
    """Answers that look drawn at random, the same ones for one name."""

    def score(request: ScoreRequest) -> tuple[float, int, bool]:
        draw = _draw(name, request.context, request.target)
        num_tokens = max(1, len(request.target) // 4)
        return -(draw % 10**9) / 10**8 / 3, num_tokens, draw % 2 == 0

    def text(request: GenerationRequest) -> str:
        return " ".join(WORDS[_draw(name, request.context, place) % len(WORDS)] for place in range(4))

    return TableEngine(score, text, name=name, model_type=model_type)


def table_run(
    folder: Path, tasks: Sequence[PreparedTask], engine: TableEngine | None = None, **changes: Any
) -> Path:
    """Evaluate the tasks and write the run folder, whose name is the run's id."""
    engine = engine or random_engine(folder.name)
    records, samples = {}, {}
    for task in tasks:
        records[task.spec.name], samples[task.spec.name] = evaluate(task, engine)
    record = run_record(
        engine, records, run_id=folder.name, command="lmeval run", seed=0, seconds_total=1.0, skipped={}
    )
    folder.mkdir(parents=True)
    finish_run(folder, record, samples)
    return folder
