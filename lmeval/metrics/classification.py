"""Metrics of choices: the best of several likelihoods against a label.

Ties share the credit: with k choices tied for the best, each counts as 1/k of a prediction, so a model that
finds all choices equally likely scores exactly chance, and the order of the choices never matters.
Precision, recall, F1 and MCC follow scikit-learn (macro averages over the classes that occur,
zero_division=0); where every document brings its own options (piqa), the classes are their indices.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from lmeval.stats import Aggregate, FloatArray

NUM_BINS = 15
# The same per-token log-probability summed and divided in another order differs in its last bits
_TIE_TOLERANCE = 1e-9


def shares(scores: FloatArray) -> FloatArray:
    """The share of the prediction each choice gets, shape (k,): 1 for the best, 1/m for each of m tied."""
    best = scores.max()
    tied = scores >= best - _TIE_TOLERANCE * max(1.0, abs(float(best)))
    return np.asarray(tied / tied.sum(), dtype=np.float64)


def _by_sum(sample: Sample) -> FloatArray:
    return np.asarray(choice_loglikelihoods(sample), dtype=np.float64)


def _by_bytes(sample: Sample) -> FloatArray:
    """Nats per UTF-8 byte of each choice; the space before a choice is the prompt's, not the answer's."""
    assert sample.choices is not None, f"document {sample.doc_id} has no choices"
    sizes = [max(1, len(choice.lstrip().encode("utf-8", "surrogatepass"))) for choice in sample.choices]
    return np.asarray(_by_sum(sample) / np.asarray(sizes), dtype=np.float64)


def _probabilities(sample: Sample) -> FloatArray:
    """Softmax of the choices' log-likelihoods, shape (k,)."""
    scores = _by_sum(sample)
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)


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
    return scores_table([float(shares(_by_bytes(sample))[right_choice(sample)]) for sample in samples])


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


def ece_table(samples: Samples, options: MetricOptions) -> FloatArray:
    """Confidence minus credit in the column of the confidence's bin, then 1; shape (n, NUM_BINS + 1)."""
    table = np.zeros((len(samples), NUM_BINS + 1))
    table[:, -1] = 1
    for row, sample in zip(table, samples, strict=True):
        confidence = float(_probabilities(sample).max())
        column = min(max(int(np.ceil(confidence * NUM_BINS)) - 1, 0), NUM_BINS - 1)  # bins are (low, high]
        row[column] = confidence - _credit(sample)
    return table


def brier_table(samples: Samples, options: MetricOptions) -> FloatArray:
    """Squared distance of the probabilities from the label over all choices (Brier 1950); shape (n, 2)."""
    scores = []
    for sample in samples:
        distance = _probabilities(sample)
        distance[right_choice(sample)] -= 1
        scores.append(float(distance @ distance))
    return scores_table(scores)


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
    "ece": Metric(
        ece_table,
        ece,
        "bootstrap",
        fixed_signature(f"bins:{NUM_BINS}_equal_width|confidence:max_softmax_of_loglikelihoods|ties:shared"),
        unit="0-1",
        higher_is_better=False,
        bounds=(0.0, 1.0),
    ),
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
MINIMAL_PAIRS_METRICS = {
    "acc": ACC,
    "pct_stereotype": replace(
        ACC,
        signature=fixed_signature("share:pairs_with_first_text_likelier|ties:shared"),
        higher_is_better=False,
    ),
}
