"""One rule of `min` or `max` on one task: a run against a fixed bound."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from lmeval.errors import UsageError
from lmeval.gate.bounds import Level as ValueLevel
from lmeval.gate.bounds import level_of
from lmeval.gate.config import Defaults, Rule
from lmeval.gate.result import BOOTSTRAP_SEED, RuleResult, hashes_of, metric_of, where_of, with_verdict
from lmeval.metrics import find_metric
from lmeval.paired import documents_needed, minimum_detectable_effect
from lmeval.runs import MetricScores, TaskScores


def judge_bound(rule: Rule, candidate: TaskScores, defaults: Defaults) -> RuleResult:
    """Judge a rule of `min` or `max`, see rules.judge.

    Raises:
        UsageError: No value of the metric can be beyond the bound.
    """
    metric = metric_of(rule, candidate)
    assert rule.bound is not None
    _check_bound(rule, metric)
    found = RuleResult(
        rule,
        "baseline",
        "INCONCLUSIVE",
        method="point estimate",
        unit=metric.unit,
        kind=metric.interval,
        higher_is_better=metric.higher_is_better,
        candidate=metric.value,
        n=candidate.num_documents,
        partial=candidate.is_partial,
        hashes={"candidate": hashes_of(candidate)},
    )
    level = level_in(rule, candidate, metric)
    if level is not None:
        low, high = level.interval(1 - 2 * defaults.alpha)
        found = replace(found, interval=(low, high), **_bound_resolution(level, rule.bound, defaults))
    if rule.on == "value":
        kept = metric.value >= rule.bound if rule.kind == "min" else metric.value <= rule.bound
        return replace(found, verdict="PASS" if kept else "FAIL")
    if level is None:
        why = metric.opaque_because or "there is no spread to judge by"
        caveat = f"The value has no interval: {why}."
        return replace(found, method="none", caveats=(caveat,), blocked=True, p_pass=1.0, p_fail=1.0)
    above, below = level.p_above(rule.bound), level.p_below(rule.bound)
    p_pass, p_fail = (above, below) if rule.kind == "min" else (below, above)
    return with_verdict(
        replace(found, method=level.method, p_pass=p_pass, p_fail=p_fail), p_fail, defaults.alpha
    )


def level_in(rule: Rule, task: TaskScores, metric: MetricScores) -> ValueLevel | None:
    """The level of a metric of one run, in the clusters that the rule goes by; None where there is none."""
    if metric.interval is None:
        return None
    return level_of(
        metric.interval,
        metric.statistics,
        metric.aggregate,
        distance=metric.distance,
        clusters=task.clusters if rule.cluster == "auto" else None,
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    )


def _check_bound(rule: Rule, metric: MetricScores) -> None:
    """Refuse a bound that no value of the metric can be on the wrong, or on the right, side of."""
    assert rule.bound is not None
    low, high = find_metric(metric.name).bounds if metric.interval else (-math.inf, math.inf)
    if not low <= rule.bound <= high:
        fix = f"for {rule.bound:g} points of 100 write {rule.bound / 100:g}" if high == 1 else None
        raise UsageError(
            f"{rule.kind}: {rule.bound:g} decides nothing: {metric.name} lies between {low:g} and {high:g}.",
            where=where_of(rule),
            fix=fix,
        )


def _bound_resolution(level: ValueLevel, bound: float, defaults: Defaults) -> dict[str, Any]:
    """What these documents can show, and how many the distance from the bound needs."""
    levels = {"alpha": defaults.alpha, "power": defaults.power}
    sd, distance = level.stderr * math.sqrt(level.n), abs(level.value - bound)
    needed = documents_needed(sd, distance, **levels) if distance > 0 else None
    return {"mde": minimum_detectable_effect(sd, level.n, **levels), "documents_needed": needed}
