"""Run folders read back, every damage an error that says where.

A sample file is read in one pass, and held to the record: the number of documents, the hash of the documents, the
hash of what the model read. Prompts are not kept in memory: the few that are shown are read again. A metric's
statistics are computed from the samples by the code that computed its value, and held to that value.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from lmeval.errors import LmevalError, StoreError
from lmeval.metrics import MetricOptions, find_metric, statistics
from lmeval.paths import open_file
from lmeval.perturb import perturbed_name
from lmeval.records import (
    SCHEMA_VERSION,
    PerturbedRecord,
    RunRecord,
    Sample,
    TaskRecord,
    canonical_json,
    read_by_model,
)
from lmeval.runs.checks import check_value, first_finding, numbered_clusters, same_number
from lmeval.runs.reading import MAX_LINE_BYTES, RUN_AGAIN, parse_json, read_json
from lmeval.runs.stored import ScoredDocuments, StoredRun, TaskScores
from lmeval.secrets import redacted
from lmeval.stats import FloatArray

_SAMPLE = TypeAdapter(Sample)


def read_folder(file: Path) -> StoredRun:
    """The run that a run.json records.

    Raises:
        StoreError: The file is missing, damaged or of a newer schema.
    """
    return run_in(file, read_json(file))


def run_in(file: Path, value: Any) -> StoredRun:
    """The run whose run.json, as JSON values, is `value`."""
    record = parse_record(value, file)
    folder = file.parent / "samples"

    def scores(name: str, task: TaskRecord) -> TaskScores:
        return TaskScores(name, task, record, FolderSource(folder / f"{name}.jsonl", task))

    tasks = {
        name: replace(
            scores(name, task),
            perturbed={
                perturbation: scores(perturbed_name(name, perturbation), _under(task, found))
                for perturbation, found in (task.perturbed or {}).items()
            },
        )
        for name, task in record.tasks.items()
    }
    return StoredRun(file.parent, record, tasks)


def _under(task: TaskRecord, perturbed: PerturbedRecord) -> TaskRecord:
    """The record that the task would have if its perturbed documents were all there is."""
    return replace(
        task,
        metrics=perturbed.metrics,
        prompts_sha256=perturbed.prompts_sha256,
        perturbed=None,
        groups=None,
        calibration=None,
    )


def parse_record(value: Any, file: Path) -> RunRecord:
    """A run's record from JSON values; keys that are not known are passed over.

    Raises:
        StoreError: It is of a newer schema, a key is missing or a value is of a wrong type.
    """
    version = value.get("schema_version") if isinstance(value, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"The run was written by a newer lmeval: its schema is {version}, this one reads {SCHEMA_VERSION}.",
            where=str(file),
            fix="update lmeval",
        )
    if version != SCHEMA_VERSION:
        raise StoreError(f"It is no run record of schema {SCHEMA_VERSION}.", where=str(file))
    try:
        record = TypeAdapter(RunRecord).validate_python(value)
    except ValidationError as error:
        raise StoreError(first_finding(error), where=str(file), fix=RUN_AGAIN) from None
    try:
        datetime.datetime.fromisoformat(record.created)
    except ValueError:
        raise StoreError(
            f'The key "created" is {record.created!r:.60}, which is no time.', where=str(file), fix=RUN_AGAIN
        ) from None
    for name, task in record.tasks.items():
        if not task.metrics:
            raise StoreError(f'The task "{name}" has no metrics.', where=str(file), fix=RUN_AGAIN)
        for part in (name, *(task.perturbed or {})):  # they name files
            if not re.fullmatch(r"[a-z][a-z0-9_]*", part):
                raise StoreError(f"{part!r:.80} is no task name, nor a perturbation's.", where=str(file))
    return redacted(record)


@dataclass(frozen=True)
class FolderSource:
    """One task in a run folder; see stored.Source."""

    file: Path
    record: TaskRecord

    @cached_property
    def documents(self) -> ScoredDocuments:
        """The documents of the sample file."""
        samples = self._read.samples
        greedy = [sample.is_greedy for sample in samples]
        return ScoredDocuments(
            doc_ids=tuple(sample.doc_id for sample in samples),
            doc_sha256=tuple(sample.doc_sha256 for sample in samples),
            clusters=numbered_clusters([sample.cluster for sample in samples]),
            is_greedy=None if None in greedy else np.array(greedy, dtype=np.bool_),
        )

    def statistics(self, metric: str) -> FloatArray:
        """Statistics per document, computed again and held to the recorded value."""
        samples = self._read.samples
        try:
            table = statistics(metric, samples, self._options())
        except LmevalError as error:
            raise StoreError(error.what, where=self._where(error.where), fix=RUN_AGAIN) from error
        except (AssertionError, TypeError, ValueError, IndexError, KeyError) as error:
            raise StoreError(
                f'The samples lack what the metric "{metric}" is computed from: {error}.',
                where=self._where(),
                fix=RUN_AGAIN,
            ) from error
        check_value(metric, table, self.record, self._where(), RUN_AGAIN)
        self._check_scores(metric, table)
        return table

    def _options(self) -> MetricOptions:
        # the first runs did not record the options: of those tasks every other option is at its default
        return MetricOptions(**{"task_type": self.record.type, **self.record.metric_options})

    def samples(self, positions: Sequence[int]) -> list[Sample]:
        """The documents at these positions, read again with their prompts."""
        offsets = self._read.offsets
        with _open(self.file) as stream:
            return [
                _parse_sample(_line_at(stream, offsets[position]), f"{self.file}:{position + 1}")
                for position in positions
            ]

    def outcomes(self) -> list[Sample]:
        """All documents, as they were checked."""
        return self._read.samples

    @cached_property
    def _read(self) -> _SampleFile:
        return _read_samples(self.file, self.record)

    def _check_scores(self, metric: str, table: FloatArray) -> None:
        """Hold each line's own score to what is computed from it: an exchange of two lines leaves the sums alone."""
        scores_of = find_metric(metric).document_scores
        if scores_of is None:
            return
        for sample, score in zip(self._read.samples, scores_of(table).tolist(), strict=True):
            recorded = sample.scores.get(metric, score)
            if sample.predictions is None and not same_number(score, recorded):
                raise StoreError(
                    f"Document {sample.doc_id} gives {metric} = {score!r}; its line says {recorded!r}. "
                    "The line was changed.",
                    where=self._where(),
                    fix=RUN_AGAIN,
                )

    def _where(self, more: str | None = None) -> str:
        return ", ".join(filter(None, (str(self.file), more)))


@dataclass(frozen=True, slots=True)
class _SampleFile:
    samples: list[Sample]  # without what the model read, token by token or whole
    offsets: list[int]  # of each line, in bytes


class _ListHash:
    """canonical_sha256 of a list whose items come one by one."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"[")
        self._separator = b""

    def add(self, item: object) -> None:
        self._hash.update(self._separator + canonical_json(item))
        self._separator = b","

    def hexdigest(self) -> str:
        self._hash.update(b"]")
        return self._hash.hexdigest()


def _read_samples(file: Path, record: TaskRecord) -> _SampleFile:
    """The sample file of a task, held to its record."""
    documents, prompts = _ListHash(), _ListHash()
    read = _SampleFile([], [])
    offset = 0
    for number, line in enumerate(_lines(file), start=1):
        sample = _parse_sample(line, f"{file}:{number}")
        documents.add(sample.doc_sha256)
        prompts.add(read_by_model(sample))
        read.samples.append(
            replace(sample, context="", contexts=None, text=None, text_pair=None, tokens=None)
        )
        read.offsets.append(offset)
        offset += len(line)
    if len(read.samples) != record.num_documents:
        raise StoreError(
            f"The file holds {len(read.samples):,} samples; run.json says {record.num_documents:,} documents.",
            where=str(file),
            fix=RUN_AGAIN,
        )
    if documents.hexdigest() != record.dataset.documents_sha256:
        raise _changed(file, "documents are not those", "documents_sha256")
    if record.prompts_sha256 and prompts.hexdigest() != record.prompts_sha256:
        raise _changed(file, "prompts are not those", "prompts_sha256")
    if len({sample.doc_id for sample in read.samples}) != len(read.samples):
        raise StoreError("A doc_id is there twice.", where=str(file), fix=RUN_AGAIN)
    return read


def _lines(file: Path) -> Iterator[bytes]:
    with _open(file) as stream:
        for number, line in enumerate(iter(partial(stream.readline, MAX_LINE_BYTES + 1), b""), start=1):
            if len(line) > MAX_LINE_BYTES:
                raise StoreError(
                    f"A line has more than {MAX_LINE_BYTES:,} bytes: it is none of ours.",
                    where=f"{file}:{number}",
                )
            yield line


def _open(file: Path) -> BufferedReader:
    try:
        return open_file(file, StoreError)
    except StoreError as error:
        raise StoreError(
            f"The samples cannot be read: {error.what}", where=error.where, fix=RUN_AGAIN
        ) from None


def _line_at(stream: BufferedReader, offset: int) -> bytes:
    stream.seek(offset)
    return stream.readline(MAX_LINE_BYTES)


def _parse_sample(line: bytes, where: str) -> Sample:
    if not line.endswith(b"\n"):
        raise StoreError("The file ends in the middle of a line: it was cut.", where=where, fix=RUN_AGAIN)
    try:
        sample = _SAMPLE.validate_python(parse_json(line, where))
    except ValidationError as error:
        raise StoreError(first_finding(error), where=where, fix=RUN_AGAIN) from None
    if not re.fullmatch("[0-9a-f]{64}", sample.doc_sha256):
        raise StoreError(
            f"doc_sha256 is {sample.doc_sha256!r:.80}, which is no SHA-256.", where=where, fix=RUN_AGAIN
        )
    return sample


def _changed(file: Path, what: str, key: str) -> StoreError:
    return StoreError(f"The samples' {what} of run.json: {key} differs.", where=str(file), fix=RUN_AGAIN)
