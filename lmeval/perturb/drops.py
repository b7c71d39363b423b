"""A task scored plain and under its perturbations, and what each costs: differences paired by document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lmeval.engine.base import Engine
from lmeval.errors import NotComparableError
from lmeval.evaluate import evaluate
from lmeval.listener import Listener
from lmeval.metrics import PLUGIN_PREFIX, Metric, MetricOptions, find_metric, statistics
from lmeval.paired import Difference, paired_difference
from lmeval.perturb import perturbed_name
from lmeval.prepare import PreparedTask
from lmeval.records import DropRecord, MetricValue, PerturbedRecord, Sample, TaskRecord, read_by_model
from lmeval.scoring import metric_options
from lmeval.stats import CONFIDENCE, Distance, FloatArray
from lmeval.store import Outputs

Samples = Sequence[Sample]


def evaluate_perturbed(
    prepared: PreparedTask,
    engine: Engine,
    *,
    seed: int = 0,
    stores: Sequence[Outputs] = (),
    listener: Listener | None = None,
) -> tuple[TaskRecord, dict[str, list[Sample]]]:
    """As `evaluate`, plain and then under each perturbation that was prepared.

    Returns:
        The task's record, and the samples by the name of their file: the task's, then task+perturbation.
    """
    record, plain = evaluate(prepared, engine, seed=seed, stores=stores, listener=listener)
    samples = {prepared.spec.name: plain}
    perturbed = {}
    for name in prepared.perturbed:
        own = prepared.under(name)
        found, changed = evaluate(own, engine, seed=seed, stores=stores, listener=listener)
        perturbed[name] = PerturbedRecord(
            seed=prepared.perturb_seed,
            num_changed=sum(
                read_by_model(before) != read_by_model(after)
                for before, after in zip(prepared.prompts, own.prompts, strict=True)
            ),
            prompts_sha256=found.prompts_sha256,
            metrics=found.metrics,
            drops=_drops(record.metrics, found.metrics, plain, changed, metric_options(prepared.spec), seed),
        )
        samples[perturbed_name(prepared.spec.name, name)] = changed
    return (replace(record, perturbed=perturbed) if perturbed else record), samples


def _drops(
    before: Mapping[str, MetricValue],
    after: Mapping[str, MetricValue],
    plain: Samples,
    changed: Samples,
    options: MetricOptions,
    seed: int,
) -> dict[str, DropRecord]:
    return {
        name: drop(name, value, after[name], plain, changed, options, seed) for name, value in before.items()
    }


def drop(
    name: str,
    before: MetricValue,
    after: MetricValue,
    plain: Samples,
    changed: Samples,
    options: MetricOptions,
    seed: int,
) -> DropRecord:
    """A metric under a perturbation less the metric without it; positive is better.

    Args:
        name: The metric's.
        before: The plain value.
        after: The value under the perturbation.
        plain: A sample for each document.
        changed: The same documents' samples under the perturbation.
        options: The task's.
        seed: Of the bootstrap, where there is one.
    """
    if name.startswith(PLUGIN_PREFIX):
        return _without_interval(before, after, "the evaluate library gives no score for each document")
    metric = find_metric(name)
    if before.ideal is not None:
        metric = _nearness(metric, before.ideal)
    try:
        difference = paired_difference(
            metric.interval,
            statistics(name, plain, options),
            statistics(name, changed, options),
            metric.aggregate,
            higher_is_better=metric.higher_is_better,
            distance=metric.distance,
            clusters=[sample.cluster for sample in plain],
            bounds=metric.bounds,
            rng=np.random.default_rng(seed),
        )
    except (
        NotComparableError
    ) as error:  # a perturbed context can take another part of the target into its tokens
        return _without_interval(before, after, error.what.rstrip("."))
    return _record(difference, relative=metric.interval == "log_ratio")


def _nearness(metric: Metric, ideal: float) -> Metric:
    """The metric as its distance to the ideal, negated: no mean of documents any more."""

    def aggregate(sums: FloatArray) -> FloatArray:
        return -np.abs(metric.aggregate(sums) - ideal)

    low, high = metric.bounds
    bounds = (-max(ideal - low, high - ideal), 0.0)
    distance = Distance(ideal) if metric.interval == "proportion" else None
    return replace(
        metric,
        aggregate=aggregate,
        interval="bootstrap",
        higher_is_better=True,
        bounds=bounds,
        distance=distance,
    )


def _record(difference: Difference, *, relative: bool) -> DropRecord:
    low, high = difference.interval(CONFIDENCE)
    bounded = math.isfinite(low) and math.isfinite(high)
    turn = _relative if relative else float
    stderr = difference.stderr
    if relative and stderr is not None:  # of the logarithm, by the delta method
        stderr *= math.exp(-difference.delta)
    return DropRecord(
        value=turn(difference.delta),
        stderr=stderr,
        ci_low=turn(low) if bounded else None,
        ci_high=turn(high) if bounded else None,
        ci_method=difference.method,
        p_worse=difference.p_worse(0.0),
        relative=relative,
        caveats=tuple(caveat.text for caveat in difference.caveats),
    )


def _relative(log_change: float) -> float:
    """A perplexity's change as a share of it, below 0 where it rose: `log_change` is ln(before / after)."""
    return -math.expm1(-log_change)


def _without_interval(before: MetricValue, after: MetricValue, why: str) -> DropRecord:
    return DropRecord(after.goodness - before.goodness, None, None, None, f"none: {why}", None)
