"""Finished runs made by hand: folders with run.json and samples, as `lmeval run` leaves them, from given outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lmeval.metrics import MetricOptions, compute
from lmeval.records import (
    DatasetRecord,
    EfficiencyRecord,
    ModelRecord,
    RunRecord,
    RuntimeRecord,
    Sample,
    TaskRecord,
    TokenizerRecord,
    canonical_sha256,
    read_by_model,
)
from lmeval.store import finish_run


@dataclass(frozen=True)
class Task:
    """A task's samples and which metrics they are scored by."""

    type: str
    metrics: tuple[str, ...]
    samples: Sequence[Sample]
    changes: Mapping[str, Any] = field(default_factory=dict)  # to its TaskRecord


def chosen(right: Sequence[bool], clusters: Sequence[str] | None = None, **changes: Any) -> Task:
    """A classification task: whether each document was answered right."""
    samples = [
        Sample(
            i,
            canonical_sha256(["chosen", i]),
            context=f"Is {i} a number? | `{i}`\n",
            choices=(" yes", " no"),
            label=0,
            loglikelihood=(-1.0, -2.0) if is_right else (-2.0, -1.0),
            num_tokens=(1, 1),
            num_bytes=(4, 3),
            prediction=0 if is_right else 1,
            cluster=clusters[i] if clusters else None,
        )
        for i, is_right in enumerate(right)
    ]
    return Task("classification", ("acc", "macro_f1"), samples, changes)


def read(nats: Sequence[float], num_bytes: int = 100, **changes: Any) -> Task:
    """A perplexity task: the nats of each text."""
    samples = [
        Sample(
            i,
            canonical_sha256(["read", i]),
            target=f"Text {i}",
            loglikelihood=-value,
            num_tokens=20,
            num_bytes=num_bytes,
            num_words=10,
        )
        for i, value in enumerate(nats)
    ]
    return Task("perplexity", ("word_ppl", "bits_per_byte"), samples, changes)


def written(texts: Sequence[str], references: Sequence[str], **changes: Any) -> Task:
    """A translation task."""
    samples = [
        Sample(
            i,
            canonical_sha256(["written", i]),
            context=f"Translate {i}:",
            references=(reference,),
            prediction=text,
            num_tokens=5,
        )
        for i, (text, reference) in enumerate(zip(texts, references, strict=True))
    ]
    return Task("translation", ("bleu", "chrf"), samples, changes)


def task_record(task: Task) -> tuple[TaskRecord, list[Sample]]:
    """The record of a task, and its samples with each document's own scores."""
    options = MetricOptions(task_type=task.type)
    metrics, scores = {}, [dict[str, float]() for _ in task.samples]
    for name in task.metrics:
        metrics[name], own = compute(name, task.samples, options, 0)
        for document, score in zip(scores, own or (), strict=False):
            document[name] = score
    record = TaskRecord(
        version=1,
        task_sha256=canonical_sha256(["task", task.type]),
        type=task.type,
        num_fewshot=0,
        num_documents=len(task.samples),
        limit=None,
        dataset=DatasetRecord(
            path="made/up",
            name=None,
            split="test",
            revision=None,
            documents_sha256=canonical_sha256([sample.doc_sha256 for sample in task.samples]),
            num_available=len(task.samples),
        ),
        counts={"truncated": 0, "errors": 0, "reused": 0},
        metrics=metrics,
        metric_options=asdict(options),
        prompts_sha256=canonical_sha256([read_by_model(sample) for sample in task.samples]),
    )
    samples = [replace(sample, scores=own) for sample, own in zip(task.samples, scores, strict=True)]
    return replace(record, **task.changes), samples


def finished_run(
    folder: Path,
    tasks: Mapping[str, Task],
    *,
    skipped: Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> Path:
    """Write a run folder; its model's weights are told apart by the folder's name."""
    parts = {name: task_record(task) for name, task in tasks.items()}
    record = RunRecord(
        run_id=folder.name,
        created="2026-01-01T00:00:00+00:00",
        command="lmeval run",
        model=ModelRecord("made-up", None, "causal", "Toy", 1000, canonical_sha256(folder.name), "float32"),
        tokenizer=TokenizerRecord("made-up", canonical_sha256("tokenizer"), False),
        runtime=RuntimeRecord("0", None, "3.12", "2", "5", "cpu", 0, 512, 256),
        efficiency=EfficiencyRecord(seconds, seconds, 1000, 900, 900, 15.0, 10**6, "packed"),
        tasks={name: record for name, (record, _) in parts.items()},
        skipped=skipped or {},
    )
    folder.mkdir(parents=True)
    finish_run(folder, record, {name: samples for name, (_, samples) in parts.items()})
    return folder


def flags(n: int, wrong: Sequence[int] = ()) -> list[bool]:
    """n documents answered right but for those numbered."""
    missed = set(wrong)
    return [i not in missed for i in range(n)]
