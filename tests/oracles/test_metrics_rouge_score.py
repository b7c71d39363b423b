"""ROUGE is rouge-score's own, to 1e-9."""

from __future__ import annotations

import random

import pytest
from rouge_score.rouge_scorer import RougeScorer

from lmeval.metrics import METRICS_OF_TYPE, MetricOptions, compute
from lmeval.records import Sample


def corpus(seed: int) -> list[Sample]:
    """Two or three lines of a small vocabulary each; one to three references."""
    rng = random.Random(seed)
    sentence = "Anna asks, asked Bob. whether running runs the meeting (Monday) won't 2 café is moved"
    words = sentence.split()

    def text() -> str:
        return "\n".join(" ".join(rng.choices(words, k=rng.randrange(9))) for _ in range(rng.randint(1, 3)))

    return [
        Sample(i, "", prediction=text(), references=tuple(text() for _ in range(rng.randint(1, 3))))
        for i in range(30)
    ]


@pytest.mark.parametrize("name", METRICS_OF_TYPE["summarization"])
@pytest.mark.parametrize("stemmer", [False, True])
def test_the_best_reference_averaged_over_documents(name: str, stemmer: bool) -> None:
    samples = corpus(3)
    scorer = RougeScorer([name], use_stemmer=stemmer)
    expected = [
        max(
            scorer.score(reference, sample.prediction)[name].fmeasure for reference in sample.references or ()
        )
        for sample in samples
    ]
    value, scores = compute(name, samples, MetricOptions("summarization", rouge_stemmer=stemmer), seed=0)
    assert scores == pytest.approx(expected, abs=1e-9)
    assert value.value == pytest.approx(sum(expected) / len(expected), abs=1e-9)
