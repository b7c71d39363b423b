"""Perplexities, bits per byte, and the greedy accuracy of a cloze."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmeval import stats
from lmeval.errors import NumericError
from lmeval.metrics import METRICS, METRICS_OF_TYPE, PSEUDO, MetricOptions, compute, statistics
from lmeval.records import MetricValue, Sample

TEXTS = [
    Sample(0, "", loglikelihood=-40.0, num_tokens=12, num_words=10, num_bytes=50),
    Sample(1, "", loglikelihood=-20.0, num_tokens=8, num_words=5, num_bytes=30),
    Sample(2, "", loglikelihood=-60.0, num_tokens=20, num_words=15, num_bytes=80),
]
OPTIONS = MetricOptions("perplexity")
CLOZE = MetricOptions("cloze")


def value_of(name: str, samples: list[Sample], options: MetricOptions = OPTIONS) -> MetricValue:
    return compute(name, samples, options, seed=0)[0]


@pytest.mark.parametrize(
    ("name", "expected", "unit"),
    [
        ("word_ppl", math.exp(120 / 30), "perplexity per word"),
        ("token_ppl", math.exp(120 / 40), "perplexity per token"),
        ("byte_ppl", math.exp(120 / 160), "perplexity per byte"),
        ("bits_per_byte", 120 / 160 / math.log(2), "bits per byte"),
        ("ppl", math.exp(120 / 3), "perplexity per target"),
    ],
)
def test_totals_over_totals(name: str, expected: float, unit: str) -> None:
    value = value_of(name, TEXTS)
    assert value.value == pytest.approx(expected)
    assert value.unit == unit
    assert not value.higher_is_better
    assert value.random_baseline is None
    pseudo = value_of(PSEUDO[name], TEXTS)
    assert (pseudo.value, pseudo.stderr, pseudo.ci_low) == (value.value, value.stderr, value.ci_low)
    assert pseudo.unit == f"pseudo-{unit}"
    assert pseudo.signature != value.signature


def test_the_uncertainty_is_over_documents() -> None:
    found = stats.log_ratio(np.array([40.0, 20.0, 60.0]), np.array([10.0, 5.0, 15.0]))
    value = value_of("word_ppl", TEXTS)
    assert (value.stderr, value.ci_low, value.ci_high) == (found.stderr, found.low, found.high)
    assert value.ci_method == "t on the log scale, ratio over documents"
    bits = value_of("bits_per_byte", TEXTS)
    linear = stats.ratio(np.array([40.0, 20.0, 60.0]) / math.log(2), np.array([50.0, 30.0, 80.0]))
    assert bits.stderr == pytest.approx(linear.stderr)


def test_statistics_are_nats_and_weights() -> None:
    assert statistics("word_ppl", TEXTS, OPTIONS).tolist() == [[40, 10], [20, 5], [60, 15]]


def test_each_document_has_its_own_perplexity() -> None:
    _, scores = compute("word_ppl", TEXTS, OPTIONS, seed=0)
    assert scores == pytest.approx([math.exp(4), math.exp(4), math.exp(4)])


def test_a_document_of_one_enormous_word_still_has_a_finite_score() -> None:
    huge = Sample(3, "", loglikelihood=-2000.0, num_tokens=900, num_words=0, num_bytes=3000)
    value, scores = compute("word_ppl", [*TEXTS, huge], OPTIONS, seed=0)
    assert scores is not None
    assert all(math.isfinite(score) for score in scores)
    assert value.value == pytest.approx(math.exp(2120 / 30))


def test_texts_without_words_have_no_word_perplexity() -> None:
    with pytest.raises(NumericError, match="denominator"):
        value_of("word_ppl", [Sample(0, "", loglikelihood=-2.0, num_words=0)])


def test_acc_of_a_cloze_is_the_greedy_continuation() -> None:
    samples = [Sample(i, "", loglikelihood=-1.0, is_greedy=i != 1) for i in range(4)]
    value, scores = compute("acc", samples, CLOZE, seed=0)
    assert scores == [1, 0, 1, 1]
    assert value.value == 0.75
    assert value.signature == "match:greedy"
    assert value.random_baseline is None


def test_a_cloze_with_choices() -> None:
    samples = [
        Sample(
            0,
            "",
            choices=(" a", " b"),
            label=1,
            loglikelihood=(-3.0, -1.0),
            num_tokens=(1, 2),
            is_greedy=False,
        ),
        Sample(
            1,
            "",
            choices=(" a", " b"),
            label=1,
            loglikelihood=(-1.0, -2.0),
            num_tokens=(1, 2),
            is_greedy=False,
        ),
    ]
    acc = value_of("acc", samples, CLOZE)
    assert acc.value == 0.5
    assert acc.random_baseline == 0.5
    assert value_of("ppl", samples, CLOZE).value == pytest.approx(math.exp((1 + 2) / 2))
    assert value_of("token_ppl", samples, CLOZE).value == pytest.approx(math.exp(3 / 4))


@pytest.mark.parametrize("name", [*METRICS_OF_TYPE["perplexity"], *PSEUDO.values(), "ppl"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_likelihood_that_is_no_number_names_its_document(name: str, bad: float) -> None:
    broken = Sample(17, "", loglikelihood=bad, num_tokens=1, num_words=1, num_bytes=1)
    with pytest.raises(NumericError, match="document 17"):
        value_of(name, [*TEXTS, broken])


def test_a_greedy_answer_of_no_likelihood_is_no_wrong_answer() -> None:
    samples = [Sample(5, "", loglikelihood=math.nan, is_greedy=False)]
    with pytest.raises(NumericError, match="document 5"):
        value_of("acc", samples, CLOZE)


@pytest.mark.parametrize("name", [*METRICS_OF_TYPE["perplexity"], "ppl"])
def test_one_document_has_no_standard_error(name: str) -> None:
    value = value_of(name, TEXTS[:1])
    assert (value.stderr, value.ci_low, value.ci_high) == (None, None, None)


def test_every_metric_of_likelihood_has_a_pseudo_twin() -> None:
    assert PSEUDO == {
        "ppl": "pseudo_target_ppl",
        "word_ppl": "pseudo_word_ppl",
        "token_ppl": "pseudo_ppl",
        "byte_ppl": "pseudo_byte_ppl",
        "bits_per_byte": "pseudo_bits_per_byte",
    }
    assert set(PSEUDO.values()) <= set(METRICS)
