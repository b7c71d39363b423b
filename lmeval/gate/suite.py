"""All rules together: which tasks they bind, Holm's correction of FAIL, and the one verdict of the suite.

PASS needs every rule to pass and no correction: the suite passes wrongly only where some rule does (intersection-union,
Berger 1982). FAIL needs one, so its p-values are corrected (Holm 1979): uncorrected, ten rules with nothing wrong raise
an alarm in 40 % of the runs.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lmeval.compare.comparable import run_notes, task_notes
from lmeval.errors import UsageError, did_you_mean
from lmeval.gate.config import Defaults, GateConfig, Margin, Rule
from lmeval.gate.result import Against, RuleResult, Verdict, not_comparable, with_verdict
from lmeval.gate.rules import judge
from lmeval.metrics.base import Interval
from lmeval.paired import StepNoise, holm
from lmeval.runs import MetricScores, StoredRun

# The one place where a verdict becomes an exit code
EXIT_CODES: dict[Verdict, int] = {"PASS": 0, "FAIL": 10, "INCONCLUSIVE": 11, "NOT_COMPARABLE": 12}

# What a rule may cost where nobody has said: about the smallest loss that people act on
_DEFAULT_MARGINS: dict[Interval, Margin] = {
    "proportion": Margin(0.01),
    "mean": Margin(0.01),
    "ratio": Margin(0.005, relative=True),  # bits per byte
    "log_ratio": Margin(0.01, relative=True),  # perplexities
    "bootstrap": Margin(0.01),
}
_DEFAULT_ON_A_HUNDRED = Margin(1.0)  # BLEU, chrF, TER


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gate's answer."""

    verdict: Verdict
    results: tuple[RuleResult, ...]
    config: GateConfig
    runs: Mapping[str, Mapping[str, object]]  # identities of candidate, baseline and anchor
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """What the command exits with: EXIT_CODES of the verdict, nothing else."""
        return EXIT_CODES[self.verdict]


def judge_suite(
    candidate: StoredRun,
    baseline: StoredRun | None,
    config: GateConfig,
    *,
    anchor: StoredRun | None = None,
    noise: Mapping[tuple[str, str], StepNoise] | None = None,
) -> GateReport:
    """Judge every rule against the baseline and, where there is one, the anchor.

    Args:
        candidate: The run that is judged.
        baseline: None where the config has `min` and `max` only.
        config: The gate file, or an empty GateConfig: then default rules are made from the runs.
        anchor: A second baseline that stays fixed: what loses a little at every step must still pass it.
        noise: Step noise by (task, metric), where checkpoints of one training run are compared.

    Raises:
        UsageError: A rule makes no sense for its metric.
    """
    contests = make_contests(config, candidate, baseline, anchor=anchor, noise=noise)
    results = [judge_contest(contest, candidate, config.defaults) for contest in contests]
    runs = {"candidate": candidate, "baseline": baseline, "anchor": anchor}
    identities = {name: run.identity for name, run in runs.items() if run is not None}
    return conclude(results, config, runs=identities, notes=suite_notes(candidate, baseline, config))


@dataclass(frozen=True, slots=True)
class Contest:
    """A rule, and the run that the candidate is held to by it."""

    rule: Rule  # of a task's name, see bind_rules
    against: Against
    opponent: StoredRun | None
    noise: StepNoise | None = None


def make_contests(
    config: GateConfig,
    candidate: StoredRun,
    baseline: StoredRun | None,
    *,
    anchor: StoredRun | None = None,
    noise: Mapping[tuple[str, str], StepNoise] | None = None,
) -> list[Contest]:
    """Every rule against the baseline, and against the anchor where there is one and the rule compares runs."""
    contests = []
    for rule in bind_rules(config, candidate, baseline):
        step_noise = (noise or {}).get((rule.task, rule.metric or ""))
        contests.append(Contest(rule, "baseline", baseline, step_noise))
        if rule.needs_baseline and anchor is not None:
            contests.append(Contest(rule, "anchor", anchor, step_noise))
    return contests


# ---- which rules there are ----


def bind_rules(config: GateConfig, candidate: StoredRun, baseline: StoredRun | None) -> tuple[Rule, ...]:
    """Every rule on every task that it names, globs expanded and metrics filled in.

    Where the config has no rules they are made from the runs: no worse, by a default margin, in the main metric of each
    task of the baseline. A rule that matches no task is kept as it is: judging it says so.
    """
    if not config.rules:
        return tuple(default_rules(config, candidate, baseline))
    names = list(dict.fromkeys([*(baseline.tasks if baseline else ()), *candidate.tasks]))
    return tuple(
        replace(rule, task=task, metric=rule.metric or _main_metric(rule, task, candidate, baseline))
        for rule in config.rules
        for task in _matching(rule.task, names)
    )


def _matching(pattern: str, names: Sequence[str]) -> list[str]:
    if pattern in names or not is_glob(pattern):
        return [pattern]
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)] or [pattern]


def is_glob(pattern: str) -> bool:
    """Whether a task's name in a gate file means all that match."""
    return re.search(r"[*?\[]", pattern) is not None


def _main_metric(rule: Rule, task: str, *runs: StoredRun | None) -> str | None:
    """The first metric; for a rule that calls changes better or worse, the first of which they can be."""
    for run in runs:
        if run and task in run.tasks:
            names = list(run.tasks[task].metrics)
            judged = [name for name in names if run.tasks[task].metrics[name].ideal is None]
            return (judged or names)[0] if rule.needs_baseline else names[0]
    return None


def default_rules(config: GateConfig, candidate: StoredRun, baseline: StoredRun | None) -> Iterator[Rule]:
    """No worse than the baseline, by a default margin, in the main metric of each of its tasks.

    Raises:
        UsageError: No metric of any task can be better or worse.
    """
    defaults, tasks = config.defaults, baseline.tasks if baseline else {}
    found = {name: _default_metric(list(task.metrics.values())) for name, task in tasks.items()}
    if tasks and not any(found.values()):
        raise UsageError(
            f"No metric of {', '.join(tasks)} can be better or worse: each has a best value in between.",
            fix="write a gate file with rules of min and max around that value",
        )
    for name, metric in found.items():
        if metric is not None:
            yield Rule(
                name,
                metric.name,
                "noninferior",
                default_margin(metric),
                level=defaults.level,
                on_inconclusive=defaults.on_inconclusive,
                cluster=defaults.cluster,
            )


def _default_metric(metrics: Sequence[MetricScores]) -> MetricScores | None:
    """The main metric, or the first that can be compared document by document; None where all have an ideal."""
    judged = [metric for metric in metrics if metric.ideal is None]
    return next((metric for metric in judged if metric.interval is not None), judged[0] if judged else None)


def default_margin(metric: MetricScores) -> Margin:
    """How much worse a metric may be where no gate file says: a point of 100, or a share of a perplexity."""
    if metric.interval == "bootstrap" and "100" in metric.unit:
        return _DEFAULT_ON_A_HUNDRED
    return _DEFAULT_MARGINS[metric.interval or "mean"]


# ---- one rule ----


def judge_contest(contest: Contest, candidate: StoredRun, defaults: Defaults) -> RuleResult:
    """Judge a rule; what is in no run is NOT_COMPARABLE."""
    rule, against, other = contest.rule, contest.against, contest.opponent
    problem = missing(rule, candidate, "the candidate", other)
    if problem is None and rule.needs_baseline:
        problem = (
            "no baseline is given" if other is None else missing(rule, other, f"the {against}", candidate)
        )
    if problem is not None:
        return not_comparable(rule, problem, against)
    theirs = other.tasks[rule.task] if other is not None and rule.needs_baseline else None
    return judge(rule, candidate.tasks[rule.task], theirs, defaults, against=against, noise=contest.noise)


def missing(rule: Rule, run: StoredRun, which: str, other: StoredRun | None = None) -> str | None:
    """Why the run cannot answer the rule; None where it can.

    Args:
        rule: Of a task's name, or of a glob that nothing matches.
        run: The run.
        which: How the sentence calls it.
        other: A run that may have what this one lacks: then its name is no misspelling.
    """
    if rule.task not in run.tasks:
        if why := run.record.skipped.get(rule.task):
            return f"{which} has left out the task {rule.task}: {why}"
        if is_glob(rule.task):
            return f'no task matches "{rule.task}"; {which} has {_listed(run.tasks)}'
        meant = did_you_mean(rule.task, run.tasks) if other is None or rule.task not in other.tasks else ""
        return f'{which} has no task "{rule.task}".{meant} It has {_listed(run.tasks)}'
    metrics = run.tasks[rule.task].metrics
    if rule.metric not in metrics:
        name = str(rule.metric)
        return f'{which} has no metric "{name}" of {rule.task}.{did_you_mean(name, metrics)} It has {_listed(metrics)}'
    return None


def _listed(names: Mapping[str, object]) -> str:
    shown = list(names)[:8]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + more


def suite_notes(candidate: StoredRun, baseline: StoredRun | None, config: GateConfig) -> list[str]:
    """What a reader must know about the runs and the rules."""
    notes = []
    if baseline is not None:
        notes += _pair_notes(candidate, baseline)
    if not config.rules and baseline is not None:
        notes.append(
            "no gate file: these are default rules, one for the main metric of each task of the baseline; "
            "--write-config gate.yaml writes them to a file where you set the margins"
        )
        without = [
            name for name, task in baseline.tasks.items() if not _default_metric(list(task.metrics.values()))
        ]
        if without:
            notes.append(
                f"no default rule for {', '.join(without)}: the best value of every metric lies in between, "
                "so that no change is better or worse"
            )
        new = [name for name in candidate.tasks if name not in baseline.tasks]
        if new:
            notes.append(f"not judged, since the baseline does not have them: {', '.join(new)}")
    if config.rules and all(rule.level == "warn" for rule in config.rules):
        notes.append("every rule is at level warn: this gate cannot fail")
    return notes


def _pair_notes(candidate: StoredRun, baseline: StoredRun) -> list[str]:
    if baseline.record.run_id == candidate.record.run_id:
        return ["candidate and baseline are the same run: every difference is 0 by construction"]
    notes = run_notes(baseline.record, candidate.record)
    for name, task in baseline.tasks.items():
        if name in candidate.tasks:
            notes += task_notes(task, candidate.tasks[name])
    return notes


# ---- the verdict ----


def conclude(
    results: Sequence[RuleResult],
    config: GateConfig,
    *,
    runs: Mapping[str, Mapping[str, object]] | None = None,
    notes: Sequence[str] = (),
) -> GateReport:
    """Correct the FAIL p-values by Holm within each level, set each rule's verdict and the suite's.

    Results of a sequential test come here too: their p-values hold at any time.
    """
    alpha = config.defaults.alpha
    adjusted = _adjusted(results)
    corrected = tuple(
        with_verdict(result, adjusted[number], alpha) if number in adjusted else result
        for number, result in enumerate(results)
    )
    return GateReport(suite_verdict(corrected), corrected, config, runs or {}, tuple(notes))


def _adjusted(results: Sequence[RuleResult]) -> dict[int, float]:
    """Holm's p-values by the number of the result. Rules that only warn are a family of their own."""
    adjusted: dict[int, float] = {}
    for level in ("error", "warn"):
        family = [i for i, r in enumerate(results) if r.rule.level == level and r.p_fail is not None]
        # a claim that a caveat forbids counts as a test all the same
        p_values = [1.0 if results[i].blocked else results[i].p_fail or 0.0 for i in family]
        adjusted |= dict(zip(family, holm(p_values), strict=True))
    return adjusted


def suite_verdict(results: Sequence[RuleResult]) -> Verdict:
    """NOT_COMPARABLE if a rule of level error is, else FAIL if one is, else INCONCLUSIVE if one that must not be is.

    An INCONCLUSIVE rule stands in the way of PASS where `on_inconclusive` is "fail", not where it is "pass" or "warn".
    """
    binding = [result for result in results if result.rule.level == "error"]
    found = {r.verdict for r in binding if r.verdict != "INCONCLUSIVE" or r.rule.on_inconclusive == "fail"}
    for verdict in ("NOT_COMPARABLE", "FAIL", "INCONCLUSIVE"):
        if verdict in found:
            return verdict
    return "PASS"


def refusal(config: GateConfig, problem: str, *, candidate: StoredRun) -> GateReport:
    """The report where there is nothing to compare with: every rule is NOT_COMPARABLE, and so is the suite."""
    results = tuple(not_comparable(rule, problem) for rule in config.rules)
    return GateReport("NOT_COMPARABLE", results, config, {"candidate": candidate.identity}, (problem,))
