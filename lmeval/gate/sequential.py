"""The gate scores in rounds of documents, until every rule is decided.

Each task's documents come in a random order of whole clusters; after every round the betting e-processes of its
rules are looked at, FAIL corrected by Holm over all rules of the suite as everywhere. With p-values that hold at any
time that is valid, and a rule stays decided whatever the others do. A task whose rules are all decided is scored no
further. Where no document is left and a rule is still open, a test of fixed size has the last word, at the level that
was kept for it (betting.py).

Bets need scores with bounds. A task with a rule that cannot bet (perplexities, BLEU, a bound on one run's value, step
noise) is scored whole, and all of its rules are judged as those of a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmeval.betting import BettingDifference, FixedSizeTest
from lmeval.compare import metric_differences
from lmeval.engine.base import Engine, Usage
from lmeval.errors import NotComparableError
from lmeval.evaluate import evaluate
from lmeval.gate.config import Defaults, GateConfig
from lmeval.gate.result import RuleResult
from lmeval.gate.rounds import random_order, round_ends
from lmeval.gate.rules import describe, make_difference, tested
from lmeval.gate.suite import Contest, conclude
from lmeval.gate.views import as_asked, no_scores, on_documents, scored_table
from lmeval.listener import Listener, Silence
from lmeval.metrics import METRICS
from lmeval.prepare import PreparedTask
from lmeval.records import Sample, SequentialRecord, TaskRecord, canonical_sha256
from lmeval.requests import make_requests
from lmeval.runs import TaskScores
from lmeval.stats import FloatArray
from lmeval.store import Outputs


def can_bet(contest: Contest) -> bool:
    """Whether the rule is about the difference of two means of scores with bounds."""
    rule = contest.rule
    if not rule.needs_baseline or rule.on_point_estimate or rule.metric not in METRICS or contest.noise:
        return False
    metric = METRICS[rule.metric]
    return metric.interval in ("proportion", "mean") and math.isfinite(metric.bounds[1] - metric.bounds[0])


@dataclass
class Bet:
    """A contest while it is open; afterwards as it was when it was decided."""

    contest: Contest
    baseline: TaskScores  # all documents
    margin: float  # on the scale of differences, positive
    difference: BettingDifference | None = None
    positions: tuple[int, ...] = ()  # of the documents in `difference`
    is_decided: bool = False

    @property
    def metric(self) -> str:
        """The rule's."""
        assert self.contest.rule.metric is not None
        return self.contest.rule.metric

    def result(self) -> RuleResult:
        """The p-values so far, as `conclude` corrects them."""
        rule, p_pass, p_fail = self.contest.rule, 1.0, 1.0
        if self.difference is not None:
            margin = -self.margin if rule.kind == "superior" else self.margin
            p_pass, p_fail = self.difference.p_not_worse(margin), self.difference.p_worse(margin)
        return RuleResult(rule, self.contest.against, "INCONCLUSIVE", p_pass=p_pass, p_fail=p_fail)


@dataclass
class Rounds:
    """A task that is scored in rounds."""

    prepared: PreparedTask
    scores: TaskScores  # filled as rounds come, see views.no_scores
    bets: list[Bet]
    order: list[list[int]]  # positions, cluster by cluster
    ends: Iterator[int]
    done: int = 0  # clusters scored
    rounds: int = 0
    reused: int = 0

    @property
    def used(self) -> list[int]:
        """Positions of the documents scored, in their order."""
        return [position for cluster in self.order[: self.done] for position in cluster]

    @property
    def is_exhausted(self) -> bool:
        """No document is left."""
        return self.done == len(self.order)

    @property
    def is_open(self) -> bool:
        """There is something to decide, and something to decide it by."""
        return not self.is_exhausted and not all(bet.is_decided for bet in self.bets)


def begin_rounds(prepared: PreparedTask, expected: TaskScores, bets: Sequence[Bet], seed: int) -> Rounds:
    """A task with its documents in order; none is scored yet.

    Args:
        expected: The task as `views.expected_run` has it.
        seed: Of the order.
    """
    scores = no_scores(expected, [bet.metric for bet in bets])
    order = random_order(expected.name, expected.doc_sha256, expected.clusters, seed)
    return Rounds(prepared, scores, list(bets), order, round_ends([len(cluster) for cluster in order]))


def play(
    tasks: Sequence[Rounds],
    others: Sequence[RuleResult],
    config: GateConfig,
    engine: Engine,
    stores: Sequence[Outputs],
    listener: Listener,
) -> None:
    """Score round after round, until every bet is decided or no document is left.

    Args:
        tasks: What is scored; filled.
        others: Of rules that do not bet, which count in Holm's correction all the same.

    Raises:
        NotComparableError: A metric turns out to be computed otherwise than in the baseline.
    """
    bar = _OneStage(listener)
    listener.begin("rounds", sum(_num_requests(task.prepared, engine) for task in tasks))
    while still_open := [task for task in tasks if task.is_open]:
        for task in still_open:
            score_round(task, engine, stores, bar)
        settle([bet for task in tasks for bet in task.bets], others, config)


@dataclass(frozen=True, slots=True)
class _OneStage:
    """A Listener that makes all rounds one stage; it ends early where the rules are decided early."""

    listener: Listener

    def begin(self, stage: str, total: int) -> None:
        """Nothing: the stage has begun."""

    def advance(self, usage: Usage | None = None) -> None:
        """A step of the stage."""
        self.listener.advance(usage)


def _num_requests(task: PreparedTask, engine: Engine) -> int:
    return sum(len(make_requests(task.spec, prompt, engine.model.type)) for prompt in task.prompts)


def score_round(task: Rounds, engine: Engine, stores: Sequence[Outputs], listener: Listener) -> None:
    """Score a task's next documents and bet on them."""
    end = next(task.ends)
    positions = [position for cluster in task.order[task.done : end] for position in cluster]
    metrics = tuple(dict.fromkeys(bet.metric for bet in task.bets))
    batch = replace(
        task.prepared,
        spec=task.prepared.spec.model_copy(update={"metrics": metrics}),
        prompts=[task.prepared.prompts[position] for position in positions],
    )
    record, samples = evaluate(batch, engine, stores=stores, listener=listener)
    task.done, task.rounds, task.reused = end, task.rounds + 1, task.reused + record.counts["reused"]
    for metric in metrics:
        task.scores.source.statistics(metric)[positions] = scored_table(task.prepared, metric, samples)
    if task.rounds == 1:
        _check_metrics(task, record)
    for bet in task.bets:
        if not bet.is_decided:
            bet.positions = tuple(task.used)
            bet.difference = _difference(bet, task)


def _check_metrics(task: Rounds, record: TaskRecord) -> None:
    """What of a metric only samples tell must be as in the baseline too."""
    found = replace(task.scores, record=replace(task.scores.record, metrics=record.metrics))
    lines = [line for bet in task.bets for line in metric_differences(bet.baseline, found, bet.metric)]
    if lines:
        listed = "".join(f"\n  {line}" for line in dict.fromkeys(lines))
        raise NotComparableError(f"{task.scores.name}: the runs cannot be compared:{listed}")


def _difference(bet: Bet, task: Rounds) -> BettingDifference:
    """The bets on all documents scored so far."""
    metric = METRICS[bet.metric]
    sign = 1.0 if metric.higher_is_better else -1.0
    d = sign * (
        _scores(task.scores.source.statistics(bet.metric))
        - _scores(bet.baseline.metrics[bet.metric].statistics)
    )
    clusters = bet.contest.rule.cluster == "auto"
    units = task.order[: task.done] if clusters else [[position] for position in task.used]
    return BettingDifference(
        sums=np.array([d[unit].sum() for unit in units]),
        sizes=np.array([float(len(unit)) for unit in units]),
        largest=max(map(len, task.order)) if clusters else 1,
        span=metric.bounds[1] - metric.bounds[0],
        final=_final(bet, task) if task.is_exhausted else None,
    )


def _scores(table: FloatArray) -> FloatArray:
    """Scores of documents from columns (numerator, weight), (n, 2) -> (n,)."""
    return np.asarray(table[:, 0] / table[:, 1], dtype=np.float64)


def _final(bet: Bet, task: Rounds) -> FixedSizeTest | None:
    """The test of all documents; None where it may not decide."""
    fixed = make_difference(bet.contest.rule, task.scores, bet.baseline)
    return None if any(caveat.blocks for caveat in fixed.caveats) else fixed


def settle(bets: Sequence[Bet], others: Sequence[RuleResult], config: GateConfig) -> None:
    """Mark the bets that are decided, FAIL corrected for all rules there are."""
    report = conclude([*others, *(bet.result() for bet in bets)], config)
    for bet, result in zip(bets, report.results[len(others) :], strict=True):
        bet.is_decided = bet.is_decided or result.verdict in ("PASS", "FAIL")


def used_task(
    task: Rounds, engine: Engine, seed: int, stores: Sequence[Outputs], order_seed: int
) -> tuple[TaskRecord, list[Sample]]:
    """The record and samples of the documents that were used, in the order of the data set.

    Args:
        seed: Of the bootstrap intervals.
        stores: Hold all outputs.
        order_seed: Of the order in which documents were scored.
    """
    prompts = [task.prepared.prompts[position] for position in sorted(task.used)]
    hashed = canonical_sha256([prompt.document.sha256 for prompt in prompts])
    dataset = replace(task.prepared.dataset, documents_sha256=hashed)
    part = replace(task.prepared, prompts=prompts, dataset=dataset)
    record, samples = evaluate(part, engine, seed=seed, stores=stores, listener=Silence())
    note = SequentialRecord(order_seed, len(prompts), len(task.prepared.prompts), task.rounds)
    counts = {**record.counts, "reused": task.reused}
    return replace(record, counts=counts, sequential=note), samples


def bet_result(bet: Bet, task: Rounds, candidate: TaskScores, defaults: Defaults) -> RuleResult:
    """The result of a rule that was bet on, over the documents that its bets used.

    Args:
        candidate: The task in the finished run, which holds the documents of `task.used`.
    """
    assert bet.difference is not None, f"no document of {candidate.name} was scored"
    place = {position: number for number, position in enumerate(sorted(task.used))}
    positions = sorted(bet.positions)
    ours = on_documents(candidate, [place[position] for position in positions], bet.metric)
    theirs = as_asked(on_documents(bet.baseline, positions, bet.metric), ours)
    total = len(task.prepared.prompts)
    result = replace(
        describe(bet.contest.rule, ours, theirs, bet.contest.against),
        margin=bet.margin,
        partial=total < candidate.record.dataset.num_available,
        documents_used=len(positions),
        documents_total=total,
    )
    return tested(result, bet.difference, defaults)
