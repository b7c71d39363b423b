"""The baseline file: a run for comparisons, small enough to commit, with nothing rounded.

    {"lmeval_baseline": 1,      the format
     "run": {...},              run.json as it was
     "history": [...],          whom this run replaced, the latest first
     "tables": {task: {...}},   what is known of each document, packed
     "anchor": {...} | null,    a second run of the same shape, which stays while baselines follow each other
     "sha256": "..."}           of all the rest

What people review stands on top as JSON; a task's table is a block of its own, so that a change of one task leaves the
others' lines alone. A table keeps of every document its id, the first eight digits of its hash, its cluster and the
statistics of every metric, each distinct column once, as float64: a comparison gives the same numbers as from the run
folder, to the last digit. The whole hash of all documents decides whether two runs are of the same ones; the eight
digits only say which differ. Columns are packed byte by byte (all first bytes, then all second ones, ...), since sums
of float32 log-probabilities share most of their bytes; then by bzip2, whose output has not changed since 2000, so that
the same run gives the same file on every machine; then as base64, which survives any change of line ends.
"""

from __future__ import annotations

import base64
import binascii
import bz2
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from lmeval.errors import StoreError
from lmeval.records import RunRecord, Sample, TaskRecord, canonical_sha256
from lmeval.runs.checks import check_value, first_finding
from lmeval.runs.folder import parse_record
from lmeval.runs.stored import ScoredDocuments, StoredRun, TaskScores
from lmeval.stats import FloatArray

MARK = "lmeval_baseline"
FORMAT_VERSION = 1
HASH_DIGITS = 8
MAX_COLUMNS = 100_000
MAX_TABLE_BYTES = 2**32
LINE_CHARACTERS = 100
_DAMAGED = "restore it from version control, or write it again with `lmeval baseline save`"


@dataclass(frozen=True, slots=True)
class Table:
    """A task's block."""

    num_columns: int  # distinct columns of statistics
    metrics: Mapping[str, tuple[int, ...]]  # which of them each metric has
    data: tuple[str, ...]  # base64 of bzip2 of the columns, in lines


@dataclass(frozen=True, slots=True)
class BaselineFile:
    """The file's keys but for the mark and the checksum."""

    run: Mapping[str, Any]
    tables: Mapping[str, Table]
    history: tuple[Mapping[str, Any], ...] = ()
    anchor: BaselineFile | None = None


# ---- writing ----


def compact(run: StoredRun) -> dict[str, Any]:
    """A run's part of the file: its record and its tables.

    Raises:
        StoreError: Samples are damaged.
    """
    return {"run": run.record.to_json(), "tables": {name: _table(task) for name, task in run.tasks.items()}}


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """The file's value: mark, content, checksum."""
    value = {MARK: FORMAT_VERSION, **content}
    return {**value, "sha256": canonical_sha256(value)}


def _table(task: TaskScores) -> dict[str, Any]:
    columns: dict[bytes, int] = {}
    metrics = {}
    for name, metric in task.metrics.items():
        if metric.interval is not None:
            packed = [_packed(column) for column in np.ascontiguousarray(metric.statistics.T, dtype="<f8")]
            metrics[name] = [columns.setdefault(column, len(columns)) for column in packed]
    data = b"".join([*map(_packed, _document_columns(task)), *columns])
    text = base64.b64encode(bz2.compress(data, 9)).decode("ascii")
    lines = [text[at : at + LINE_CHARACTERS] for at in range(0, len(text), LINE_CHARACTERS)]
    return {"num_columns": len(columns), "metrics": metrics, "data": lines}


def _document_columns(task: TaskScores) -> Iterator[npt.NDArray[Any]]:
    """Steps of doc_id, first digits of the hash, cluster (-1: none), is_greedy (-1: no such thing)."""
    yield np.diff(np.array(task.doc_ids, dtype="<i8"), prepend=np.int64(0)).astype("<i8")
    yield np.array([int(sha[:HASH_DIGITS], 16) for sha in task.doc_sha256], dtype="<u4")
    yield np.array([-1 if cluster is None else int(cluster) for cluster in task.clusters], dtype="<i4")
    greedy = task.is_greedy
    yield np.full(task.num_documents, -1, dtype="<i1") if greedy is None else greedy.astype("<i1")


def _packed(column: npt.NDArray[Any]) -> bytes:
    """All first bytes of the values, then all second ones, and so on."""
    return column.view(np.uint8).reshape(len(column), -1).T.tobytes()


# ---- reading ----


def read_baseline(value: Mapping[str, Any], path: Path) -> StoredRun:
    """The run of a baseline file, given as JSON values.

    Raises:
        StoreError: It is of a newer format, was cut or edited.
    """
    version = value[MARK]
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StoreError(
            f"The baseline was written by a newer lmeval: its format is {version}, this one reads {FORMAT_VERSION}.",
            where=str(path),
            fix="update lmeval",
        )
    rest = {key: part for key, part in value.items() if key != "sha256"}
    if version != FORMAT_VERSION or value.get("sha256") != canonical_sha256(rest):
        raise StoreError(
            "The baseline file was changed after it was written: its checksum differs.",
            where=str(path),
            fix=_DAMAGED,
        )
    try:
        content = TypeAdapter(BaselineFile).validate_python(value)
    except ValidationError as error:
        raise StoreError(first_finding(error), where=str(path), fix=_DAMAGED) from None
    return _stored(content, path)


def _stored(content: BaselineFile, path: Path) -> StoredRun:
    record = parse_record(content.run, path)
    if set(record.tasks) != set(content.tables):
        raise StoreError("The tasks of its record and of its tables differ.", where=str(path), fix=_DAMAGED)
    tasks = {name: _scores(name, record, content.tables[name], path) for name in record.tasks}
    anchor = None if content.anchor is None else _stored(content.anchor, path)
    return StoredRun(path, record, tasks, history=content.history, anchor=anchor)


def _scores(name: str, record: RunRecord, table: Table, path: Path) -> TaskScores:
    task = record.tasks[name]
    return TaskScores(name, task, record, TableSource(table, task, f"{path}, task {name}"))


@dataclass(frozen=True)
class TableSource:
    """One task of a baseline file; see stored.Source."""

    table: Table
    record: TaskRecord
    where: str

    @cached_property
    def documents(self) -> ScoredDocuments:
        """The documents; of each hash the first digits."""
        columns = self._columns
        clusters, greedy = columns[2].tolist(), columns[3]
        return ScoredDocuments(
            doc_ids=tuple(np.cumsum(columns[0]).tolist()),
            doc_sha256=tuple(f"{digits:0{HASH_DIGITS}x}" for digits in columns[1].tolist()),
            clusters=tuple(None if cluster < 0 else str(cluster) for cluster in clusters),
            is_greedy=None if (greedy < 0).any() else greedy.astype(np.bool_),
        )

    def statistics(self, metric: str) -> FloatArray:
        """Statistics per document, held to the recorded value."""
        indices = self.table.metrics.get(metric)
        if not indices or not all(0 <= index < self.table.num_columns for index in indices):
            raise self._error(f'There are no statistics of "{metric}".')
        table = np.column_stack([self._columns[4 + index] for index in indices]).astype(np.float64)
        check_value(metric, table, self.record, self.where, _DAMAGED)
        return table

    def samples(self, positions: Sequence[int]) -> list[Sample] | None:
        """None: a baseline file keeps no prompts."""
        return None

    def outcomes(self) -> list[Sample] | None:
        """None: nor does it keep what was answered."""
        return None

    @cached_property
    def _columns(self) -> list[npt.NDArray[Any]]:
        n = self.record.num_documents
        if not (n >= 0 and 0 <= self.table.num_columns <= MAX_COLUMNS):
            raise self._error(f"It has {n:,} documents and {self.table.num_columns:,} columns.")
        kinds = [np.dtype(kind) for kind in ("<i8", "<u4", "<i4", "<i1", *["<f8"] * self.table.num_columns)]
        data = self._unpack(n * sum(kind.itemsize for kind in kinds))
        columns, at = [], 0
        for kind in kinds:
            size = n * kind.itemsize
            by_byte = np.frombuffer(data, np.uint8, size, at).reshape(kind.itemsize, n)
            columns.append(np.ascontiguousarray(by_byte.T).view(kind).reshape(n))
            at += size
        return columns

    def _unpack(self, size: int) -> bytes:
        """The block's bytes; never more than it should hold, whatever it was packed from."""
        try:
            packed = base64.b64decode("".join(self.table.data), validate=True)
            # four random bytes of every document's hash do not shrink; zeros shrink by a factor of thousands
            if size > min(MAX_TABLE_BYTES, max(2**28, 256 * len(packed))):
                raise self._error(f"The table would hold {size:,} bytes: it is none of ours.")
            data = bz2.BZ2Decompressor().decompress(packed, size + 1)
        except (binascii.Error, OSError, ValueError, EOFError) as error:
            raise self._error(f"The table cannot be unpacked: {error}.") from None
        if len(data) != size:
            raise self._error(f"The table holds {len(data):,} bytes; {size:,} are needed.")
        return data

    def _error(self, what: str) -> StoreError:
        return StoreError(what, where=self.where, fix=_DAMAGED)
