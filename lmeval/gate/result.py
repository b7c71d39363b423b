"""What a rule found on one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from lmeval.compare import Flip
from lmeval.gate.config import Rule
from lmeval.metrics.base import Interval
from lmeval.runs import MetricScores, TaskScores

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT_COMPARABLE"]
Against = Literal["baseline", "anchor"]

BOOTSTRAP_SEED = 0


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What a rule found. `suite.conclude` sets `verdict` and `p_fail_adjusted`; all else is `judge`'s."""

    rule: Rule  # `task` a name and `metric` set; a glob only where nothing matched it
    against: Against
    verdict: Verdict
    method: str = ""  # how it was tested
    unit: str = ""
    kind: Interval | None = None  # of the metric's statistics, see metrics.base; None: it has none
    higher_is_better: bool = True
    candidate: float | None = None  # the metric's values
    baseline: float | None = None
    delta: float | None = None  # oriented: above 0 the candidate is better
    interval: tuple[float, float] | None = None  # of delta (min, max: of the value), confidence 1 - 2 alpha
    margin: float | None = None  # on delta's scale, positive
    n: int = 0
    num_clusters: int | None = None
    gains: int | None = None  # documents whose score rose
    losses: int | None = None
    p_pass: float | None = None  # of what a PASS rejects; None: a rule on the point estimate
    p_fail: float | None = None  # of what a FAIL rejects
    p_fail_adjusted: float | None = None  # Holm's, among the rules of this level
    p_mcnemar: float | None = None  # exact one-sided: so few gains among the flips by chance
    mde: float | None = None  # the margin that this n can show, on delta's scale
    documents_needed: int | None = None  # for an unchanged model to PASS with the configured power
    documents_used: int | None = None  # sequential: how many it took
    documents_total: int | None = None  # sequential: of how many
    partial: bool = False  # --limit
    caveats: tuple[str, ...] = ()  # where the method may not hold its level
    blocked: bool = False  # a caveat forbids to claim PASS or FAIL
    problem: str | None = None  # NOT_COMPARABLE: what differs or is missing
    hashes: Mapping[str, Any] | None = None  # {candidate: {...}, baseline: {...}}
    flips: tuple[Flip, ...] = ()  # the worst, losses first

    @property
    def log_scale(self) -> bool:
        """`delta`, `interval`, `margin` and `mde` are of logarithms: those of a perplexity."""
        return self.kind == "log_ratio"


def not_comparable(rule: Rule, problem: str, against: Against = "baseline") -> RuleResult:
    """The result of a rule that cannot be judged, and why."""
    return RuleResult(rule, against, "NOT_COMPARABLE", problem=problem)


def with_verdict(result: RuleResult, p_fail_adjusted: float, alpha: float) -> RuleResult:
    """The verdict of a tested rule, given its corrected p-value of FAIL."""
    assert result.p_pass is not None, "a rule on the point estimate is decided by it"
    verdict: Verdict = "INCONCLUSIVE"
    if not result.blocked:
        if result.p_pass <= alpha:
            verdict = "PASS"
        elif p_fail_adjusted <= alpha:
            verdict = "FAIL"
    return replace(result, verdict=verdict, p_fail_adjusted=p_fail_adjusted)


def where_of(rule: Rule) -> str:
    """Where a rule stands, for errors."""
    line = f", line {rule.line}" if rule.line else ""
    return f"the gate of {rule.task} {rule.metric}{line}"


def metric_of(rule: Rule, task: TaskScores) -> MetricScores:
    """The metric of a task that a rule judges."""
    assert rule.metric is not None
    return task.metrics[rule.metric]


def hashes_of(task: TaskScores) -> dict[str, Any]:
    """What a task was scored with, and on."""
    return {
        "run_id": task.run.run_id,
        "weights_sha256": task.run.model.weights_sha256,
        "task_sha256": task.record.task_sha256,
        "documents_sha256": task.record.dataset.documents_sha256,
        "prompts_sha256": task.record.prompts_sha256,
    }
