"""Exact match and F1: literal tables of answers."""

from __future__ import annotations

import pytest

from lmeval.errors import DataError
from lmeval.metrics import MetricOptions, compute
from lmeval.records import MetricValue, Sample


def answer(prediction: str, *references: str) -> Sample:
    return Sample(0, "", prediction=prediction, references=references)


def score(name: str, sample: Sample, options: MetricOptions) -> float:
    scores = compute(name, [sample], options, seed=0)[1]
    assert scores is not None
    return scores[0]


@pytest.mark.parametrize(
    ("language", "prediction", "references", "exact_match", "f1"),
    [
        (None, "the Denver Broncos!", ("Denver Broncos",), 1, 1),
        ("en", "  Denver\n broncos ", ("Denver Broncos",), 1, 1),
        ("en", "Broncos", ("Denver Broncos",), 0, 2 / 3),
        ("en", "Denver", ("Carolina", "Denver", "Denver Broncos"), 1, 1),  # the best reference
        ("en", "Denver Denver", ("Denver",), 0, 2 / 3),  # a word counts as often as it occurs
        ("en", "", ("Denver",), 0, 0),
        ("en", "the", ("a",), 1, 1),  # nothing is left of either
        ("en", "U.S.A.", ("USA",), 1, 1),
        ("de", "Die Stadt, Köln.", ("die stadt köln",), 1, 1),
        ("de", "A", ("a",), 1, 1),  # English articles are words elsewhere
        ("de", "«Köln»", ("Köln",), 1, 1),
        ("zh", "北京市", ("北京",), 0, 4 / 5),
        ("zh-CN", "《北京》。", ("北京",), 1, 1),  # full-width punctuation
        ("zh", "北 京", ("北京",), 1, 1),
        ("ja", "東京、日本", ("東京",), 0, 2 / 3),
        ("th", "ไทย", ("ไทย",), 1, 1),
    ],
)
def test_squad_style(
    language: str | None, prediction: str, references: tuple[str, ...], exact_match: float, f1: float
) -> None:
    options, sample = MetricOptions("qa", language=language), answer(prediction, *references)
    assert score("exact_match", sample, options) == exact_match
    assert score("f1", sample, options) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "reference", "ignore", "expected"),
    [
        (" 42\n", "42", (), 1),
        ("$1,200", "1200", (",", "$"), 1),
        ("1,200", "1200", (), 0),
        ("1200", "$1,200 ", (",", "$"), 1),  # deleted from both
        ("Yes", "yes", (), 0),
        ("the answer", "answer", (), 0),
        ("a.c", "abc", (".",), 0),  # literal, not a pattern
    ],
)
def test_generation_compares_plain_text(
    prediction: str, reference: str, ignore: tuple[str, ...], expected: float
) -> None:
    options = MetricOptions("generation", ignore=ignore)
    assert score("exact_match", answer(prediction, reference), options) == expected


def test_signatures_say_which_rules() -> None:
    def signature(options: MetricOptions) -> str:
        value: MetricValue = compute("exact_match", [answer("a", "a")], options, seed=0)[0]
        return value.signature

    assert signature(MetricOptions("qa")) == "norm:squad|tok:word|lang:en|refs:best"
    assert (
        signature(MetricOptions("qa", language="zh"))
        == "norm:lower_no_punctuation|tok:char|lang:zh|refs:best"
    )
    generation = MetricOptions("generation", ignore=("$", ","))
    assert signature(generation) == "norm:strip|case:mixed|refs:best|ignore:$|ignore:,"


def test_intervals() -> None:
    samples = [answer("a b", "a b"), answer("a", "a b"), answer("c", "a b")]
    options = MetricOptions("qa", language="de")
    assert compute("exact_match", samples, options, seed=0)[0].ci_method == "wilson"
    f1 = compute("f1", samples, options, seed=0)[0]
    assert f1.ci_method == "percentile bootstrap, 1000 resamples, seed 0"
    assert f1.value == pytest.approx((1 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize("name", ["exact_match", "f1", "bleu", "chrf", "ter", "rouge1", "rougeLsum"])
def test_a_document_without_references_is_named(name: str) -> None:
    samples = [answer("a", "a"), Sample(12, "", prediction="a", references=())]
    with pytest.raises(DataError, match="Document 12"):
        compute(name, samples, MetricOptions("qa"), seed=0)
