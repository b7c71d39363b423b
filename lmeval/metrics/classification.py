"""Metrics of choices: the best of several likelihoods against a label.

Ties share the credit: with k choices tied for the best, each counts as 1/k of a prediction, so a model that
finds all choices equally likely scores exactly chance, and the order of the choices never matters.
Precision, recall, F1 and MCC follow scikit-learn (macro averages over the classes that occur,
zero_division=0); where every document brings its own options (piqa), the classes are their indices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lmeval.metrics.base import (
    Metric,
    MetricOptions,
    Samples,
    choice_loglikelihoods,
    fixed_signature,
    has_choices,
    loglikelihood,
    mean_of,
    right_choice,
    score_column,
    scores_table,
)
from lmeval.records import Sample
from lmeval.stats import Aggregate, Distance, FloatArray, IntArray

NUM_BINS = 15
# The same per-token log-probability summed and divided in another order differs in its last bits
TIE_TOLERANCE = 1e-9


def shares(scores: FloatArray) -> FloatArray:
    """The share of the prediction each choice gets, shape (k,): 1 for the best, 1/m for each of m tied."""
    best = scores.max()
    tied = scores >= best - TIE_TOLERANCE * max(1.0, abs(float(best)))
    return np.asarray(tied / tied.sum(), dtype=np.float64)


def _by_sum(sample: Sample) -> FloatArray:
    return np.asarray(choice_loglikelihoods(sample), dtype=np.float64)


def per_byte(sample: Sample) -> FloatArray:
    """Nats per UTF-8 byte of each choice; the space before a choice is the prompt's, not the answer's."""
    assert sample.choices is not None, f"document {sample.doc_id} has no choices"
    sizes = [max(1, len(choice.lstrip().encode("utf-8", "surrogatepass"))) for choice in sample.choices]
    return np.asarray(_by_sum(sample) / np.asarray(sizes), dtype=np.float64)


def _score_matrix(samples: Samples) -> FloatArray:
    """The choices' log-likelihoods, shape (n, k); -inf where a document has fewer than k choices."""
    scores = np.full((len(samples), max(map(_num_choices, samples))), -np.inf)
    for row, sample in zip(scores, samples, strict=True):
        values = choice_loglikelihoods(sample)
        row[: len(values)] = values
    return scores


def _num_choices(sample: Sample) -> int:
    return len(choice_loglikelihoods(sample))


def _probabilities(scores: FloatArray) -> FloatArray:
    """Softmax over the choices: (n, k) -> (n, k)."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def confidence_and_credit(samples: Samples) -> tuple[FloatArray, FloatArray]:
    """How likely the best choice is among the choices, and the credit it earns: (n,) each.

    Confidences are rounded to 12 digits: documents that are equally sure share a bin whatever the order of a sum.
    """
    scores = _score_matrix(samples)
    best = scores.max(axis=1, keepdims=True)
    tied = scores >= best - TIE_TOLERANCE * np.maximum(1.0, np.abs(best))
    labels = [right_choice(sample) for sample in samples]
    credit = tied[np.arange(len(samples)), labels] / tied.sum(axis=1)
    return np.round(_probabilities(scores).max(axis=1), 12), credit


def acc_table(samples: Samples, options: MetricOptions) -> FloatArray:
    """Credit of the label, shape (n, 2); a cloze without choices asks for the greedy continuation instead."""
    return scores_table([_credit(sample) for sample in samples])


def _credit(sample: Sample) -> float:
    if has_choices(sample):
        return float(shares(_by_sum(sample))[right_choice(sample)])
    assert sample.is_greedy is not None, f"document {sample.doc_id} has neither choices nor is_greedy"
    if sample.loglikelihood is not None:
        loglikelihood(sample)  # no logit beats NaN: it would pass for a wrong answer
    return float(sample.is_greedy)


def acc_norm_table(samples: Samples, options: MetricOptions) -> FloatArray:
    """Credit of the label where choices compete per byte, shape (n, 2)."""
    return scores_table([float(shares(per_byte(sample))[right_choice(sample)]) for sample in samples])


def class_table(samples: Samples, options: MetricOptions) -> FloatArray:
    """Per class: right predictions, predictions, labels; shape (n, 3 C). F1 and MCC follow from the sums."""
    num_classes = max(len(choice_loglikelihoods(sample)) for sample in samples)
    table = np.zeros((len(samples), 3, num_classes))
    for row, sample in zip(table, samples, strict=True):
        share, label = shares(_by_sum(sample)), right_choice(sample)
        row[0, label] = share[label]
        row[1, : len(share)] = share
        row[2, label] = 1
    return table.reshape(len(samples), -1)


def equal_width_bins(confidence: FloatArray) -> IntArray:
    """The bin of each confidence among NUM_BINS of equal width, each (low, high]: (n,)."""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


def equal_mass_bins(confidence: FloatArray) -> IntArray:
    """The bin of each confidence among at most NUM_BINS of equally many documents (Nguyen & O'Connor 2015): (n,).

    The cuts are the confidences at every NUM_BINS-th part of their order; equal confidences share a bin, so the order
    of the documents never matters.
    """
    n = len(confidence)
    last = [math.ceil(n * part / NUM_BINS) - 1 for part in range(1, NUM_BINS)]
    return np.searchsorted(np.sort(confidence)[last], confidence, side="left")


def _ece_statistics(
    bins_of: Callable[[FloatArray], IntArray],
) -> Callable[[Samples, MetricOptions], FloatArray]:
    """Confidence minus credit in the column of the confidence's bin, then 1; shape (n, NUM_BINS + 1)."""

    def table(samples: Samples, options: MetricOptions) -> FloatArray:
        confidence, credit = confidence_and_credit(samples)
        found = np.zeros((len(samples), NUM_BINS + 1))
        found[np.arange(len(samples)), bins_of(confidence)] = confidence - credit
        found[:, -1] = 1
        return found

    return table


def brier_table(samples: Samples, options: MetricOptions) -> FloatArray:
    """Squared distance of the probabilities from the label over all choices (Brier 1950); shape (n, 2)."""
    distances = _probabilities(_score_matrix(samples))
    distances[np.arange(len(samples)), [right_choice(sample) for sample in samples]] -= 1
    return scores_table((distances**2).sum(axis=1))


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Element-wise, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _per_class(sums: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Right predictions, predictions, labels: three arrays of shape (R, C)."""
    right, predicted, labelled = np.moveaxis(sums.reshape(len(sums), 3, -1), 1, 0)
    return right, predicted, labelled


def _macro(per_class: FloatArray, sums: FloatArray) -> FloatArray:
    _, predicted, labelled = _per_class(sums)
    occurs = (predicted + labelled) > 0
    return np.asarray((per_class * occurs).sum(axis=1) / occurs.sum(axis=1), dtype=np.float64)


def macro_f1(sums: FloatArray) -> FloatArray:
    """(R, 3 C) -> (R,)."""
    right, predicted, labelled = _per_class(sums)
    return _macro(_divide(2 * right, predicted + labelled), sums)


def macro_precision(sums: FloatArray) -> FloatArray:
    """(R, 3 C) -> (R,)."""
    right, predicted, _ = _per_class(sums)
    return _macro(_divide(right, predicted), sums)


def macro_recall(sums: FloatArray) -> FloatArray:
    """(R, 3 C) -> (R,)."""
    right, _, labelled = _per_class(sums)
    return _macro(_divide(right, labelled), sums)


def mcc(sums: FloatArray) -> FloatArray:
    """Matthews correlation of many classes (Gorodkin 2004), 0 where a side is constant: (R, 3 C) -> (R,)."""
    right, predicted, labelled = _per_class(sums)
    n = labelled.sum(axis=1)
    covariance = right.sum(axis=1) * n - (predicted * labelled).sum(axis=1)
    spread = (n**2 - (predicted**2).sum(axis=1)) * (n**2 - (labelled**2).sum(axis=1))
    return _divide(covariance, np.sqrt(np.maximum(spread, 0)))


def ece(sums: FloatArray) -> FloatArray:
    """Expected calibration error (Guo et al. 2017): (R, NUM_BINS + 1) -> (R,)."""
    return np.asarray(np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1], dtype=np.float64)


def chance(samples: Samples) -> float | None:
    """Mean of 1 / number of choices; None where there are no choices."""
    counts = [len(sample.loglikelihood) for sample in samples if isinstance(sample.loglikelihood, Sequence)]
    return float(np.mean([1 / count for count in counts])) if counts else None


def _acc_signature(samples: Samples, options: MetricOptions) -> str:
    if has_choices(samples[0]):
        return "match:best_loglikelihood|ties:shared"
    return "match:greedy"


def _over_classes(aggregate: Aggregate, name: str) -> Metric:
    return Metric(
        class_table,
        aggregate,
        "bootstrap",
        fixed_signature(f"average:{name}|classes:occurring|zero_division:0|ties:shared"),
        unit="0-1",
        bounds=(0.0, 1.0),
    )


def _calibration_error(bins_of: Callable[[FloatArray], IntArray], kind: str) -> Metric:
    """A bootstrap draws documents anew and leaves the bins where they are."""
    return Metric(
        _ece_statistics(bins_of),
        ece,
        "bootstrap",
        fixed_signature(f"bins:{NUM_BINS}_{kind}|confidence:max_softmax_of_loglikelihoods|ties:shared"),
        unit="0-1",
        higher_is_better=False,
        bounds=(0.0, 1.0),
        distance=Distance(),
    )


ACC = Metric(
    acc_table,
    mean_of,
    "proportion",
    _acc_signature,
    unit="0-1",
    bounds=(0.0, 1.0),
    document_scores=score_column,
    random_baseline=chance,
)

CLASSIFICATION_METRICS = {
    "acc": ACC,
    "acc_norm": replace(
        ACC,
        statistics=acc_norm_table,
        signature=fixed_signature(
            "match:best_loglikelihood_per_byte|bytes:utf8_without_leading_space|ties:shared"
        ),
    ),
    "macro_f1": _over_classes(macro_f1, "macro"),
    "precision": _over_classes(macro_precision, "macro"),
    "recall": _over_classes(macro_recall, "macro"),
    "mcc": replace(_over_classes(mcc, "multiclass_rk"), unit="-1-1", bounds=(-1.0, 1.0)),
    "ece": _calibration_error(equal_width_bins, "equal_width"),
    "ece_adaptive": _calibration_error(equal_mass_bins, "equal_mass"),
    "brier": Metric(
        brier_table,
        mean_of,
        "mean",
        fixed_signature("sum:all_choices|probabilities:softmax_of_loglikelihoods"),
        unit="0-2",
        higher_is_better=False,
        bounds=(0.0, 2.0),
        document_scores=score_column,
    ),
}

# Both texts of a pair are its choices, so half a credit for a tie is the rule of `shares`
MINIMAL_PAIRS_METRICS = {"acc": ACC}
