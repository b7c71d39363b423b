"""BLEU, chrF and TER: what is ours around sacrebleu (tokenizers, references, documents, intervals)."""

from __future__ import annotations

import pytest

from lmeval.errors import UsageError
from lmeval.metrics import METRICS_OF_TYPE, MetricOptions, compute
from lmeval.metrics.translation import reference_streams
from lmeval.records import Sample

SAMPLES = [
    Sample(0, "", prediction="The dog runs in the park.", references=("The dog runs in the park.",)),
    Sample(1, "", prediction="A man reads book.", references=("A man is reading a book.",)),
    Sample(2, "", prediction="Nothing in common", references=("Two children play football",)),
]


def signature(name: str, language: str | None, tokenize: str | None = None) -> str:
    options = MetricOptions("translation", language=language, bleu_tokenize=tokenize)
    return compute(name, SAMPLES, options, seed=0)[0].signature


@pytest.mark.parametrize(
    ("language", "tokenize", "expected"),
    [
        (None, None, "tok:13a"),
        ("de", None, "tok:13a"),
        ("zh", None, "tok:zh"),
        ("zh-Hant", None, "tok:zh"),
        ("th", None, "tok:char"),
        ("zh", "intl", "tok:intl"),
    ],
)
def test_the_tokenizer_goes_by_language(language: str | None, tokenize: str | None, expected: str) -> None:
    assert expected in signature("bleu", language, tokenize)


def test_japanese_needs_mecab_and_else_counts_characters() -> None:
    try:
        import ipadic  # noqa: F401
        import MeCab  # noqa: F401
    except ImportError:
        expected = "tok:char"
    else:
        expected = "tok:ja-mecab"
    assert expected in signature("bleu", "ja")


def test_an_unknown_tokenizer_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(UsageError, match="13b") as error:
        signature("bleu", None, "13b")
    assert "flores200" in str(error.value)


def test_ter_splits_chinese_into_characters() -> None:
    samples = [Sample(0, "", prediction="我爱北京", references=("我爱南京",))]
    assert compute("ter", samples, MetricOptions("translation", language="zh"), 0)[0].value == pytest.approx(
        25
    )
    assert "asian:yes" in signature("ter", "zh")
    assert "asian:no" in signature("ter", "de")


@pytest.mark.parametrize(("name", "scores"), [("bleu", (100, 0)), ("chrf", (100, 8)), ("ter", (0, 100))])
def test_each_document_has_its_own_score(name: str, scores: tuple[float, float]) -> None:
    _, found = compute(name, SAMPLES, MetricOptions("translation"), seed=0)
    assert found is not None
    assert (found[0], found[2]) == pytest.approx(scores, abs=5)
    assert len(found) == 3


@pytest.mark.parametrize("name", METRICS_OF_TYPE["translation"])
def test_intervals_are_a_seeded_bootstrap_over_documents(name: str) -> None:
    options = MetricOptions("translation")
    one, again, other = (compute(name, SAMPLES * 5, options, seed=seed)[0] for seed in (1, 1, 2))
    assert one == again
    assert one.stderr != other.stderr
    assert one.value == other.value
    assert one.ci_method == "percentile bootstrap, 1000 resamples, seed 1"
    assert one.higher_is_better == (name != "ter")
    single = compute(name, SAMPLES[:1], options, seed=0)[0]
    assert (single.stderr, single.ci_low, single.ci_high) == (None, None, None)


def test_references_of_unequal_number() -> None:
    samples = [
        Sample(0, "", prediction="a", references=("a1", "a2", "a3")),
        Sample(1, "", prediction="b", references=("b1",)),
    ]
    assert reference_streams(samples) == [["a1", "b1"], ["a2", None], ["a3", None]]
    value = compute("bleu", samples, MetricOptions("translation"), seed=0)[0]
    assert value.signature.startswith("nrefs:var|")


def test_an_empty_prediction_scores_nothing() -> None:
    samples = [Sample(0, "", prediction="", references=("some text",))]
    for name, expected in (("bleu", 0.0), ("chrf", 0.0), ("ter", 100.0)):
        assert compute(name, samples, MetricOptions("translation"), seed=0)[0].value == expected
