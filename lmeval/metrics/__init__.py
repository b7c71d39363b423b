"""Metrics: METRICS by name, METRICS_OF_TYPE by task type, and `compute`.

To add one, write a `Metric` in its family's file and put it in that file's dict.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmeval.errors import DataError, NumericError, UsageError, did_you_mean
from lmeval.metrics.base import Metric, MetricOptions, Samples, estimate, mean_of, one_text
from lmeval.metrics.bias import BIAS_METRICS, DISTANCE_OF, NEED_THREE_TEXTS
from lmeval.metrics.classification import ACC, CLASSIFICATION_METRICS, MINIMAL_PAIRS_METRICS
from lmeval.metrics.groups import GROUP_MEAN, gap_metric, group_means
from lmeval.metrics.likelihood import LIKELIHOOD_METRICS, PSEUDO, PSEUDO_METRICS
from lmeval.metrics.memorization import MEMORIZATION_METRICS
from lmeval.metrics.plugin import PREFIX as PLUGIN_PREFIX
from lmeval.metrics.plugin import compute_plugin, require_plugin
from lmeval.metrics.qa import QA_METRICS
from lmeval.metrics.ranks import RANK_METRICS, RANK_METRICS_OF_K
from lmeval.metrics.regression import REGRESSION_METRICS
from lmeval.metrics.repeated import METRICS_OF_K, REPEATED_METRICS
from lmeval.metrics.summarization import SUMMARIZATION_METRICS
from lmeval.metrics.translation import TRANSLATION_METRICS, require_tokenizer
from lmeval.records import MetricValue
from lmeval.stats import FloatArray

__all__ = [
    "DISTANCE_OF",
    "METRICS",
    "METRICS_OF_TYPE",
    "NEED_THREE_TEXTS",
    "PLUGIN_PREFIX",
    "PRO_ANTI_GAP",
    "PSEUDO",
    "Measured",
    "Metric",
    "MetricOptions",
    "compute",
    "find_metric",
    "fits_type",
    "measure",
    "metric_names",
    "names_over_groups",
    "needs_rank",
    "require_metrics",
    "statistics",
    "takes_groups",
    "takes_k",
    "texts_needed",
]

_OF_DOCUMENTS: dict[str, Metric] = {
    **MINIMAL_PAIRS_METRICS,
    **BIAS_METRICS,
    **CLASSIFICATION_METRICS,
    **REGRESSION_METRICS,
    **LIKELIHOOD_METRICS,
    **PSEUDO_METRICS,
    **RANK_METRICS,
    **MEMORIZATION_METRICS,
    **QA_METRICS,
    **REPEATED_METRICS,
    **TRANSLATION_METRICS,
    **SUMMARIZATION_METRICS,
}
PRO_ANTI_GAP = "pro_anti_gap"
METRICS: dict[str, Metric] = {
    **_OF_DOCUMENTS,
    **group_means(_OF_DOCUMENTS),
    PRO_ANTI_GAP: gap_metric(ACC),
}

# The metrics a task file may name, by its type; the first is the main one
METRICS_OF_TYPE: dict[str, tuple[str, ...]] = {
    "perplexity": ("word_ppl", "token_ppl", "byte_ppl", "bits_per_byte"),
    "cloze": ("acc", "ppl", *RANK_METRICS),
    "qa": (*QA_METRICS, *REPEATED_METRICS),
    "classification": tuple(CLASSIFICATION_METRICS),
    "next_sentence": tuple(name for name in CLASSIFICATION_METRICS if name != "acc_norm"),
    "regression": tuple(REGRESSION_METRICS),
    "translation": tuple(TRANSLATION_METRICS),
    "summarization": tuple(SUMMARIZATION_METRICS),
    "minimal_pairs": (*MINIMAL_PAIRS_METRICS, *BIAS_METRICS),
    "generation": ("exact_match", *REPEATED_METRICS),
    "memorization": tuple(MEMORIZATION_METRICS),
}


_OF_K = {**METRICS_OF_K, **RANK_METRICS_OF_K}


def takes_k(name: str) -> str | None:
    """ "pass" of "pass@5", "acc" of "acc@10": what stands before a number; None where nothing does."""
    found = re.fullmatch(r"([a-z]+)@[1-9][0-9]{0,5}", name)
    return found[1] if found and found[1] in _OF_K else None


def needs_rank(name: str) -> bool:
    """Whether the metric is computed from the answer's rank in the vocabulary."""
    return name in RANK_METRICS or takes_k(name) in RANK_METRICS_OF_K


def takes_groups(name: str) -> bool:
    """Whether the metric is computed from the groups of a task, see metrics.groups."""
    return name in METRICS and METRICS[name].takes_groups


def fits_type(name: str, task_type: str) -> bool:
    """Whether a task of this type may name the metric."""
    own = METRICS_OF_TYPE[task_type]
    if takes_groups(name):
        return ("acc" if name == PRO_ANTI_GAP else name.removeprefix(GROUP_MEAN)) in own
    family = takes_k(name)
    return name in own if family is None else f"{family}@K" in metric_names(task_type)


def texts_needed(name: str) -> int:
    """How many texts a document the metric takes at the least."""
    if takes_k(name) in METRICS_OF_K:
        return int(name.partition("@")[2])
    return 2 if name in REPEATED_METRICS else 1


def metric_names(task_type: str) -> tuple[str, ...]:
    """The metrics a task of this type may name; K stands for a number."""
    own = METRICS_OF_TYPE[task_type]
    of_k = METRICS_OF_K if "majority" in own else RANK_METRICS_OF_K if "mrr" in own else ()
    return (*own, *(f"{family}@K" for family in of_k))


def names_over_groups(task_type: str) -> tuple[str, ...]:
    """The metrics that a task of this type may name beside, where it has groups; METRIC stands for one of its own."""
    own = METRICS_OF_TYPE[task_type]
    gap = [PRO_ANTI_GAP] * ("acc" in own)
    return (*gap, *[f"{GROUP_MEAN}METRIC"] * any(GROUP_MEAN + name in METRICS for name in own))


def find_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UsageError: There is none.
    """
    family = takes_k(name)
    if family is not None:
        return _OF_K[family](int(name.partition("@")[2]))
    if name not in METRICS:
        known = ", ".join((*METRICS, *(f"{family}@K" for family in _OF_K)))
        raise UsageError(f'There is no metric "{name}".{did_you_mean(name, METRICS)}', fix=f"one of: {known}")
    return METRICS[name]


def require_metrics(
    names: Sequence[str], options: MetricOptions, *, offline: bool = False, trust_remote_code: bool = False
) -> None:
    """See, before a model is run, that what these metrics read can be had: a script, a tokenizer and its file.

    Args:
        names: Of the metrics.
        options: What the task says about them.
        offline: No file is brought.
        trust_remote_code: The user has consented to metrics that are programs.

    Raises:
        UsageError: It cannot, with the next step.
    """
    for name in names:
        if name.startswith(PLUGIN_PREFIX):
            require_plugin(name, trusted=trust_remote_code)
        elif name == "bleu":
            require_tokenizer(options, offline=offline)


def statistics(name: str, samples: Samples, options: MetricOptions) -> FloatArray:
    """Per-document statistics, shape (n, K): what `find_metric(name).aggregate` takes the sums of.

    For the intervals mean, proportion, ratio and log_ratio the columns are (numerator, weight). Of repeated
    sampling they hold every text: the mean of a document's scores, or the sum of its counts.

    Raises:
        UsageError: No such metric; those of `evaluate:` have no statistics.
        NumericError: A likelihood is NaN or infinite.
        DataError: There are no samples, or one has no references.
    """
    _require_samples(name, samples)
    return _over_texts(find_metric(name), _tables(name, samples, options))


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric of a task's samples."""

    value: MetricValue
    scores: list[float] | None  # each document's own, where it has one
    repetition_scores: list[tuple[float, ...]] | None  # each document's, one per text


def compute(
    name: str, samples: Samples, options: MetricOptions, seed: int
) -> tuple[MetricValue, list[float] | None]:
    """As `measure`: the value, and each document's own score where it has one."""
    measured = measure(name, samples, options, seed)
    return measured.value, measured.scores


def measure(name: str, samples: Samples, options: MetricOptions, seed: int) -> Measured:
    """A metric of a task's samples.

    Args:
        name: A key of METRICS, pass@K, maj@K or acc@K, or `evaluate:NAME_OR_PATH`.
        samples: One per document.
        options: What the task says about its metrics.
        seed: Of the bootstrap, where there is one.

    Raises:
        UsageError: No such metric, or one of `evaluate:` that cannot be used.
        NumericError: NaN or infinity, with the document's id.
        DataError: There are no samples, or one has no references.
    """
    _require_samples(name, samples)
    if name.startswith(PLUGIN_PREFIX):
        return Measured(compute_plugin(name, samples, seed), None, None)
    metric = find_metric(name)
    tables = _tables(name, samples, options)
    found = estimate(metric, _over_texts(metric, tables), seed)
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
        signature=metric.signature(samples, options) + _texts_signature(metric, samples),
        num_documents=len(samples),
        spread=_spread(metric, tables),
        ideal=metric.ideal,
    )
    if metric.document_scores is None:
        return Measured(value, None, None)
    scores = np.stack([metric.document_scores(table) for table in tables])
    by_text = None if len(tables) == 1 else [tuple(column) for column in scores.T.tolist()]
    return Measured(value, scores.mean(axis=0).tolist(), by_text)


def _require_samples(name: str, samples: Samples) -> None:
    if not samples:
        raise DataError(
            f'The metric "{name}" has no documents to average over.', fix="see the task's split and --limit"
        )


# ---- repeated sampling ----


def num_texts(samples: Samples) -> int:
    """Texts a document: 1 unless sampling was repeated."""
    return 1 if samples[0].predictions is None else len(samples[0].predictions)


def _tables(name: str, samples: Samples, options: MetricOptions) -> list[FloatArray]:
    """The statistics, shape (n, K), of each repetition by itself; one table where there is one text a document."""
    metric, repetitions = find_metric(name), num_texts(samples)
    if repetitions == 1 or metric.reads_all_texts:
        return [metric.statistics(samples, options)]
    return [
        metric.statistics([one_text(sample, number) for sample in samples], options)
        for number in range(repetitions)
    ]


def _over_texts(metric: Metric, tables: Sequence[FloatArray]) -> FloatArray:
    """One table of all repetitions: scores are averaged by document, counts of a corpus metric are pooled."""
    if len(tables) == 1:
        return tables[0]
    total = np.sum(tables, axis=0)
    return np.asarray(total if metric.interval == "bootstrap" else total / len(tables), dtype=np.float64)


def _spread(metric: Metric, tables: Sequence[FloatArray]) -> float | None:
    if len(tables) == 1:
        return None
    values = metric.aggregate(np.stack([table.sum(axis=0) for table in tables]))
    return float(values.std(ddof=1))


def _texts_signature(metric: Metric, samples: Samples) -> str:
    repetitions = num_texts(samples)
    if repetitions == 1:
        return ""
    how = "mean" if metric.aggregate is mean_of else "pooled"
    return f"|texts:{repetitions}" + ("" if metric.reads_all_texts else f",{how}")
