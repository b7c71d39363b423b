"""Metrics: METRICS by name, METRICS_OF_TYPE by task type, and `compute`.

To add one, write a `Metric` in its family's file and put it in that file's dict.
"""

from __future__ import annotations

import math

from lmeval.errors import DataError, NumericError, UsageError, did_you_mean
from lmeval.metrics.base import Metric, MetricOptions, Samples, estimate
from lmeval.metrics.classification import CLASSIFICATION_METRICS, MINIMAL_PAIRS_METRICS
from lmeval.metrics.likelihood import LIKELIHOOD_METRICS, PSEUDO, PSEUDO_METRICS
from lmeval.metrics.plugin import PREFIX as PLUGIN_PREFIX
from lmeval.metrics.plugin import compute_plugin
from lmeval.metrics.qa import QA_METRICS
from lmeval.metrics.summarization import SUMMARIZATION_METRICS
from lmeval.metrics.translation import TRANSLATION_METRICS
from lmeval.records import MetricValue
from lmeval.stats import FloatArray

__all__ = [
    "METRICS",
    "METRICS_OF_TYPE",
    "PLUGIN_PREFIX",
    "PSEUDO",
    "Metric",
    "MetricOptions",
    "compute",
    "find_metric",
    "statistics",
]

METRICS: dict[str, Metric] = {
    **MINIMAL_PAIRS_METRICS,
    **CLASSIFICATION_METRICS,
    **LIKELIHOOD_METRICS,
    **PSEUDO_METRICS,
    **QA_METRICS,
    **TRANSLATION_METRICS,
    **SUMMARIZATION_METRICS,
}

# The metrics a task file may name, by its type; the first is the main one
METRICS_OF_TYPE: dict[str, tuple[str, ...]] = {
    "perplexity": ("word_ppl", "token_ppl", "byte_ppl", "bits_per_byte"),
    "cloze": ("acc", "ppl"),
    "qa": tuple(QA_METRICS),
    "classification": tuple(CLASSIFICATION_METRICS),
    "translation": tuple(TRANSLATION_METRICS),
    "summarization": tuple(SUMMARIZATION_METRICS),
    "minimal_pairs": tuple(MINIMAL_PAIRS_METRICS),
    "generation": ("exact_match",),
}


def find_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in METRICS:
        raise UsageError(
            f'There is no metric "{name}".{did_you_mean(name, METRICS)}', fix=f"one of: {', '.join(METRICS)}"
        )
    return METRICS[name]


def statistics(name: str, samples: Samples, options: MetricOptions) -> FloatArray:
    """Per-document statistics, shape (n, K): what `find_metric(name).aggregate` takes the sums of.

    For the intervals mean, proportion, ratio and log_ratio the columns are (numerator, weight).

    Raises:
        UsageError: No such metric; those of `evaluate:` have no statistics.
        NumericError: A likelihood is NaN or infinite.
        DataError: There are no samples, or one has no references.
    """
    if not samples:
        raise DataError(
            f'The metric "{name}" has no documents to average over.', fix="see the task's split and --limit"
        )
    return find_metric(name).statistics(samples, options)


def compute(
    name: str, samples: Samples, options: MetricOptions, seed: int
) -> tuple[MetricValue, list[float] | None]:
    """A metric of a task's samples, and each document's own score where it has one.

    Args:
        name: A key of METRICS, or `evaluate:NAME_OR_PATH`.
        samples: One per document.
        options: What the task says about its metrics.
        seed: Of the bootstrap, where there is one.

    Raises:
        UsageError: No such metric, or one of `evaluate:` that cannot be used.
        NumericError: NaN or infinity, with the document's id.
        DataError: There are no samples, or one has no references.
    """
    if name.startswith(PLUGIN_PREFIX) and samples:
        return compute_plugin(name, samples, seed), None
    table = statistics(name, samples, options)
    metric = find_metric(name)
    found = estimate(metric, table, seed)
    if not math.isfinite(found.value):
        raise NumericError(f'The metric "{name}" is {found.value}.', where=f"over {len(samples)} documents")
    value = MetricValue(
        found.value,
        found.stderr,
        found.low,
        found.high,
        found.method,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        random_baseline=metric.random_baseline(samples),
        signature=metric.signature(samples, options),
        num_documents=len(samples),
    )
    return value, None if metric.document_scores is None else metric.document_scores(table).tolist()
