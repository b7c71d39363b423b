"""The gate runs the model itself, whole or in rounds, and judges what comes of it.

What makes a candidate incomparable with its baseline, another task, other documents, prompts or shots, is found before
weights are read: then there is a report, and no run.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmeval.cache import ScoreCache, open_cache
from lmeval.compare import require_comparable
from lmeval.errors import NotComparableError
from lmeval.evaluate import evaluate, run_fingerprint
from lmeval.gate.config import GateConfig
from lmeval.gate.result import RuleResult, not_comparable
from lmeval.gate.rules import margin_of_difference
from lmeval.gate.sequential import (
    Bet,
    Rounds,
    begin_rounds,
    bet_result,
    can_bet,
    play,
    used_task,
)
from lmeval.gate.suite import (
    Contest,
    GateReport,
    conclude,
    judge_contest,
    judge_suite,
    make_contests,
    missing,
    suite_notes,
)
from lmeval.gate.views import expected_run
from lmeval.listener import Listener
from lmeval.prepare import PreparedTask
from lmeval.records import canonical_sha256
from lmeval.run import (
    FoundModel,
    Job,
    Keep,
    OpenJob,
    Prepared,
    Scored,
    find,
    keep_run,
    load,
    prepare_tasks,
    run_opened,
)
from lmeval.runs import StoredRun, load_run
from lmeval.store import Outputs, check_writable


@dataclass(frozen=True, slots=True)
class Opponents:
    """What the candidate is compared with."""

    baseline: StoredRun | None
    anchor: StoredRun | None = None


def run_and_judge(
    job: Job, keep: Keep, opponents: Opponents, config: GateConfig, listener: Listener
) -> tuple[GateReport, Path | None]:
    """Run the model on the job's tasks and judge the run; in rounds where `config.sequential` is enabled.

    Without rules, the default rules are those of the job's tasks.

    Returns:
        The report, and the folder of the run; None where model and baseline cannot be compared.

    Raises:
        LmevalError: Whatever is wrong with model, tasks or documents.
        NotComparableError: A metric is computed otherwise than in the baseline.
    """
    begin = time.perf_counter()
    check_writable(keep.output)
    with open_cache(keep.cache) as cache:
        return _run_and_judge(_Case(job, keep, opponents, config, listener, begin, cache))


def _run_and_judge(case: _Case) -> tuple[GateReport, Path | None]:
    job, opponents, config = case.job, case.opponents, case.config
    found = find(job.options)
    prepared = prepare_tasks(job, found, case.listener)
    if opponents.baseline is None:  # `min` and `max` only
        return _run_whole(case, found, prepared)
    if not config.rules:
        opponents = replace(opponents, baseline=_asked_only(opponents.baseline, prepared))
        case = replace(case, opponents=opponents)
    assert opponents.baseline is not None
    expected = expected_run(prepared, opponents.baseline, job, found.kind)
    contests = make_contests(config, expected, opponents.baseline, anchor=opponents.anchor)
    refused = list(_refused(contests, expected))
    if any(result.rule.level == "error" for result in refused):
        return _refusal(case, refused, len(contests)), None
    betting = _betting_tasks(contests, refused, prepared) if config.sequential.enabled else []
    if not betting:
        return _run_whole(case, found, prepared)
    rounds = [_rounds(task, contests, expected, config) for task in betting]
    folder = _run_rounds(case, found, prepared, rounds, _not_bet(contests, rounds))
    return _judge_rounds(case, load_run(folder), rounds, contests), folder


@dataclass(frozen=True, slots=True)
class _Case:
    """What is to be judged, by what, and how the run is kept."""

    job: Job
    keep: Keep
    opponents: Opponents
    config: GateConfig
    listener: Listener
    begin: float  # time.perf_counter
    cache: ScoreCache | None

    def opened(self, found: FoundModel, prepared: Prepared) -> OpenJob:
        """The model loaded beside its tasks."""
        engine = load(found, self.listener, self.cache)
        return OpenJob(engine, prepared.tasks, prepared.skipped, self.cache)

    def report(
        self, candidate: StoredRun | None, results: Sequence[RuleResult], notes: Sequence[str]
    ) -> GateReport:
        """The suite's verdict."""
        runs = {
            "candidate": candidate,
            "baseline": self.opponents.baseline,
            "anchor": self.opponents.anchor,
        }
        identities = {name: run.identity for name, run in runs.items() if run is not None}
        return conclude(results, self.config, runs=identities, notes=notes)


def _run_whole(case: _Case, found: FoundModel, prepared: Prepared) -> tuple[GateReport, Path]:
    """Run everything, then judge the run."""
    opened = case.opened(found, prepared)
    _, folder = run_opened(opened, case.job, case.keep, case.listener, case.begin)
    other = case.opponents
    return judge_suite(load_run(folder), other.baseline, case.config, anchor=other.anchor), folder


# ---- before the model is loaded ----


def _asked_only(baseline: StoredRun, prepared: Prepared) -> StoredRun:
    """The baseline without the tasks that the job leaves out: default rules are then of those that it asks."""
    asked = {task.spec.name for task in prepared.tasks}
    tasks = {name: task for name, task in baseline.tasks.items() if name in asked}
    if not tasks:
        raise NotComparableError(
            f"the baseline has none of the tasks that are asked: {', '.join(sorted(asked))}",
            where=str(baseline.path),
            fix=f"it has {', '.join(baseline.tasks)}",
        )
    return replace(baseline, tasks=tasks)


def _refused(contests: Sequence[Contest], expected: StoredRun) -> Iterator[RuleResult]:
    """The rules that cannot be judged, whatever the model will say."""
    for contest in contests:
        rule, other = contest.rule, contest.opponent
        problem = missing(rule, expected, "the candidate")
        if problem is None and rule.needs_baseline:
            assert other is not None and rule.metric is not None
            problem = missing(rule, other, f"the {contest.against}")
            if problem is None:
                problem = _why_not(contest, expected)
        if problem is not None:
            yield not_comparable(rule, problem, contest.against)


def _why_not(contest: Contest, expected: StoredRun) -> str | None:
    rule, other = contest.rule, contest.opponent
    assert other is not None and rule.metric is not None
    try:
        require_comparable(other.tasks[rule.task], expected.tasks[rule.task], rule.metric)
        margin_of_difference(rule, other.tasks[rule.task].metrics[rule.metric])
    except NotComparableError as error:
        return str(error)
    return None


def _refusal(case: _Case, refused: Sequence[RuleResult], num_rules: int) -> GateReport:
    notes = ["the model was not loaded: its run could not be compared"]
    if len(refused) < num_rules:
        notes.append(f"{num_rules - len(refused)} other rules were not tried")
    return case.report(None, refused, notes)


# ---- in rounds ----


def _betting_tasks(
    contests: Sequence[Contest], refused: Sequence[RuleResult], prepared: Prepared
) -> list[PreparedTask]:
    """The tasks that have rules, all of which can bet."""
    whole = {contest.rule.task for contest in contests if not can_bet(contest)}
    whole |= {result.rule.task for result in refused}
    ruled = {contest.rule.task for contest in contests} - whole
    return [task for task in prepared.tasks if task.spec.name in ruled]


def _rounds(
    task: PreparedTask, contests: Sequence[Contest], expected: StoredRun, config: GateConfig
) -> Rounds:
    name = task.spec.name
    bets = [_bet(contest) for contest in contests if contest.rule.task == name]
    return begin_rounds(task, expected.tasks[name], bets, config.sequential.seed)


def _bet(contest: Contest) -> Bet:
    assert contest.opponent is not None and contest.rule.metric is not None
    baseline = contest.opponent.tasks[contest.rule.task]
    return Bet(contest, baseline, margin_of_difference(contest.rule, baseline.metrics[contest.rule.metric]))


def _not_bet(contests: Sequence[Contest], rounds: Sequence[Rounds]) -> list[RuleResult]:
    """Rules that are judged at the end: until then their p-values are 1."""
    names = {task.scores.name for task in rounds}
    return [
        RuleResult(contest.rule, contest.against, "INCONCLUSIVE", p_pass=1.0, p_fail=1.0)
        for contest in contests
        if contest.rule.task not in names and not contest.rule.on_point_estimate
    ]


def _run_rounds(
    case: _Case,
    found: FoundModel,
    prepared: Prepared,
    rounds: Sequence[Rounds],
    others: Sequence[RuleResult],
) -> Path:
    """Score what the rules need, and keep it as a run; its folder."""
    opened = case.opened(found, prepared)
    engine = opened.engine
    seed, order_seed = case.job.settings.seed, case.config.sequential.seed
    in_rounds = {task.scores.name: task for task in rounds}

    def score(stores: Sequence[Outputs]) -> Scored:
        play(rounds, others, case.config, engine, stores, case.listener)
        scored = {
            task.spec.name: used_task(in_rounds[task.spec.name], engine, seed, stores, order_seed)
            if task.spec.name in in_rounds
            else evaluate(task, engine, seed=seed, stores=stores, listener=case.listener)
            for task in prepared.tasks
        }
        return {name: (record, {name: samples}) for name, (record, samples) in scored.items()}

    fingerprint = canonical_sha256([run_fingerprint(engine, prepared.tasks), "sequential", order_seed])
    _, folder = keep_run(opened, case.job, case.keep, fingerprint, case.begin, score)
    return folder


def _judge_rounds(
    case: _Case, candidate: StoredRun, rounds: Sequence[Rounds], contests: Sequence[Contest]
) -> GateReport:
    """The report over all rules, those that bet and those that did not."""
    bets = {id(bet.contest): (bet, task) for task in rounds for bet in task.bets}
    results = []
    for contest in contests:
        if id(contest) in bets:
            bet, task = bets[id(contest)]
            results.append(bet_result(bet, task, candidate.tasks[contest.rule.task], case.config.defaults))
        else:
            results.append(judge_contest(contest, candidate, case.config.defaults))
    assert case.opponents.baseline is not None
    used = [_used(task, case.config.sequential.seed) for task in rounds]
    names = {task.scores.name for task in rounds}
    ours, theirs = (_without(run, names) for run in (candidate, case.opponents.baseline))
    return case.report(candidate, results, [*suite_notes(ours, theirs, case.config), *used])


def _without(run: StoredRun, names: Collection[str]) -> StoredRun:
    """The run without some tasks: of one that was scored in part, a comparison with the whole would say nonsense."""
    return replace(run, tasks={name: task for name, task in run.tasks.items() if name not in names})


def _used(task: Rounds, seed: int) -> str:
    """How far a task was scored."""
    used, total = len(task.used), len(task.prepared.prompts)
    stopped = "all there are" if task.is_exhausted else "then every rule was decided"
    return (
        f"{task.scores.name}: scored {used:,} of {total:,} documents, {stopped} (random order, seed {seed})"
    )
