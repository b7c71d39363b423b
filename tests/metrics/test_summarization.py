"""ROUGE: literal values, references, languages."""

from __future__ import annotations

import pytest

from lmeval.metrics import METRICS_OF_TYPE, MetricOptions, compute
from lmeval.records import MetricValue, Sample


def value_of(
    name: str, prediction: str, *references: str, language: str | None = None, stemmer: bool = False
) -> MetricValue:
    options = MetricOptions("summarization", language=language, rouge_stemmer=stemmer)
    return compute(name, [Sample(0, "", prediction=prediction, references=references)], options, seed=0)[0]


@pytest.mark.parametrize(
    ("name", "prediction", "references", "expected"),
    [
        ("rouge1", "the cat sat", ("the cat ran",), 2 / 3),
        ("rouge2", "the cat sat", ("the cat ran",), 1 / 2),
        ("rougeL", "cat the sat", ("the cat sat",), 2 / 3),
        ("rouge1", "the cat", ("a dog", "the cat"), 1),  # the best reference
        ("rouge1", "", ("the cat",), 0),
        ("rougeL", "b c\na", ("a\nb c",), 2 / 3),
        ("rougeLsum", "b c\na", ("a\nb c",), 1),  # sentences by line, in any order
    ],
)
def test_by_hand(name: str, prediction: str, references: tuple[str, ...], expected: float) -> None:
    assert value_of(name, prediction, *references).value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("language", "prediction", "reference", "expected", "tokenizer"),
    [
        ("en", "Été", "été", 1, "tok:rouge_score"),
        ("fr", "Été passé", "un été", 1 / 2, "tok:unicode_word"),
        ("ru", "кошка спит", "кошка ест", 1 / 2, "tok:unicode_word"),
        ("zh", "北京，你好", "北京", 2 / 3, "tok:char"),
        ("th", "ไทย", "ไทย", 1, "tok:char"),
    ],
)
def test_other_languages(
    language: str, prediction: str, reference: str, expected: float, tokenizer: str
) -> None:
    value = value_of("rouge1", prediction, reference, language=language)
    assert value.value == pytest.approx(expected)
    assert tokenizer in value.signature


def test_the_stemmer_is_off_unless_asked_for() -> None:
    assert value_of("rouge1", "running", "runs").value == 0
    assert "stemmer:no" in value_of("rouge1", "running", "runs").signature
    assert value_of("rouge1", "running", "runs", stemmer=True).value == 1
    assert "stemmer:yes" in value_of("rouge1", "running", "runs", stemmer=True).signature


@pytest.mark.parametrize("name", METRICS_OF_TYPE["summarization"])
def test_the_mean_over_documents(name: str) -> None:
    samples = [
        Sample(i, "", prediction=text, references=("a b c d",))
        for i, text in enumerate(("a b c d", "x", "a b"))
    ]
    value, scores = compute(name, samples, MetricOptions("summarization"), seed=0)
    assert scores is not None
    assert value.value == pytest.approx(sum(scores) / 3)
    assert (scores[0], scores[1]) == (1, 0)
    assert value.ci_method == "percentile bootstrap, 1000 resamples, seed 0"
    assert value.unit == "0-1"
    assert ("sentences:newline" in value.signature) == (name == "rougeLsum")
