"""Whether a suite can be trusted with a model: it must not see what is not there, and must see what is.

A/A: the same model under other batch budgets and number formats. What differs then is the arithmetic, and a margin
below that noise floor would judge it. Damage: noise is added to one layer's weights, more and more, until the gate
fails it; where it never does, it is blind.
"""

from __future__ import annotations

import fnmatch
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lmeval.compare.comparable import shared_clusters
from lmeval.compare.flips import count_flips
from lmeval.engine.sources import ModelOptions
from lmeval.errors import NumericError, UsageError
from lmeval.gate.config import GateConfig, Rule
from lmeval.gate.suite import GateReport, default_rules, judge_suite
from lmeval.listener import Listener
from lmeval.paired import paired_difference
from lmeval.records import Sample
from lmeval.run import FoundModel, Job, Keep, OpenJob, Prepared, find, load, prepare_tasks, run_opened
from lmeval.runs import StoredRun, TaskScores, load_run
from lmeval.stats import FloatArray

STRENGTHS = (0.1, 0.3, 1.0, 3.0)  # in standard deviations of each matrix of the layer
HEADROOM = 2  # another rerun may differ by more than the few that were made
BUDGET_SHARE = 4  # the other batch budget is so many times smaller
SMALLEST_BUDGET = 16
# Rules that a model must pass against itself
COMPARING = ("noninferior", "max_drop", "max_relative_drop")

Listening = Callable[[], AbstractContextManager[Listener]]


@dataclass(frozen=True, slots=True)
class Floor:
    """How far one metric moves where nothing but the arithmetic changed."""

    task: str
    metric: str
    unit: str
    num_documents: int
    nats: float | None  # largest difference of a log-likelihood; None: the task has the model write
    flips: int | None  # most documents whose score changed; None: a metric without scores per document
    difference: float  # largest of the metric, on the scale of the gate's margins
    margins: tuple[float, ...]  # that the gate asks for

    @property
    def safe_margin(self) -> float:
        """The smallest margin that the arithmetic cannot reach."""
        return HEADROOM * self.difference

    @property
    def is_refused(self) -> bool:
        """A margin lies below what is safe."""
        return any(margin < self.safe_margin for margin in self.margins)


@dataclass(frozen=True, slots=True)
class Damage:
    """What the gate said of a damaged copy."""

    strength: float
    layer: str
    report: GateReport | None  # None: its scores were no numbers, and the run stopped at them
    problem: str | None = None

    @property
    def is_seen(self) -> bool:
        """A rule fails it, or it could not even be scored."""
        return self.report is None or _fails(self.report)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What a self-test found."""

    model: str
    variants: tuple[str, ...]  # the first is the one that the others are compared with
    floors: tuple[Floor, ...]
    false_alarms: tuple[str, ...]  # variants of the same weights that the gate fails
    damage: tuple[Damage, ...]
    not_tested: tuple[str, ...]  # rules of the gate file that say nothing here

    @property
    def passed(self) -> bool:
        """No margin below the noise, no false alarm, and the damage was seen."""
        return (
            not self.false_alarms and not any(floor.is_refused for floor in self.floors) and self.sees_damage
        )

    @property
    def sees_damage(self) -> bool:
        """Some damage was strong enough."""
        return any(damage.is_seen for damage in self.damage)


@dataclass(frozen=True, slots=True)
class _Bench:
    """What every run of a self-test shares."""

    job: Job
    found: FoundModel
    prepared: Prepared
    folder: Path
    listening: Listening

    def run(self, options: ModelOptions, name: str, damage: float | None = None) -> tuple[StoredRun, str]:
        """A run of a freshly loaded model, and the layer that was damaged."""
        from lmeval.engine.memory import release_memory

        begin = time.perf_counter()
        job, keep = replace(self.job, options=options), Keep(self.folder, resume=False, name=name)
        layer = ""
        with self.listening() as listener:
            engine: Any = load(replace(self.found, options=options), listener)
            if damage is not None:
                from lmeval.engine.damage import damage_layer

                layer = damage_layer(engine, damage)
            opened = OpenJob(engine, self.prepared.tasks, self.prepared.skipped)
            try:
                _, folder = run_opened(opened, job, keep, listener, begin)
            finally:
                del engine, opened
                gc.collect()
                release_memory()
        return load_run(folder), layer


def self_test(job: Job, config: GateConfig, listening: Listening, say: Callable[[str], None]) -> SelfTest:
    """Run the model under several budgets and formats, then damaged until the gate sees it.

    Args:
        config: A gate file, or an empty GateConfig: then the rules are the default ones.
        listening: A listener for each run.
        say: Is told of each run in a line.

    Raises:
        LmevalError: As `run.open_job`; UsageError where the gate file compares none of the tasks.
    """
    with tempfile.TemporaryDirectory(prefix="lmeval-selftest-") as folder:
        found = find(job.options)
        with listening() as listener:
            prepared = prepare_tasks(job, found, listener)
        bench = _Bench(job, found, prepared, Path(folder), listening)
        base, _ = bench.run(job.options, "base")
        say(f"as it is: {_setting(base)}")
        config, not_tested = _rules_for(config, base)
        again = []
        for number, options in enumerate(_variants(job.options, base)):
            run, _ = bench.run(options, f"again-{number}")
            say(f"again: {_setting(run)}")
            again.append(run)
        reports = [judge_suite(run, base, config) for run in again]
        alarms = [_setting(run) for run, report in zip(again, reports, strict=True) if _fails(report)]
        return SelfTest(
            model=job.options.model,
            variants=tuple(map(_setting, [base, *again])),
            floors=tuple(_floors(base, again, reports[0])),
            false_alarms=tuple(alarms),
            damage=tuple(_damage_until_seen(bench, base, config, say)),
            not_tested=tuple(not_tested),
        )


def _fails(report: GateReport) -> bool:
    """Whether some rule does, be it one that only warns."""
    return any(result.verdict == "FAIL" for result in report.results)


def _setting(run: StoredRun) -> str:
    return f"{run.record.model.dtype}, batches of {run.record.runtime.batch_tokens:,} tokens"


def _variants(options: ModelOptions, base: StoredRun) -> Iterator[ModelOptions]:
    """The same model with a smaller budget; in float32, where that is another format; with both."""
    smaller = max(SMALLEST_BUDGET, base.record.runtime.batch_tokens // BUDGET_SHARE)
    yield replace(options, batch_tokens=smaller)
    if base.record.model.dtype != "float32":
        yield replace(options, dtype="float32")
        yield replace(options, dtype="float32", batch_tokens=smaller)


def _rules_for(config: GateConfig, base: StoredRun) -> tuple[GateConfig, list[str]]:
    """The rules that compare runs on the tasks at hand, and which others the gate file has."""
    rules: Sequence[Rule] = config.rules or tuple(default_rules(config, base, base))
    kept = tuple(rule for rule in rules if rule.kind in COMPARING and _names_one(rule.task, base))
    if not kept:
        raise UsageError(
            f"no rule of {config.file} compares any of {', '.join(base.tasks)} with a baseline",
            fix=f"a self-test takes rules of {', '.join(COMPARING)} on the tasks that --tasks names",
        )
    left = [f"{rule.task} {rule.kind}" for rule in rules if rule not in kept]
    return replace(config, rules=kept), left


def _names_one(pattern: str, run: StoredRun) -> bool:
    return any(fnmatch.fnmatchcase(task, pattern) for task in run.tasks)


# ---- the noise floor ----


def _floors(base: StoredRun, again: Sequence[StoredRun], report: GateReport) -> Iterator[Floor]:
    margins: dict[tuple[str, str | None], list[float]] = {}
    for result in report.results:
        if result.margin is not None:
            margins.setdefault((result.rule.task, result.rule.metric), []).append(result.margin)
    for name, task in base.tasks.items():
        others = [run.tasks[name] for run in again]
        nats = _largest([_nats_apart(task, other) for other in others])
        for metric in task.metrics:
            yield Floor(
                task=name,
                metric=metric,
                unit=task.metrics[metric].unit,
                num_documents=task.num_documents,
                nats=nats,
                flips=_most_flips(task, others, metric),
                difference=max(abs(_difference(task, other, metric)) for other in others),
                margins=tuple(margins.get((name, metric), ())),
            )


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _nats_apart(task: TaskScores, other: TaskScores) -> float | None:
    """The largest difference of any log-likelihood of two runs."""
    everything = range(task.num_documents)
    ours, theirs = task.samples(everything), other.samples(everything)
    assert ours is not None and theirs is not None, "a run folder keeps its samples"
    return _largest([_apart(a, b) for a, b in zip(ours, theirs, strict=True)])


def _apart(ours: Sample, theirs: Sample) -> float | None:
    if ours.loglikelihood is None or theirs.loglikelihood is None:
        return None
    a: FloatArray = np.atleast_1d(np.asarray(ours.loglikelihood, dtype=np.float64))
    return float(np.abs(a - np.atleast_1d(theirs.loglikelihood)).max())


def _most_flips(task: TaskScores, others: Sequence[TaskScores], metric: str) -> int | None:
    """The most documents whose 0/1 score changed; None where none is right or wrong."""
    if task.metrics[metric].interval != "proportion" or task.metrics[metric].ideal is not None:
        return None
    return max(sum(change or 0 for change in count_flips(task, other, metric)) for other in others)


def _difference(task: TaskScores, other: TaskScores, metric: str) -> float:
    """Of a metric, on the scale of its margins."""
    ours, theirs = task.metrics[metric], other.metrics[metric]
    if ours.interval is None:
        return theirs.value - ours.value
    return paired_difference(
        ours.interval,
        ours.statistics,
        theirs.statistics,
        ours.aggregate,
        higher_is_better=ours.higher_is_better,
        clusters=shared_clusters(task, other),
        bounds=ours.bounds,
        rng=np.random.default_rng(0),
    ).delta


# ---- damage ----


def _damage_until_seen(
    bench: _Bench, base: StoredRun, config: GateConfig, say: Callable[[str], None]
) -> Iterator[Damage]:
    for strength in STRENGTHS:
        try:
            run, layer = bench.run(bench.job.options, f"damaged-{strength}", damage=strength)
            damage = Damage(strength, layer, judge_suite(run, base, config))
        except NumericError as error:
            damage = Damage(strength, "", None, str(error))
        verdict = "no score: NaN or infinity"
        if damage.report is not None:
            verdict = "FAIL" if damage.is_seen else damage.report.verdict
        say(f"damaged, noise of {strength:g} standard deviations in one layer: {verdict}")
        yield damage
        if damage.is_seen:
            return
