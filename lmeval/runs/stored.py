"""A finished run as comparisons read it: per task the documents, and per metric their statistics.

Nothing per document is read before it is asked for. Where it comes from, a sample file or a block of a baseline
file, is a `Source`; what is read from either is the same, to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lmeval.errors import NotComparableError, UsageError
from lmeval.metrics import PLUGIN_PREFIX, find_metric
from lmeval.metrics.base import Interval, Metric
from lmeval.records import MetricValue, RunRecord, Sample, TaskRecord
from lmeval.stats import Aggregate, Distance, FloatArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScoredDocuments:
    """The documents of a task in the order they were scored."""

    doc_ids: tuple[int, ...]
    doc_sha256: tuple[str, ...]  # a baseline file keeps the first digits only
    clusters: tuple[str | None, ...]  # documents of one value are not independent; None: on its own
    is_greedy: BoolArray | None  # cloze without choices: the target is what the model would write


class Source(Protocol):
    """Where one task of a run is kept."""

    @property
    def documents(self) -> ScoredDocuments:
        """The documents, checked against the hashes of the record."""
        ...

    def statistics(self, metric: str) -> FloatArray:
        """Statistics per document, shape (n, K), checked against the value of the record."""
        ...

    def samples(self, positions: Sequence[int]) -> list[Sample] | None:
        """The documents at these positions with prompt and outcome; None where those are not kept."""
        ...

    def outcomes(self) -> Sequence[Sample] | None:
        """All documents without prompts and tokens; None where they are not kept."""
        ...


@dataclass(frozen=True)
class MetricScores:
    """One metric of a task.

    An opaque metric (`interval` None) has a value but no statistics: it cannot be compared pair by pair.
    """

    name: str
    record: MetricValue
    source: Source

    @property
    def value(self) -> float:
        """The metric of the whole task."""
        return self.record.value

    @property
    def unit(self) -> str:
        """What `value` is counted in."""
        return self.record.unit

    @property
    def higher_is_better(self) -> bool:
        """Which way is up."""
        return self.record.higher_is_better

    @property
    def ideal(self) -> float | None:
        """The best value, where neither more nor less of it is better; the first runs did not record it."""
        known = self.metric.ideal if self.metric else None
        return self.record.ideal if known is None else known

    @property
    def signature(self) -> str:
        """How it was computed."""
        return self.record.signature

    @cached_property
    def metric(self) -> Metric | None:
        """How this version of lmeval computes it; None for an opaque metric."""
        try:
            return find_metric(self.name)
        except UsageError:
            return None

    @property
    def interval(self) -> Interval | None:
        """The kind of its statistics, see metrics.base; None for an opaque metric."""
        return self.metric.interval if self.metric else None

    @property
    def distance(self) -> Distance | None:
        """What makes the metric a distance, if it is one."""
        return self.metric.distance if self.metric else None

    @property
    def opaque_because(self) -> str | None:
        """Why it has no statistics; None where it has."""
        if self.metric is not None:
            return None
        if self.name.startswith(PLUGIN_PREFIX):
            return "a metric of the evaluate library gives one number for all documents and none for each"
        return "this version of lmeval has no metric of that name"

    @property
    def aggregate(self) -> Aggregate:
        """Summed statistics (R, K) to values (R,)."""
        return self._transparent().aggregate

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which the value lies."""
        return self._transparent().bounds

    @property
    def document_scores(self) -> Callable[[FloatArray], FloatArray] | None:
        """Statistics (n, K) to each document's own score (n,); None where there is no such thing."""
        return self._transparent().document_scores

    @cached_property
    def statistics(self) -> FloatArray:
        """Statistics per document, shape (n, K), in the order of the task's documents.

        Raises:
            NotComparableError: The metric is opaque.
            StoreError: The samples are damaged, or do not give the value that the record holds.
        """
        self._transparent()
        # one layout in memory, so that sums take one order and agree to the last digit whatever the source
        return np.ascontiguousarray(self.source.statistics(self.name), dtype=np.float64)

    def _transparent(self) -> Metric:
        if self.metric is None:
            raise NotComparableError(
                f'The metric "{self.name}" cannot be compared document by document: {self.opaque_because}.',
                fix="compare by another metric of the task",
            )
        return self.metric


@dataclass(frozen=True)
class TaskScores:
    """One task of a finished run."""

    name: str
    record: TaskRecord
    run: RunRecord  # the run it is part of: model, tokenizer and window
    source: Source
    perturbed: Mapping[str, TaskScores] = field(default_factory=dict)  # not kept in a baseline file

    @cached_property
    def metrics(self) -> Mapping[str, MetricScores]:
        """By name; the first is the main one."""
        return {name: MetricScores(name, value, self.source) for name, value in self.record.metrics.items()}

    @property
    def num_documents(self) -> int:
        """How many documents were scored."""
        return self.record.num_documents

    @property
    def is_partial(self) -> bool:
        """Whether --limit left documents out."""
        return self.record.num_documents < self.record.dataset.num_available

    @property
    def doc_ids(self) -> tuple[int, ...]:
        """Each document's index in its split."""
        return self.source.documents.doc_ids

    @property
    def doc_sha256(self) -> tuple[str, ...]:
        """Each document's hash; from a baseline file the first digits of it."""
        return self.source.documents.doc_sha256

    @property
    def clusters(self) -> tuple[str | None, ...]:
        """Each document's cluster; None where it stands on its own."""
        return self.source.documents.clusters

    @property
    def is_greedy(self) -> BoolArray | None:
        """Cloze without choices: whether each target is what the model would write."""
        return self.source.documents.is_greedy

    def samples(self, positions: Sequence[int]) -> list[Sample] | None:
        """The documents at these positions with prompt and outcome; None from a baseline file."""
        return self.source.samples(positions)

    def outcomes(self) -> Sequence[Sample] | None:
        """All documents without prompts and tokens; None from a baseline file."""
        return self.source.outcomes()


@dataclass(frozen=True)
class StoredRun:
    """A finished run, from its folder or from a baseline file."""

    path: Path  # the run folder or the baseline file
    record: RunRecord
    tasks: Mapping[str, TaskScores]
    history: tuple[Mapping[str, Any], ...] = ()  # baseline file: whom it replaced, the latest first
    anchor: StoredRun | None = (
        None  # baseline file: the run that stays fixed while baselines follow each other
    )

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this run from others, as reports quote it."""
        model, runtime = self.record.model, self.record.runtime
        return {
            "run_id": self.record.run_id,
            "created": self.record.created,
            "model": model.id,
            "revision": model.revision,
            "step": model.step,
            "dtype": model.dtype,
            "weights_sha256": model.weights_sha256,
            "lmeval": runtime.lmeval,
            "git": runtime.git,
        }
