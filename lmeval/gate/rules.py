"""One rule on one task: the test, its p-values and what the documents can show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lmeval.gate.config import Defaults, Rule

if TYPE_CHECKING:
    from lmeval.paired import StepNoise
    from lmeval.runs import TaskScores

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT_COMPARABLE"]
Against = Literal["baseline", "anchor"]


@dataclass(frozen=True, slots=True)
class Flip:
    """A document whose score changed, as the report shows it."""

    doc_id: int
    prompt: str  # what the model read, cut
    baseline: str  # score, and answer where there is one
    candidate: str
    change: float  # oriented: negative is a loss


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What a rule found. `suite.conclude` sets `verdict` and `p_fail_adjusted`; all else is `judge`'s."""

    rule: Rule  # `task` a name and `metric` set, never a glob
    against: Against
    verdict: Verdict
    method: str = ""  # how the difference was tested
    unit: str = ""
    candidate: float | None = None  # the metric's values
    baseline: float | None = None
    delta: float | None = None  # oriented; of perplexities on the log scale
    interval: tuple[float, float] | None = (
        None  # two-sided, confidence 1 - 2 alpha: dual to the two one-sided tests
    )
    margin: float | None = None  # on delta's scale, positive
    n: int = 0
    num_clusters: int | None = None
    gains: int | None = None
    losses: int | None = None
    p_pass: float | None = (
        None  # one-sided p-value of what a PASS rejects; None: a rule on the point estimate
    )
    p_fail: float | None = None  # one-sided p-value of what a FAIL rejects
    p_fail_adjusted: float | None = None  # Holm's, among the rules of this level
    p_mcnemar: float | None = None  # exact one-sided: fewer gains than losses by chance
    mde: float | None = None  # smallest true drop that this n shows with the configured power
    documents_needed: int | None = None  # for a model that is equal to PASS with the configured power
    documents_used: int | None = None  # sequential: how many it took
    documents_total: int | None = None  # sequential: of how many
    partial: bool = False  # --limit
    caveats: tuple[str, ...] = ()  # where the method may not hold its level
    blocked: bool = False  # a caveat forbids to claim PASS or FAIL
    problem: str | None = None  # NOT_COMPARABLE: what differs or is missing
    hashes: Mapping[str, Any] | None = None  # {candidate: {...}, baseline: {...}}
    flips: tuple[Flip, ...] = ()  # the worst, losses first


def judge(
    rule: Rule,
    candidate: TaskScores,
    baseline: TaskScores | None,
    defaults: Defaults,
    *,
    against: Against = "baseline",
    noise: StepNoise | None = None,
) -> RuleResult:
    """Test one rule on one task; its verdict is that of the rule alone, before Holm's correction.

    Args:
        rule: Of a task's name (not a glob).
        baseline: None is allowed for `min` and `max` only.
        noise: Step noise to add to the squared standard error.
    """
    raise NotImplementedError
