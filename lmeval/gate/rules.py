"""One rule on one task: the test of two runs, its p-values and what the documents can show."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from lmeval.compare import Flip, count_flips, require_comparable, shared_clusters, worst_flips
from lmeval.errors import NotComparableError, UsageError
from lmeval.gate.absolute import judge_bound
from lmeval.gate.config import Defaults, Margin, Rule
from lmeval.gate.relative import ShiftedDifference, factor_of, scaled
from lmeval.gate.result import (
    BOOTSTRAP_SEED,
    Against,
    RuleResult,
    Verdict,
    hashes_of,
    metric_of,
    not_comparable,
    where_of,
    with_verdict,
)
from lmeval.metrics import DISTANCE_OF, find_metric
from lmeval.paired import (
    Difference,
    DistanceDifference,
    StepNoise,
    TangoDifference,
    detectable_flip_margin,
    documents_needed,
    flip_documents_needed,
    flip_sd,
    mcnemar,
    minimum_detectable_effect,
    paired_difference,
)
from lmeval.runs import MetricScores, TaskScores

NUM_FLIPS = 3
FLIP_CHARACTERS = 1000


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
        rule: Of a task and a metric that both runs have.
        candidate: The task in the run that is judged.
        baseline: The task in the run that it is compared with; None is allowed for `min` and `max`.
        defaults: Level and power.
        against: Which of the two baselines that is.
        noise: Step noise to add to the squared standard error.

    Raises:
        UsageError: The rule makes no sense for the metric: a margin as wide as its range.
    """
    if not rule.needs_baseline:
        return judge_bound(rule, candidate, defaults)
    assert baseline is not None, f"a rule of {rule.kind} on {rule.task} compares two runs"
    try:
        require_comparable(baseline, candidate, rule.metric, names=(against, "candidate"))
        difference = make_difference(rule, candidate, baseline, noise)
        result = describe(rule, candidate, baseline, against)
    except NotComparableError as error:
        return not_comparable(rule, str(error), against)
    return tested(result, difference, defaults)


def make_difference(
    rule: Rule, candidate: TaskScores, baseline: TaskScores, noise: StepNoise | None = None
) -> Difference:
    """The paired difference that a rule judges."""
    ours, theirs = metric_of(rule, candidate), metric_of(rule, baseline)
    assert ours.interval is not None, f"{ours.name} is opaque"
    factor = factor_of(rule, theirs)
    table = theirs.statistics
    difference = paired_difference(
        ours.interval,
        table if factor is None else scaled(table, factor),
        ours.statistics,
        ours.aggregate,
        higher_is_better=ours.higher_is_better,
        distance=ours.distance,
        clusters=shared_clusters(baseline, candidate) if rule.cluster == "auto" else None,
        bounds=find_metric(ours.name).bounds,
        rng=np.random.default_rng(BOOTSTRAP_SEED),
        step_noise=noise,
    )
    if factor is None:
        return difference
    shift = (factor - 1) * float(table[:, 0].sum() / table[:, 1].sum())
    return ShiftedDifference(difference, -shift if ours.higher_is_better else shift)


def describe(rule: Rule, candidate: TaskScores, baseline: TaskScores, against: Against) -> RuleResult:
    """All of a result that needs no test."""
    ours, theirs = metric_of(rule, candidate), metric_of(rule, baseline)
    gains, losses = count_flips(baseline, candidate, ours.name)
    is_binary = ours.interval == "proportion"
    return RuleResult(
        rule,
        against,
        "INCONCLUSIVE",
        unit=ours.unit,
        kind=ours.interval,
        higher_is_better=ours.higher_is_better,
        candidate=ours.value,
        baseline=theirs.value,
        margin=margin_of_difference(rule, theirs),
        n=candidate.num_documents,
        gains=gains,
        losses=losses,
        p_mcnemar=mcnemar(gains, losses) if is_binary and gains is not None and losses is not None else None,
        partial=candidate.is_partial,
        hashes={"candidate": hashes_of(candidate), "baseline": hashes_of(baseline)},
        flips=tuple(map(_cut, worst_flips(baseline, candidate, ours.name, NUM_FLIPS))),
    )


def _cut(flip: Flip) -> Flip:
    """The flip with the end of its prompt, where the question stands, and no more of the rest than a report holds."""
    texts = (flip.expected, flip.baseline, flip.candidate)
    expected, baseline, candidate = (text and cut_end(text, FLIP_CHARACTERS) for text in texts)
    prompt = flip.prompt and cut_start(flip.prompt, FLIP_CHARACTERS)
    return replace(flip, prompt=prompt, expected=expected, baseline=baseline, candidate=candidate)


def cut_end(text: str, characters: int) -> str:
    """The first characters of a text, and a sign where something is left out."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def cut_start(text: str, characters: int) -> str:
    """The last characters of a text, and a sign where something is left out."""
    return text if len(text) <= characters else "…" + text[1 - characters :]


def tested(result: RuleResult, difference: Difference, defaults: Defaults) -> RuleResult:
    """The result with its difference judged; works for any Difference, one of a sequential test too."""
    rule, margin = result.rule, result.margin
    assert margin is not None
    low, high = difference.interval(1 - 2 * defaults.alpha)
    stderr = difference.stderr
    if stderr is not None and isinstance(difference, DistanceDifference):
        # what noise may have added shrinks as the standard error does, and has to be exceeded too
        levels = {"alpha": defaults.alpha, "power": defaults.power}
        stderr += difference.too_good / minimum_detectable_effect(1.0, 1, **levels)
    found = replace(
        result,
        method=difference.method,
        delta=difference.delta,
        interval=(low, high),
        n=difference.n,
        num_clusters=difference.num_clusters,
        caveats=tuple(caveat.text for caveat in difference.caveats),
        blocked=any(caveat.blocks for caveat in difference.caveats),
        **resolution(stderr, difference.n, margin, defaults, _flip_rate(difference), difference.delta),
    )
    if rule.on_point_estimate:
        verdict: Verdict = "PASS" if difference.delta >= -margin else "FAIL"
        return replace(found, method=f"point estimate ({found.method} for the interval)", verdict=verdict)
    if rule.kind == "superior":
        p_pass, p_fail = difference.p_better(margin), difference.p_worse(-margin)
    else:
        p_pass, p_fail = difference.p_not_worse(margin), difference.p_worse(margin)
    return with_verdict(replace(found, p_pass=p_pass, p_fail=p_fail), p_fail, defaults.alpha)


def _flip_rate(difference: Difference) -> float | None:
    """Of 0/1 scores that Tango's test judges."""
    if not isinstance(difference, TangoDifference):
        return None
    return (difference.gains + difference.losses) / difference.n


def resolution(
    stderr: float | None,
    n: int,
    margin: float,
    defaults: Defaults,
    flip_rate: float | None = None,
    delta: float = 0.0,
) -> dict[str, Any]:
    """`mde` and `documents_needed`.

    Args:
        stderr: Of the difference, with clusters and step noise in it.
        n: Documents.
        margin: On the scale of the difference.
        defaults: Level and power.
        flip_rate: 0/1 scores: the share of documents that flip, which Tango's test is planned by.
        delta: The difference that `stderr` was measured at.
    """
    if stderr is None or n < 2:
        return {}
    levels = {"alpha": defaults.alpha, "power": defaults.power}
    if flip_rate is None:
        sd = stderr * math.sqrt(n)
        needed = documents_needed(sd, margin, **levels) if margin > 0 else None
        return {"mde": minimum_detectable_effect(sd, n, **levels), "documents_needed": needed}
    # clusters and step noise: so many independent documents would have this standard error
    worth = min(n, 1 + flip_sd(flip_rate, delta) ** 2 / stderr**2) if stderr > 0 else n
    mde = detectable_flip_margin(flip_rate, round(worth), **levels)
    needed = None
    if 0 < margin < 1:
        needed = math.ceil(flip_documents_needed(flip_rate, margin, **levels) * n / worth - 1e-6)
    return {"mde": mde, "documents_needed": needed}


def margin_of_difference(rule: Rule, baseline: MetricScores) -> float:
    """The rule's margin on the scale of paired differences: of perplexities that of logarithms, else the metric's.

    A share is one of the baseline's value.

    Raises:
        UsageError: It is as wide as the metric's whole range, or the metric has no better and no worse.
        NotComparableError: It is a share of a baseline of 0.
    """
    margin = rule.margin
    assert margin is not None
    _check_direction(rule, baseline)
    log_scale = baseline.interval == "log_ratio"
    if log_scale:
        share = margin.value if margin.relative else margin.value / baseline.value
        if rule.kind == "superior":  # so much lower
            _check_share(rule, share)
            return -math.log1p(-share)
        return math.log1p(share)
    if margin.relative:
        if baseline.value == 0:
            raise NotComparableError(
                f"a margin of {margin} of the baseline's {baseline.name} is none: that is 0",
                fix="give an absolute `margin`",
            )
        return margin.value * abs(baseline.value)
    _check_range(rule, margin, baseline)
    return margin.value


def _check_direction(rule: Rule, metric: MetricScores) -> None:
    """Refuse to call a change better or worse where the best value lies in between."""
    if metric.ideal is None:
        return
    distance = DISTANCE_OF.get(metric.name)
    raise UsageError(
        f"A rule of {rule.kind} cannot judge {metric.name}: its best value is {metric.ideal:g}, and neither more nor "
        "less of it is better.",
        where=where_of(rule),
        fix=(f"judge {distance}, for which less is better, or " if distance else "")
        + f"give bounds around {metric.ideal:g} by a rule of min and one of max",
    )


def _check_share(rule: Rule, share: float) -> None:
    if share >= 1:
        raise UsageError(
            f"No {rule.metric} can be lower by {100 * share:g} % and above 0.",
            where=where_of(rule),
            fix="a smaller margin",
        )


def _check_range(rule: Rule, margin: Margin, metric: MetricScores) -> None:
    """Refuse a margin that nothing can exceed: points written where a share was meant."""
    low, high = find_metric(metric.name).bounds
    if math.isfinite(high - low) and margin.value >= high - low:
        raise UsageError(
            f"A margin of {margin} decides nothing: {metric.name} lies between {low:g} and {high:g}.",
            where=where_of(rule),
            fix=f"for {margin} points of 100 write {margin.value / 100:g}",
        )
