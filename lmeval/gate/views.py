"""Runs that lie in no folder: what a candidate is about to be asked, and a task on some of its documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lmeval.metrics import METRICS, find_metric, statistics
from lmeval.prepare import PreparedTask
from lmeval.records import (
    PLL_VARIANTS,
    MetricValue,
    RunRecord,
    Sample,
    TaskRecord,
    canonical_sha256,
    read_by_model,
)
from lmeval.run import Job, Prepared
from lmeval.runs import ScoredDocuments, StoredRun, TaskScores
from lmeval.scoring import metric_options, metrics_of
from lmeval.stats import FloatArray


@dataclass(frozen=True)
class AskedSource:
    """Documents that a model is being asked: `tables` has the statistics of those that are scored, NaN elsewhere."""

    documents: ScoredDocuments
    tables: Mapping[str, FloatArray] = field(default_factory=dict)  # (n, K) by metric

    def statistics(self, metric: str) -> FloatArray:
        """See runs.Source; may hold NaN."""
        return self.tables[metric]

    def samples(self, positions: Sequence[int]) -> list[Sample] | None:
        """None: texts are not kept here."""
        return None

    def outcomes(self) -> list[Sample] | None:
        """None, as of `samples`."""
        return None


@dataclass(frozen=True)
class SomeDocuments:
    """Some documents of a task, in the order of `positions`."""

    task: TaskScores
    positions: tuple[int, ...]

    @property
    def documents(self) -> ScoredDocuments:
        """See runs.Source."""
        whole, greedy = self.task.source.documents, self.task.is_greedy
        return ScoredDocuments(
            doc_ids=tuple(whole.doc_ids[i] for i in self.positions),
            doc_sha256=tuple(whole.doc_sha256[i] for i in self.positions),
            clusters=tuple(whole.clusters[i] for i in self.positions),
            is_greedy=None if greedy is None else greedy[list(self.positions)],
        )

    def statistics(self, metric: str) -> FloatArray:
        """See runs.Source."""
        return self.task.metrics[metric].statistics[list(self.positions)]

    def samples(self, positions: Sequence[int]) -> list[Sample] | None:
        """See runs.Source."""
        return self.task.samples([self.positions[i] for i in positions])

    def outcomes(self) -> list[Sample] | None:
        """See runs.Source."""
        found = self.task.outcomes()
        return None if found is None else [found[i] for i in self.positions]


def on_documents(task: TaskScores, positions: Sequence[int], metric: str) -> TaskScores:
    """A task as if only these documents had been scored; of its values, only that of `metric` is theirs."""
    source = SomeDocuments(task, tuple(positions))
    table = source.statistics(metric)
    value = float(find_metric(metric).aggregate(table.sum(axis=0, keepdims=True))[0])
    there = replace(task.record.metrics[metric], value=value, num_documents=len(positions))
    dataset = replace(
        task.record.dataset, documents_sha256=canonical_sha256(list(source.documents.doc_sha256))
    )
    record = replace(
        task.record,
        num_documents=len(positions),
        dataset=dataset,
        metrics={**task.record.metrics, metric: there},
    )
    return TaskScores(task.name, record, task.run, source)


def as_asked(task: TaskScores, other: TaskScores) -> TaskScores:
    """The task with the hashes of another that was asked the same: a baseline file's own are of shortened hashes."""
    dataset = replace(task.record.dataset, documents_sha256=other.record.dataset.documents_sha256)
    record = replace(task.record, dataset=dataset, prompts_sha256=other.record.prompts_sha256)
    return replace(task, record=record)


def expected_run(prepared: Prepared, baseline: StoredRun, job: Job, model_kind: str) -> StoredRun:
    """The candidate's run before there is one: its tasks, documents and prompts, no scores.

    What only a model's answers tell, the signatures of metrics and who the model is, is taken from the baseline:
    it is compared when it is known.
    """
    is_masked = model_kind == "masked"
    model = replace(
        baseline.record.model,
        type=model_kind,
        pll=(job.options.pll or PLL_VARIANTS[0]) if is_masked else None,
    )
    runtime = replace(
        baseline.record.runtime,
        seed=job.settings.seed,
        system_prompt=job.settings.system,
        chat_template_sha256=prepared.tasks[0].chat_template_sha256,
    )
    run = replace(baseline.record, model=model, runtime=runtime, skipped=prepared.skipped)
    tasks = {task.spec.name: _expected_task(task, baseline, run, is_masked) for task in prepared.tasks}
    return StoredRun(Path(), replace(run, tasks={name: task.record for name, task in tasks.items()}), tasks)


def _expected_task(task: PreparedTask, baseline: StoredRun, run: RunRecord, is_masked: bool) -> TaskScores:
    name, prompts = task.spec.name, task.prompts
    theirs = baseline.tasks[name].record.metrics if name in baseline.tasks else {}
    names, left_out = metrics_of(task.spec, run.model.type)
    record = TaskRecord(
        version=task.spec.version,
        task_sha256=task.spec.sha256,
        type=task.spec.type,
        num_fewshot=task.num_fewshot,
        num_documents=len(prompts),
        limit=task.limit,
        dataset=task.dataset,
        counts={},
        metrics={metric: theirs.get(metric) or _no_value(metric) for metric in names},
        prompts_sha256=canonical_sha256([read_by_model(prompt) for prompt in prompts]),
        decoding=baseline.tasks[name].record.decoding if name in baseline.tasks else None,
        pll=task.pll if is_masked else None,
        metrics_left_out=left_out,
    )
    documents = ScoredDocuments(
        doc_ids=tuple(prompt.document.doc_id for prompt in prompts),
        doc_sha256=tuple(prompt.document.sha256 for prompt in prompts),
        clusters=tuple(prompt.cluster for prompt in prompts),
        is_greedy=None,
    )
    return TaskScores(name, record, run, AskedSource(documents))


def _no_value(metric: str) -> MetricValue:
    known = METRICS.get(metric)
    return MetricValue(
        value=math.nan,
        stderr=None,
        ci_low=None,
        ci_high=None,
        ci_method="",
        unit=known.unit if known else "",
        higher_is_better=known.higher_is_better if known else True,
        random_baseline=None,
        signature="",
        num_documents=0,
    )


def no_scores(task: TaskScores, metrics: Sequence[str]) -> TaskScores:
    """The task with tables of NaN to be filled, shape (n, 2) each."""
    tables = {metric: np.full((task.num_documents, 2), math.nan) for metric in metrics}
    return replace(task, source=AskedSource(task.source.documents, tables))


def scored_table(task: PreparedTask, metric: str, samples: Sequence[Sample]) -> FloatArray:
    """Statistics of some samples of a task, shape (n, 2)."""
    return statistics(metric, samples, metric_options(task.spec))
