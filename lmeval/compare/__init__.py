"""Two finished runs, document by document: differences with their intervals, flips, and what stands in the way.

Run A is the reference and run B the new one; a difference is B - A in the metric's own unit, whichever way is up.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lmeval.compare.comparable import (
    metric_differences,
    require_comparable,
    run_notes,
    shared_clusters,
    task_differences,
    task_notes,
    why_not_paired,
)
from lmeval.compare.flips import Flip, count_flips, document_changes, greedy_flips, worst_flips
from lmeval.errors import NotComparableError, UsageError, did_you_mean
from lmeval.metrics.base import Interval
from lmeval.paired import Difference, mcnemar, paired_difference
from lmeval.runs import MetricScores, StoredRun, TaskScores
from lmeval.stats import CONFIDENCE

__all__ = [
    "Comparison",
    "Flip",
    "MetricComparison",
    "TaskComparison",
    "compare_runs",
    "count_flips",
    "document_changes",
    "metric_differences",
    "require_comparable",
    "shared_clusters",
    "task_differences",
    "worst_flips",
]

BOOTSTRAP_SEED = 0
NAMES = ("A", "B")


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of one task in both runs."""

    name: str
    unit: str
    higher_is_better: bool  # says nothing where there is an ideal
    a: float
    b: float
    delta: float  # b - a
    relative: bool  # low and high are of b / a - 1, as a perplexity's difference is one of logarithms
    low: float | None = None  # 95 %, of the difference or of the relative change
    high: float | None = None
    p: float | None = None  # two-sided, of no difference
    method: str = "none"  # of interval and p
    gains: int | None = None  # documents that B does better
    losses: int | None = None
    p_mcnemar: float | None = None  # exact, two-sided; 0/1 scores only
    caveats: tuple[str, ...] = ()
    not_paired: str | None = None  # why there is no interval
    ideal: float | None = None  # the best value, where neither more nor less is better


@dataclass(frozen=True, slots=True)
class TaskComparison:
    """One task in both runs."""

    name: str
    num_documents: int
    num_clusters: int | None  # None: no documents share anything
    metrics: tuple[MetricComparison, ...]
    greedy_gains: int | None  # cloze: targets that only B would write
    greedy_losses: int | None
    greedy_p_mcnemar: float | None
    worst: tuple[Flip, ...]  # of the first metric that is compared
    notes: tuple[str, ...]
    hashes: Mapping[str, Any]  # which both runs share


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, over all tasks that they share."""

    a: StoredRun
    b: StoredRun
    tasks: tuple[TaskComparison, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "schema_version": 1,
            "a": {"path": str(self.a.path), **self.a.identity},
            "b": {"path": str(self.b.path), **self.b.identity},
            "delta": "b - a",
            "confidence": CONFIDENCE,
            "tasks": {
                task.name: {
                    key: value for key, value in asdict(task).items() if key not in ("name", "metrics")
                }
                | {"metrics": {metric.name: asdict(metric) for metric in task.metrics}}
                for task in self.tasks
            },
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "notes": list(self.notes),
        }


def compare_runs(
    a: StoredRun, b: StoredRun, *, tasks: Sequence[str] = (), metric: str | None = None, worst: int = 5
) -> Comparison:
    """Compare two runs on every task that both have.

    Args:
        a: The reference.
        b: The new run.
        tasks: Names or globs; none: all shared tasks.
        metric: Only this metric, which must be comparable pair by pair; None: all.
        worst: Documents to show per task, those that lost most.

    Raises:
        NotComparableError: They share no task, or differ in what was asked; the message names every difference.
        UsageError: No run has such a task or metric.
        StoreError: Samples are damaged.
    """
    shared = [name for name in a.tasks if name in b.tasks]
    chosen = _choose(a, b, shared, tasks)
    if metric is not None:
        chosen = _with_metric(a, b, chosen, metric)
    _require_all(a, b, chosen, metric)
    compared = tuple(_compare_task(a.tasks[name], b.tasks[name], metric, worst) for name in chosen)
    return Comparison(
        a,
        b,
        compared,
        only_a=tuple(name for name in a.tasks if name not in b.tasks),
        only_b=tuple(name for name in b.tasks if name not in a.tasks),
        notes=tuple(run_notes(a.record, b.record, NAMES)),
    )


def _choose(a: StoredRun, b: StoredRun, shared: Sequence[str], selectors: Sequence[str]) -> list[str]:
    """The shared tasks that names and globs select."""
    if not selectors:
        if not shared:
            raise NotComparableError(
                "The runs share no task.",
                where=f"A has {', '.join(a.tasks)}; B has {', '.join(b.tasks)}",
                fix="compare runs of the same tasks",
            )
        return list(shared)
    known = list(dict.fromkeys([*a.tasks, *b.tasks]))
    chosen: dict[str, None] = {}
    for selector in selectors:
        names = fnmatch.filter(known, selector)
        if not names:
            raise UsageError(
                f'Neither run has a task "{selector}".{did_you_mean(selector, known)}',
                fix=f"one of: {', '.join(known)}",
            )
        missing = [name for name in names if name not in shared]
        if missing and (len(missing) == len(names)):
            run, other = ("A", "B") if missing[0] in a.tasks else ("B", "A")
            raise NotComparableError(f"The task {missing[0]} is in run {run} only; {other} did not run it.")
        chosen |= dict.fromkeys(name for name in names if name in shared)
    return list(chosen)


def _with_metric(a: StoredRun, b: StoredRun, names: Sequence[str], metric: str) -> list[str]:
    """The tasks of which a run has the metric."""
    having = [name for name in names if metric in a.tasks[name].metrics or metric in b.tasks[name].metrics]
    if not having:
        known = dict.fromkeys(metric for name in names for metric in a.tasks[name].metrics)
        raise UsageError(
            f'No task that is compared has a metric "{metric}".{did_you_mean(metric, known)}',
            fix=f"one of: {', '.join(known)}",
        )
    return having


def _require_all(a: StoredRun, b: StoredRun, names: Sequence[str], metric: str | None) -> None:
    """Refuse with all that differs in any task, so that it need not be found one by one."""
    found: list[NotComparableError] = []
    for name in names:
        try:
            require_comparable(a.tasks[name], b.tasks[name], metric, names=NAMES)
        except NotComparableError as error:
            found.append(error)
    if found:
        raise NotComparableError(
            "\n".join(error.what for error in found),
            where=f"A is {a.path}, B is {b.path}",
            fix="run both with the same task files, documents, shots and prompts"
            + ("" if len(found) == len(names) else "; or choose the tasks that compare with --task"),
        )


def _compare_task(a: TaskScores, b: TaskScores, metric: str | None, worst: int) -> TaskComparison:
    clusters = shared_clusters(a, b)
    metrics = tuple(
        _compare_metric(a, b, name, clusters, required=metric is not None)
        for name in ([metric] if metric else a.metrics)
    )
    paired = [found.name for found in metrics if found.not_paired is None]
    greedy = greedy_flips(a, b) or (None, None)
    return TaskComparison(
        a.name,
        a.num_documents,
        num_clusters=_num_clusters(clusters),
        metrics=metrics,
        greedy_gains=greedy[0],
        greedy_losses=greedy[1],
        greedy_p_mcnemar=_mcnemar(*greedy),
        worst=tuple(worst_flips(a, b, paired[0], worst)) if paired else (),
        notes=tuple(task_notes(a, b, NAMES)),
        hashes={
            "task_sha256": a.record.task_sha256,
            "documents_sha256": a.record.dataset.documents_sha256,
            "prompts_sha256": a.record.prompts_sha256,
        },
    )


def _num_clusters(clusters: Sequence[str | None]) -> int | None:
    """Independent draws among the documents; None where each is one."""
    num = len({cluster for cluster in clusters if cluster is not None}) + clusters.count(None)
    return num if num < len(clusters) else None


def _compare_metric(
    a: TaskScores, b: TaskScores, name: str, clusters: Sequence[str | None], *, required: bool
) -> MetricComparison:
    ours, theirs = a.metrics[name], b.metrics[name]
    facts: dict[str, Any] = {
        "name": name,
        "unit": ours.unit,
        "higher_is_better": ours.higher_is_better,
        "a": ours.value,
        "b": theirs.value,
        "delta": theirs.value - ours.value,
        "relative": ours.interval == "log_ratio",
        "ideal": ours.ideal,
    }
    if why := why_not_paired(a, b, name):
        return MetricComparison(**facts, not_paired=why)
    try:
        difference = paired_difference(
            _kind(ours),
            ours.statistics,
            theirs.statistics,
            ours.aggregate,
            higher_is_better=ours.higher_is_better,
            distance=ours.distance,
            clusters=clusters,
            bounds=ours.bounds,
            rng=np.random.default_rng(BOOTSTRAP_SEED),
        )
    except NotComparableError as error:  # of the same questions, but counted in other units
        if required:
            raise
        return MetricComparison(**facts, not_paired=f"{name}: {error.what}")
    gains, losses = count_flips(a, b, name)
    low, high = _interval(difference, ours.higher_is_better, relative=facts["relative"])
    is_binary = _is_binary(ours) and _is_binary(theirs)
    return MetricComparison(
        **facts,
        low=low,
        high=high,
        p=two_sided(difference),
        method=difference.method,
        gains=gains,
        losses=losses,
        p_mcnemar=_mcnemar(gains, losses) if is_binary else None,
        caveats=tuple(caveat.text for caveat in difference.caveats),
    )


def _kind(metric: MetricScores) -> Interval:
    assert metric.interval is not None, f"{metric.name} is opaque"
    return metric.interval


def _is_binary(metric: MetricScores) -> bool:
    """Whether each document is right or wrong, and none in between."""
    if metric.interval != "proportion":
        return False
    scores = metric.statistics[:, 0] / metric.statistics[:, 1]
    return bool(np.isin(scores, (0.0, 1.0)).all())


def _mcnemar(gains: int | None, losses: int | None) -> float | None:
    return None if gains is None or losses is None else mcnemar(gains, losses, "two-sided")


def two_sided(difference: Difference) -> float:
    """Two-sided p of no difference: twice the smaller of the two one-sided ones."""
    return min(1.0, 2 * min(difference.p_not_worse(0.0), difference.p_worse(0.0)))


def _interval(
    difference: Difference, higher_is_better: bool, *, relative: bool
) -> tuple[float | None, float | None]:
    """The 95 % interval of b - a (relative: of b / a - 1); a Difference is turned so that above 0 is better."""
    low, high = difference.interval(CONFIDENCE)
    if not higher_is_better:
        low, high = -high, -low
    if not (math.isfinite(low) and math.isfinite(high)):
        return None, None
    return (math.expm1(low), math.expm1(high)) if relative else (low, high)
