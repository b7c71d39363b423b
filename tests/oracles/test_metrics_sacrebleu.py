"""BLEU, chrF and TER are sacrebleu's own, to 1e-9, on the corpus and on every resample of it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from lmeval.metrics import MetricOptions, compute, find_metric, statistics
from lmeval.metrics.translation import reference_streams
from lmeval.records import Sample

SCORERS: dict[str, Any] = {"bleu": BLEU, "chrf": CHRF, "ter": TER}
OPTIONS = MetricOptions("translation")


def corpus(seed: int, size: int, most_references: int) -> list[Sample]:
    """Sentences of a small vocabulary, with references that are noisy copies; some are empty."""
    rng = random.Random(seed)
    sentence = "the a man woman dog runs, sits. on in park bench (red) blue! über café 10,000 don't"
    words = sentence.split()

    def noisy(text: list[str]) -> str:
        return " ".join(rng.choice(words) if rng.random() < 0.3 else word for word in text)

    samples = []
    for i in range(size):
        text = rng.choices(words, k=rng.randrange(0, 14))
        references = tuple(noisy(text) or "nothing" for _ in range(rng.randint(1, most_references)))
        samples.append(Sample(i, "", prediction=noisy(text), references=references))
    return samples


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("most_references", [1, 3])
def test_the_corpus_score_and_the_signature(name: str, most_references: int) -> None:
    samples = corpus(seed=most_references, size=40, most_references=most_references)
    scorer = SCORERS[name]()
    expected = scorer.corpus_score([s.prediction for s in samples], reference_streams(samples))
    value, _ = compute(name, samples, OPTIONS, seed=0)
    assert value.value == pytest.approx(expected.score, abs=1e-9)
    assert value.signature == str(scorer.get_signature())


@pytest.mark.parametrize("name", SCORERS)
def test_resampled_sums_are_the_score_of_the_resampled_corpus(name: str) -> None:
    samples = corpus(seed=5, size=25, most_references=2)
    table = statistics(name, samples, OPTIONS)
    drawn = np.random.default_rng(0).integers(0, 25, size=(8, 25))
    found = find_metric(name).aggregate(np.stack([table[rows].sum(axis=0) for rows in drawn]))
    for value, rows in zip(found, drawn, strict=True):
        again = [samples[i] for i in rows]
        expected = SCORERS[name]().corpus_score([s.prediction for s in again], reference_streams(again))
        assert value == pytest.approx(expected.score, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "scorer"), [("bleu", BLEU(effective_order=True)), ("chrf", CHRF()), ("ter", TER())]
)
def test_the_score_of_each_document_is_the_sentence_score(name: str, scorer: Any) -> None:
    samples = corpus(seed=9, size=20, most_references=3)
    _, scores = compute(name, samples, OPTIONS, seed=0)
    expected = [scorer.sentence_score(s.prediction, list(s.references or ())).score for s in samples]
    assert scores == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("language", "tokenize"), [("de", "13a"), ("zh", "zh"), ("th", "char")])
def test_the_tokenizer_of_a_language(language: str, tokenize: str) -> None:
    samples = [
        Sample(0, "", prediction="我爱北京天安门。", references=("我爱南京天安门！", "我喜欢北京")),
        Sample(1, "", prediction="你好，世界 abc", references=("你好世界 abc", "世界，你好")),
    ]
    expected = BLEU(tokenize=tokenize).corpus_score(
        [str(s.prediction) for s in samples], reference_streams(samples)
    )
    options = MetricOptions("translation", language=language)
    assert compute("bleu", samples, options, seed=0)[0].value == pytest.approx(expected.score, abs=1e-9)
