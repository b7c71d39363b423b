"""Several texts a document: pass@k by enumeration, votes by hand, and what the other metrics make of them."""

from __future__ import annotations

import itertools
import math
import statistics as stdlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from lmeval.metrics import MetricOptions, compute, find_metric, measure, metric_names, statistics
from lmeval.metrics.repeated import majority_credit, pass_at_k
from lmeval.records import Sample

QA = MetricOptions("qa")


def sample(doc_id: int, texts: list[str], *references: str, ways: list[str] | None = None) -> Sample:
    return Sample(
        doc_id,
        "",
        prediction=texts[0],
        predictions=tuple(texts),
        references=references,
        extracted_by=None if ways is None else tuple(ways),
    )


@pytest.mark.parametrize("num_texts", range(1, 7))
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_text(num_texts: int) -> None:
    for num_right, k in itertools.product(range(num_texts + 1), range(1, num_texts + 1)):
        texts = [True] * num_right + [False] * (num_texts - num_right)
        draws = list(itertools.combinations(texts, k))
        assert pass_at_k(num_texts, num_right, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize(
    ("num_texts", "num_right", "k"), [(200, 3, 1), (200, 3, 10), (200, 3, 100), (100, 50, 5), (10, 0, 3)]
)
def test_pass_at_k_is_the_papers_product(num_texts: int, num_right: int, k: int) -> None:
    # Chen et al. 2021 (arXiv:2107.03374), section 2.1: 1 - prod_{i = n-c+1}^{n} (1 - k / i)
    wrong = num_texts - num_right
    product = 1.0 if wrong < k else math.prod(1 - k / i for i in range(wrong + 1, num_texts + 1))
    assert pass_at_k(num_texts, num_right, k) == pytest.approx(1 - (0.0 if wrong < k else product))


@pytest.mark.parametrize(
    ("votes", "credit"),
    [
        (["7", "7", "8"], 1),
        (["8", "7", "8"], 0),
        (["7", "8"], 1 / 2),  # tied: each as likely
        (["8", "7"], 1 / 2),  # whatever their order
        (["7", "8", "9"], 1 / 3),
        (["7", None, None, None], 1),  # no answer, no vote
        ([None, None], 0),
        (["9", "9", "8", "8"], 0),
    ],
)
def test_the_majority(votes: list[str | tuple[str, ...] | None], credit: float) -> None:
    assert majority_credit(votes, {"7"}) == pytest.approx(credit)


def test_votes_are_counted_after_normalisation() -> None:
    found = sample(0, ["The Nile.", "nile", "Amazon"], "Nile")
    assert compute("majority", [found], QA, 0)[0].value == 1
    plain = sample(0, ["1,200", "1200", "7", "7", "7"], "1200")
    options = MetricOptions("generation", ignore=(",",))
    assert compute("majority", [plain], options, 0)[0].value == 0
    assert compute("maj@2", [plain], options, 0)[0].value == 1  # of the first two


def test_what_was_not_extracted_is_never_right_and_has_no_vote() -> None:
    options = MetricOptions("generation")
    found = sample(0, ["", "", "5"], "5", "", ways=["none", "none", "extract"])
    assert compute("majority", [found], options, 0)[0].value == 1
    assert compute("exact_match", [found], options, 0)[0].value == pytest.approx(1 / 3)
    assert compute("pass@1", [found], options, 0)[0].value == pytest.approx(1 / 3)
    single = Sample(0, "", prediction="", references=("",), extracted_by="none")
    assert compute("exact_match", [single], options, 0)[0].value == 0
    assert compute("exact_match", [replace(single, extracted_by="extract")], options, 0)[0].value == 1


SAMPLES = [
    sample(0, ["Paris", "Paris", "Rome", "Paris"], "Paris"),
    sample(1, ["Ada", "Bo", "Bo", "Cy"], "Ada", "Ada L."),
    sample(2, ["x", "y", "z", "w"], "noon"),
]


def test_a_score_is_the_mean_of_the_texts_scores() -> None:
    measured = measure("exact_match", SAMPLES, QA, 0)
    assert measured.scores == pytest.approx([3 / 4, 1 / 4, 0])
    assert measured.repetition_scores == [(1, 1, 0, 1), (1, 0, 0, 0), (0, 0, 0, 0)]
    value = measured.value
    assert value.value == pytest.approx(1 / 3)
    # over the four repetitions the score was 2/3, 1/3, 0, 1/3
    assert value.spread == pytest.approx(stdlib.stdev([2 / 3, 1 / 3, 0, 1 / 3]))
    # documents are the sampling unit: 3 of them, not 12 texts
    assert value.stderr == pytest.approx(stdlib.stdev([3 / 4, 1 / 4, 0]) / math.sqrt(3))
    assert value.num_documents == 3
    assert value.signature.endswith("|texts:4,mean")
    table = statistics("exact_match", SAMPLES, QA)
    assert table[:, 0] / table[:, 1] == pytest.approx([3 / 4, 1 / 4, 0])
    assert compute("pass@1", SAMPLES, QA, 0)[0].value == pytest.approx(value.value)


@pytest.mark.parametrize(("name", "expected"), [("pass@2", [1, 1 / 2, 0]), ("majority", [1, 0, 0])])
def test_metrics_of_all_texts(name: str, expected: list[float]) -> None:
    value, scores = compute(name, SAMPLES, QA, 0)
    assert scores == pytest.approx(expected)
    assert value.value == pytest.approx(sum(expected) / 3)
    assert value.ci_low is not None and 0 <= value.ci_low <= value.value
    assert value.spread is None
    assert value.signature.endswith("|texts:4")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("pass@5", "pass:unbiased,k=5"),
        ("maj@8", "vote:first 8,ties=shared"),
        ("majority", "vote:all,ties=shared"),
    ],
)
def test_signatures_state_the_rule(name: str, rule: str) -> None:
    assert find_metric(name).signature(SAMPLES, QA).endswith(f"|lang:en|refs:best|{rule}")
    assert {"pass@K", "maj@K"} <= set(metric_names("generation"))
    assert not {"pass@K", "maj@K"} & set(metric_names("translation"))


TEXTS = [
    sample(0, ["the cat sat on a mat", "a cat sat on the mat today"], "the cat sat on the mat"),
    sample(1, ["dogs bark at all the night birds", "dogs bark"], "dogs bark at the birds of the night"),
    sample(2, ["it rained the whole day long", "it was raining for a day"], "it rained all day long"),
]


def test_a_corpus_metric_pools_the_counts_of_all_texts() -> None:
    pooled = [replace(s, prediction=text) for s in TEXTS for text in s.predictions or ()]
    measured = measure("bleu", TEXTS, MetricOptions("translation"), 0)
    expected = BLEU().corpus_score(
        [str(s.prediction) for s in pooled], [[s.references[0] for s in pooled if s.references]]
    )
    assert measured.value.value == pytest.approx(expected.score, abs=1e-9)
    assert measured.value.signature.endswith("|texts:2,pooled")
    singles = [
        BLEU().corpus_score(
            [s.predictions[i] for s in TEXTS if s.predictions],
            [[s.references[0] for s in TEXTS if s.references]],
        )
        for i in range(2)
    ]
    assert measured.value.spread == pytest.approx(stdlib.stdev(each.score for each in singles))


@pytest.mark.parametrize("name", ["f1", "rouge1", "rougeL", "chrf", "ter"])
def test_every_text_counts_alike(name: str) -> None:
    options = MetricOptions("qa")
    measured = measure(name, TEXTS, options, 0)
    assert measured.scores is not None and measured.repetition_scores is not None
    for own, by_text in zip(measured.scores, measured.repetition_scores, strict=True):
        assert own == pytest.approx(np.mean(by_text))
    swapped = [replace(s, predictions=(s.predictions or ())[::-1]) for s in TEXTS]
    assert measure(name, swapped, options, 0).value.value == pytest.approx(measured.value.value)


def test_a_metric_of_the_evaluate_library_is_averaged_over_the_texts(tmp_path: Path) -> None:
    script = tmp_path / "share.py"
    script.write_text(
        "import datasets\nimport evaluate\n\n\n"
        "class Share(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        features = datasets.Features("
        "{'predictions': datasets.Value('string'), 'references': datasets.Value('string')})\n"
        "        return evaluate.MetricInfo(description='', citation='', features=features)\n\n"
        "    def _compute(self, predictions, references):\n"
        "        pairs = list(zip(predictions, references))\n"
        "        return {'share': sum(p == r for p, r in pairs) / len(pairs)}\n"
    )
    value = measure(f"evaluate:{script}", SAMPLES, QA, 0).value
    assert value.value == pytest.approx(1 / 3)
    assert value.spread == pytest.approx(stdlib.stdev([2 / 3, 1 / 3, 0, 1 / 3]))
    assert value.signature.endswith("|texts:4,mean")
