"""What a metric is: per-document statistics, an aggregate of their sums, and how its interval is found.

After sacrebleu (Post 2018): since a score is a function of summed per-document statistics, every metric can
be resampled and compared pair by pair, and every score carries a signature that says how it was computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lmeval import stats
from lmeval.errors import DataError, NumericError
from lmeval.records import Sample
from lmeval.stats import Distance, Estimate, FloatArray

Samples = Sequence[Sample]

# All but bootstrap have the columns (numerator, weight), and an aggregate of sum / sum, or exp of it
Interval = Literal["proportion", "mean", "ratio", "log_ratio", "bootstrap"]


@dataclass(frozen=True, slots=True)
class MetricOptions:
    """What a task says about how its metrics are computed."""

    task_type: str
    language: str | None = None  # ISO code; None: English rules
    ignore: tuple[str, ...] = ()  # generation: strings deleted from prediction and references
    rouge_stemmer: bool = False  # Porter stemmer, English only
    bleu_tokenize: str | None = None  # a sacrebleu tokenizer; None: by language
    extract_fallback: str | None = None  # generation: see requests.FALLBACKS; None: none


def no_baseline(samples: Samples) -> float | None:
    """For metrics that guessing gives no fixed value."""
    return None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; METRICS holds them by name."""

    statistics: Callable[[Samples, MetricOptions], FloatArray]  # (n, K)
    aggregate: stats.Aggregate  # (R, K) sums -> (R,) values
    interval: Interval
    signature: Callable[[Samples, MetricOptions], str]
    unit: str
    higher_is_better: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)  # of the value; a t interval is cut to them
    document_scores: Callable[[FloatArray], FloatArray] | None = None  # (n, K) -> (n,) for the sample lines
    random_baseline: Callable[[Samples], float | None] = no_baseline
    distance: Distance | None = None  # where it is one, and resamples mislead
    ideal: float | None = None  # the best value, where neither more nor less of it is better
    takes_groups: bool = False  # is computed from Sample.group
    reads_all_texts: bool = False  # of repeated sampling; the others are computed for each text by itself


def fixed_signature(text: str) -> Callable[[Samples, MetricOptions], str]:
    """A signature that depends on neither documents nor options."""
    return lambda samples, options: text


def mean_of(sums: FloatArray) -> FloatArray:
    """Aggregate of (numerator, weight) columns: (R, 2) -> (R,)."""
    return np.asarray(sums[:, 0] / sums[:, 1], dtype=np.float64)


def exp_of_mean(sums: FloatArray) -> FloatArray:
    """Aggregate of (nats, weight) columns to a perplexity: (R, 2) -> (R,)."""
    return np.asarray(np.exp(sums[:, 0] / sums[:, 1]), dtype=np.float64)


def score_column(table: FloatArray) -> FloatArray:
    """The documents' scores, where the first column holds them: (n, K) -> (n,)."""
    return table[:, 0]


def scores_table(scores: Sequence[float] | FloatArray) -> FloatArray:
    """Scores as (score, 1) rows, shape (n, 2): their mean is then a ratio of sums."""
    return np.column_stack([np.asarray(scores, dtype=np.float64), np.ones(len(scores))])


def estimate(metric: Metric, table: FloatArray, seed: int) -> Estimate:
    """The metric of a table of statistics, shape (n, K), with its uncertainty."""
    match metric.interval:
        case "proportion":
            found = stats.proportion(table[:, 0] / table[:, 1])
        case "mean":
            found = stats.mean(table[:, 0] / table[:, 1])
        case "ratio":
            found = stats.ratio(table[:, 0], table[:, 1])
        case "log_ratio":
            found = stats.log_ratio(table[:, 0], table[:, 1])
        case "bootstrap":
            rng = np.random.default_rng(seed)
            if metric.distance is not None:
                found = metric.distance.estimate(table, rng)
            else:
                found = stats.bootstrap(table, metric.aggregate, rng)
            if found.stderr is not None and "bootstrap" in found.method:
                found = replace(found, method=f"{found.method}, seed {seed}")
    if found.low is None or found.high is None:
        return found
    low, high = metric.bounds
    return replace(found, low=max(low, found.low), high=min(high, found.high))


def has_choices(sample: Sample) -> bool:
    """Whether the sample has one log-likelihood per choice."""
    return isinstance(sample.loglikelihood, Sequence)


def right_choice(sample: Sample) -> int:
    """The index of the right choice.

    Raises:
        DataError: It is none of the choices.
    """
    assert isinstance(sample.loglikelihood, Sequence), f"document {sample.doc_id} was not scored by choice"
    last = len(sample.loglikelihood) - 1
    if sample.label is None or not 0 <= sample.label <= last:
        raise DataError(
            f"The label of document {sample.doc_id} is {sample.label}; its choices are 0 to {last}.",
            where=f"doc_id {sample.doc_id}",
            fix="see that the task's `label` gives the index of a choice, counted from 0",
        )
    return sample.label


def choice_loglikelihoods(sample: Sample) -> Sequence[float]:
    """The log-likelihood of each choice, in nats.

    Raises:
        NumericError: One of them is NaN or infinite.
    """
    values = sample.loglikelihood
    assert isinstance(values, Sequence), f"document {sample.doc_id} was not scored by choice"
    for value in values:
        _require_finite(value, sample)
    return values


def loglikelihood(sample: Sample) -> float:
    """The log-likelihood of the target in nats; where there are choices, that of the right one.

    Raises:
        NumericError: It is NaN or infinite.
    """
    if isinstance(sample.loglikelihood, Sequence):
        return choice_loglikelihoods(sample)[right_choice(sample)]
    assert sample.loglikelihood is not None, f"document {sample.doc_id} has no likelihood"
    _require_finite(sample.loglikelihood, sample)
    return sample.loglikelihood


def _require_finite(value: float, sample: Sample) -> None:
    if not math.isfinite(value):
        raise NumericError(
            f"The log-likelihood of document {sample.doc_id} is {value}.",
            where=f"doc_id {sample.doc_id}",
            fix="run with --dtype float32; if it stays, the model's weights hold NaN or infinity",
        )


def one_text(sample: Sample, number: int) -> Sample:
    """The sample as if the text of that number were its only one."""
    assert sample.predictions is not None, f"document {sample.doc_id} has one text"
    found = sample.extracted_by
    return replace(
        sample,
        prediction=sample.predictions[number],
        predictions=None,
        extracted_by=found if found is None or isinstance(found, str) else found[number],
    )


def prediction_text(sample: Sample) -> str:
    """What the model wrote."""
    assert isinstance(sample.prediction, str), f"document {sample.doc_id} has no text written for it"
    return sample.prediction


def references(sample: Sample) -> tuple[str, ...]:
    """The texts a prediction is compared with.

    Raises:
        DataError: There are none.
    """
    if not sample.references:
        raise DataError(
            f"Document {sample.doc_id} has no references to compare with.",
            where=f"doc_id {sample.doc_id}",
            fix="see that the task's `references` gives at least one text for every document",
        )
    return sample.references
