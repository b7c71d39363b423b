"""What a suite can resolve: the margin it can show at its n, the documents a margin needs, the minutes they take.

A margin is resolved by n documents where n is at least ((z_{1-α} + z_power) sd / margin)², with sd the standard
deviation of the documents' paired differences. Two runs tell it; one run tells only how its own scores vary, and
then the correlation between its scores and another's has to be assumed:  sd² = 2 (1 - correlation) variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmeval.compare import require_comparable
from lmeval.errors import NotComparableError
from lmeval.gate.absolute import level_in
from lmeval.gate.bounds import ScoreLevel
from lmeval.gate.config import Defaults, GateConfig, Rule
from lmeval.gate.result import RuleResult
from lmeval.gate.rules import judge, margin_of_difference, resolution
from lmeval.gate.suite import bind_rules, missing
from lmeval.metrics.base import Interval
from lmeval.records import Sample
from lmeval.runs import MetricScores, StoredRun, TaskScores

# Of the documents' scores in two checkpoints of one training run. 0.8 means that 10 % of the documents flip where half
# of the scores are 1; log-likelihoods of texts move together far more closely.
ASSUMED_CORRELATION: dict[Interval, float] = {
    "proportion": 0.8,
    "mean": 0.8,
    "bootstrap": 0.8,
    "ratio": 0.99,
    "log_ratio": 0.99,
}
_SAMPLED_PROMPTS = 50  # whose lengths share a run's time out among its tasks


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What one rule can resolve."""

    result: RuleResult  # with `mde` and `documents_needed`; of two runs measured, of one by assumption
    assumption: str  # where the variance of differences comes from
    num_available: int  # documents of the task's split
    minutes: float | None  # to score the documents that the run has
    minutes_needed: float | None  # to score `documents_needed`

    @property
    def rule(self) -> Rule:
        """The rule."""
        return self.result.rule

    @property
    def carries(self) -> bool:
        """The documents of the run carry the margin."""
        needed = self.result.documents_needed
        return needed is not None and needed <= self.result.n


def plan(run: StoredRun, config: GateConfig, *, against: StoredRun | None = None) -> tuple[PlanLine, ...]:
    """What every rule can resolve on this run's documents.

    Args:
        run: The run whose documents and scores are planned with.
        config: The gate file, or an empty GateConfig for default rules.
        against: A second run, from which the variance of differences is measured.

    Raises:
        NotComparableError: A rule's task or metric is in no run, or the two runs cannot be compared.
        UsageError: A rule makes no sense for its metric.
    """
    seconds = seconds_per_document(run)
    rules = bind_rules(config, run, against or run)
    return tuple(_plan_rule(rule, run, against, config.defaults, seconds) for rule in rules)


def _plan_rule(
    rule: Rule, run: StoredRun, against: StoredRun | None, defaults: Defaults, seconds: Mapping[str, float]
) -> PlanLine:
    for which, one in (("the run", run), ("the other run", against)):
        problem = missing(rule, one, which) if one is not None else None
        if problem:
            raise NotComparableError(
                problem[0].upper() + problem[1:], fix="mend the gate file, or run the task"
            )
    task = run.tasks[rule.task]
    if against is not None and rule.needs_baseline:
        other = against.tasks[rule.task]
        require_comparable(other, task)
        result, assumption = judge(rule, task, other, defaults), "measured on the two runs"
    elif rule.needs_baseline:
        result, assumption = _assumed(rule, task, defaults)
    else:
        result, assumption = judge(rule, task, None, defaults), "this run's own scores"
    each = seconds.get(rule.task)
    needed = result.documents_needed
    return PlanLine(
        result,
        assumption,
        task.record.dataset.num_available,
        minutes=None if each is None else each * task.num_documents / 60,
        minutes_needed=None if each is None or needed is None else each * needed / 60,
    )


def _assumed(rule: Rule, task: TaskScores, defaults: Defaults) -> tuple[RuleResult, str]:
    """The plan of a paired rule from one run."""
    assert rule.metric is not None
    metric = task.metrics[rule.metric]
    margin = margin_of_difference(rule, metric)
    result = RuleResult(
        rule,
        "baseline",
        "INCONCLUSIVE",
        unit=metric.unit,
        kind=metric.interval,
        higher_is_better=metric.higher_is_better,
        baseline=metric.value,
        margin=margin,
        n=task.num_documents,
        partial=task.is_partial,
    )
    stderr = _own_stderr(rule, task, metric)
    if stderr is None or metric.interval is None:
        return result, f"none: {metric.opaque_because or 'one document has no variance'}"
    correlation = ASSUMED_CORRELATION[metric.interval]
    flips = _assumed_flips(metric, task, correlation)
    stderr *= math.sqrt(2 * (1 - correlation))
    found = replace(result, **resolution(stderr, task.num_documents, margin, defaults, flips))
    text = f"assumed: the two models' scores correlate at {correlation:g}"
    return found, text + (f", so {100 * flips:.2g} % of the documents flip" if flips is not None else "")


def _assumed_flips(metric: MetricScores, task: TaskScores, correlation: float) -> float | None:
    """Of 0/1 scores: the share of documents that flip between two models whose scores correlate so."""
    if metric.interval != "proportion" or not np.isin(metric.statistics[:, 0], (0.0, 1.0)).all():
        return None
    share = _wary(metric.value, task.num_documents)
    return 2 * (1 - correlation) * share * (1 - share)


def _own_stderr(rule: Rule, task: TaskScores, metric: MetricScores) -> float | None:
    """Standard error of the run's own value, on the scale of differences."""
    level = level_in(rule, task, metric)
    if level is None:
        return None
    if isinstance(level, ScoreLevel):
        share = _wary(level.value, level.n)
        return math.sqrt(share * (1 - share) / level.n)
    return level.stderr / level.value if metric.interval == "log_ratio" else level.stderr


def _wary(share: float, n: int) -> float:
    """A share of 0/1 scores, never 0 or 1 (Agresti & Coull 1998): another model may err where this one is right."""
    return (share * n + 2) / (n + 4)


# ---- minutes ----


def seconds_per_document(run: StoredRun) -> dict[str, float]:
    """Seconds that a document of each task took, by the run's own time; empty where the run has none.

    A run times itself as a whole: its seconds are shared out by the characters that its tasks gave the model.
    """
    seconds = run.record.efficiency.seconds_total
    sizes = {name: _characters(task) for name, task in run.tasks.items()}
    total = sum(sizes[name] * task.num_documents for name, task in run.tasks.items())
    if seconds <= 0 or total <= 0:
        return {}
    return {name: seconds * size / total for name, size in sizes.items()}


def _characters(task: TaskScores) -> float:
    """Mean characters of a prompt, over a few spread through the task; 1 where prompts are not kept."""
    step = max(1, task.num_documents // _SAMPLED_PROMPTS)
    samples = task.samples(range(0, task.num_documents, step))
    if not samples:
        return 1.0
    return sum(map(_length, samples)) / len(samples)


def _length(sample: Sample) -> int:
    written: Sequence[str | None] = (
        *(sample.contexts or (sample.context,)),
        sample.target,
        *(sample.choices or ()),
        sample.prediction if isinstance(sample.prediction, str) else None,
    )
    return sum(len(text) for text in written if text) + 1
