"""Precision, recall, F1 and MCC are scikit-learn's, to 1e-9, on the documents and on resamples of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from lmeval.metrics import MetricOptions, compute, find_metric, statistics
from lmeval.records import Sample

OPTIONS = MetricOptions("classification")
Oracle = Callable[[list[int], list[int]], float]


def _mcc(labels: list[int], predictions: list[int]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a single class in labels and predictions
        return float(sklearn_metrics.matthews_corrcoef(labels, predictions))


def _macro(score: Callable[..., float]) -> Oracle:
    return lambda labels, predictions: float(score(labels, predictions, average="macro", zero_division=0))


ORACLES: dict[str, Oracle] = {
    "acc": lambda labels, predictions: float(sklearn_metrics.accuracy_score(labels, predictions)),
    "macro_f1": _macro(sklearn_metrics.f1_score),
    "precision": _macro(sklearn_metrics.precision_score),
    "recall": _macro(sklearn_metrics.recall_score),
    "mcc": _mcc,
}


def corpus(seed: int, size: int, num_classes: int) -> tuple[list[Sample], list[int], list[int]]:
    """Samples, labels, predictions: better than chance, some classes rare or absent."""
    rng = np.random.default_rng(seed)
    samples, labels, predictions = [], [], []
    for i in range(size):
        label = min(int(rng.geometric(0.4)) - 1, num_classes - 1)
        scores = rng.normal(-6, 1, num_classes)
        scores[label] += 1
        samples.append(
            Sample(i, "", choices=("x",) * num_classes, label=label, loglikelihood=tuple(scores.tolist()))
        )
        labels.append(label)
        predictions.append(int(scores.argmax()))
    return samples, labels, predictions


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("seed", "size", "num_classes"), [(0, 200, 4), (1, 9, 6), (2, 1, 3), (3, 50, 2)])
def test_the_score(name: str, seed: int, size: int, num_classes: int) -> None:
    samples, labels, predictions = corpus(seed, size, num_classes)
    expected = ORACLES[name](labels, predictions)
    assert compute(name, samples, OPTIONS, seed=0)[0].value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ORACLES)
def test_resampled_sums(name: str) -> None:
    samples, labels, predictions = corpus(4, 12, 5)
    table = statistics(name, samples, OPTIONS)
    drawn = np.random.default_rng(0).integers(0, 12, size=(25, 12))
    found = find_metric(name).aggregate(np.stack([table[rows].sum(axis=0) for rows in drawn]))
    expected = [ORACLES[name]([labels[i] for i in rows], [predictions[i] for i in rows]) for rows in drawn]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_brier_is_sklearns_of_every_class() -> None:
    samples, labels, _ = corpus(5, 60, 3)
    scores = np.array([sample.loglikelihood for sample in samples])
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    per_class = [
        sklearn_metrics.brier_score_loss([int(label == k) for label in labels], probabilities[:, k])
        for k in range(3)
    ]
    assert compute("brier", samples, OPTIONS, seed=0)[0].value == pytest.approx(sum(per_class), abs=1e-9)
