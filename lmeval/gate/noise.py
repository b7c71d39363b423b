"""Step noise: how much adjacent checkpoints differ beyond what their documents and the trend explain.

Two checkpoints of one training run differ although nothing is wrong with either: the order of the data, the place on a
bumpy loss. A paired test over documents does not see that, and calls it a regression: where checkpoints differ by 0.5
points and the standard error is 0.28, "not worse than the last one" raises a false alarm 21 % of the time.
simulations/step_noise.py holds the correction to its level.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lmeval.compare.comparable import require_comparable, shared_clusters
from lmeval.errors import NotComparableError, UsageError
from lmeval.gate.config import GateConfig
from lmeval.gate.suite import GateReport, bind_rules, judge_suite
from lmeval.paired import StepNoise, paired_difference
from lmeval.runs import StoredRun, TaskScores
from lmeval.stats import FloatArray

DEFAULT_CHECKPOINTS = 5
MIN_CHECKPOINTS = 4  # with 3 the correction alarmed in up to 8 % of the simulations at 5 %


@dataclass(frozen=True, slots=True)
class HistoryNoise:
    """Step noise for every (task, metric), and what a report says about it."""

    noise: dict[tuple[str, str], StepNoise]
    steps: tuple[int, ...]  # the checkpoints it is from
    notes: tuple[str, ...]


def history_noise(
    history: Sequence[StoredRun],
    candidate: StoredRun,
    asked: Collection[tuple[str, str]],
    m: int = DEFAULT_CHECKPOINTS,
) -> HistoryNoise:
    """Step noise from the last m checkpoints before the candidate.

    Args:
        history: Runs of one training run, by step.
        candidate: Left out with all that came after it: a real drop must not excuse itself.
        asked: (task, metric) pairs; those without statistics per document have no noise.
        m: How many checkpoints, if there are so many.

    Raises:
        UsageError: Too few checkpoints.
        NotComparableError: They did not answer the candidate's questions.
    """
    before = _before(history, candidate)
    _require_enough(len(before), m, candidate)
    noise = {}
    for task, metric in asked:
        if task in candidate.tasks and metric in candidate.tasks[task].metrics:
            _check_tasks(before[-m:], candidate.tasks[task], metric)
            if candidate.tasks[task].metrics[metric].interval is not None:
                noise[task, metric] = step_noise(before, task, metric, m)
    steps = tuple(run.record.model.step or 0 for run in before[-m:])
    return HistoryNoise(noise, steps, tuple(_notes(noise, steps)))


def judge_with_history(
    candidate: StoredRun,
    history: Sequence[StoredRun],
    config: GateConfig,
    *,
    baseline: StoredRun | None = None,
    anchor: StoredRun | None = None,
    m: int = DEFAULT_CHECKPOINTS,
) -> GateReport:
    """Judge a checkpoint with the step noise of those before it added.

    Args:
        baseline: None: the last checkpoint before the candidate.
        anchor: None: the first checkpoint of the history, so that a small loss at every step does not pass for ever.

    Raises:
        UsageError: Too few checkpoints.
        NotComparableError: They did not answer the candidate's questions.
    """
    before = _before(history, candidate)
    _require_enough(len(before), m, candidate)
    baseline = baseline or before[-1]
    notes = []
    if anchor is None and before[0].record.run_id != baseline.record.run_id:
        anchor = before[0]
        notes.append(
            f"the anchor is the history's first checkpoint, step {anchor.record.model.step:,}; --anchor names another"
        )
    rules = bind_rules(config, candidate, baseline)
    found = history_noise(
        before, candidate, [(rule.task, rule.metric or "") for rule in rules if rule.needs_baseline], m
    )
    report = judge_suite(candidate, baseline, config, anchor=anchor, noise=found.noise)
    return replace(report, notes=(*report.notes, *found.notes, *notes))


def _before(history: Sequence[StoredRun], candidate: StoredRun) -> list[StoredRun]:
    """The runs of other weights, as long as they are no later than the candidate."""
    model = candidate.record.model
    others = [run for run in history if run.record.model.weights_sha256 != model.weights_sha256]
    if model.step is None:
        return others
    return [run for run in others if run.record.model.step is not None and run.record.model.step < model.step]


def _require_enough(found: int, m: int, candidate: StoredRun) -> None:
    if m < MIN_CHECKPOINTS:
        raise UsageError(
            f"--steps {m} is too few: step noise takes at least {MIN_CHECKPOINTS} checkpoints",
            fix=f"leave it out for the last {DEFAULT_CHECKPOINTS}",
        )
    if found < MIN_CHECKPOINTS:
        step = candidate.record.model.step
        when = "" if step is None else f" before step {step:,}"
        raise UsageError(
            f"the history has {found} checkpoints{when}; step noise takes at least {MIN_CHECKPOINTS}",
            fix="evaluate earlier ones: lmeval run --model 'checkpoints/step-*', or leave out --history",
        )


def _check_tasks(runs: Sequence[StoredRun], candidate: TaskScores, metric: str) -> None:
    for run in runs:
        which = f"step {run.record.model.step}"
        if candidate.name not in run.tasks:
            raise NotComparableError(
                f"the history's {which} has no task {candidate.name}",
                where=str(run.path),
                fix="evaluate the history with the candidate's tasks: what is done is not computed again",
            )
        require_comparable(run.tasks[candidate.name], candidate, metric, names=(which, "candidate"))


def _notes(noise: dict[tuple[str, str], StepNoise], steps: Sequence[int]) -> list[str]:
    if not noise:
        return []
    listed = ", ".join(f"{step:,}" for step in steps)
    found = ", ".join(
        f"{task} {metric} {one.variance**0.5:.4f}" if one.variance else f"{task} {metric} none"
        for (task, metric), one in noise.items()
    )
    return [
        f"step noise is added, from steps {listed} (standard deviation from one checkpoint to the next, beyond "
        f"documents and trend): {found}"
    ]


def step_noise(
    history: Sequence[StoredRun], task: str, metric: str, m: int = DEFAULT_CHECKPOINTS
) -> StepNoise:
    """Step noise of one metric from the last m runs of a history, on the scale of its paired differences."""
    runs = history[-m:]
    found = [_difference(a.tasks[task], b.tasks[task], metric) for a, b in pairwise(runs)]
    steps = np.array([run.record.model.step for run in runs], dtype=np.float64)
    variance, df = noise_variance(
        np.array([delta for delta, _ in found]), np.array([stderr for _, stderr in found]), np.diff(steps)
    )
    return StepNoise(variance, df, len(runs))


def _difference(before: TaskScores, after: TaskScores, metric: str) -> tuple[float, float]:
    """The paired difference of two checkpoints and its standard error over documents; 0 where it has none."""
    ours, theirs = before.metrics[metric], after.metrics[metric]
    assert ours.interval is not None, f"{metric} has no statistics"
    difference = paired_difference(
        ours.interval,
        ours.statistics,
        theirs.statistics,
        ours.aggregate,
        higher_is_better=ours.higher_is_better,
        clusters=shared_clusters(before, after),
        bounds=ours.bounds,
        rng=np.random.default_rng(0),
    )
    return difference.delta, difference.stderr or 0.0


def noise_variance(deltas: FloatArray, stderrs: FloatArray, gaps: FloatArray) -> tuple[float, float]:
    """Variance of adjacent differences beyond trend and document error, and its degrees of freedom.

    The trend is a change in proportion to the steps between two checkpoints. What is left of the differences has the
    variance S2 with k - 1 degrees of freedom; document error explains the mean squared standard error of it. The
    difference of the two has (k - 1) (v / S2)^2 degrees of freedom (Satterthwaite 1946): little noise is known badly.

    Args:
        deltas: (k,) differences of adjacent checkpoints, k >= 2.
        stderrs: (k,) their paired standard errors over documents.
        gaps: (k,) training steps between them, above 0.

    Returns:
        Variance, 0 where documents explain all, and degrees of freedom.
    """
    free = len(deltas) - 1
    slope = float(deltas @ gaps / (gaps @ gaps))
    left = deltas - slope * gaps
    total = float(left @ left) / free
    variance = total - float(np.mean(stderrs**2))
    if variance <= 0:
        return 0.0, float(free)
    return variance, free * (variance / total) ** 2
