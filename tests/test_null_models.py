"""A model that knows nothing scores chance, whatever the task; one that is broken gets no score at all."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from lmeval.engine.table import TableEngine
from lmeval.errors import NumericError
from lmeval.evaluate import evaluate
from lmeval.prepare import PreparedTask
from lmeval.records import GenerationRequest, ScoreRequest
from lmeval.requests import make_requests
from tests.canned import SCORED, TASKS, WITH_CHOICES, WRITTEN, num_bytes, prepared

VOCABULARY = 50

# What an answer of nothing, or of what has no word in common with the references, is worth
WORTHLESS = {
    "qa": {"exact_match": 0, "f1": 0},
    "translation": {"bleu": 0, "chrf": 0, "ter": 100},
    "summarization": {"rouge1": 0, "rouge2": 0, "rougeL": 0, "rougeLsum": 0},
    "generation": {"exact_match": 0},
}


def constant_engine(**options: Any) -> TableEngine:
    """Every target has the same likelihood, whatever its length; of equal logits none is the target's."""
    return TableEngine(lambda request: (-7.0, num_bytes(request), False), lambda request: "", **options)


def uniform_engine(**options: Any) -> TableEngine:
    """Every token of a vocabulary is equally likely."""

    def score(request: ScoreRequest) -> tuple[float, int, bool]:
        count = num_bytes(request)
        return -count * math.log(VOCABULARY), count, False

    return TableEngine(score, lambda request: "", **options)


def values(folder: Path, kind: str, engine: TableEngine, **changes: Any) -> dict[str, float]:
    record, _ = evaluate(prepared(folder, kind, **changes), engine)
    return {name: metric.value for name, metric in record.metrics.items()}


NULL_ENGINES = {"constant": constant_engine, "uniform": uniform_engine}


@pytest.mark.parametrize("null", NULL_ENGINES)
@pytest.mark.parametrize("kind", WITH_CHOICES)
def test_choices_score_exactly_chance(kind: str, null: str, tmp_path: Path) -> None:
    """Also where every label is 0: a tie is no point for the choice that is named first."""
    record, samples = evaluate(prepared(tmp_path, kind), NULL_ENGINES[null]())
    assert record.metrics["acc"].value == record.metrics["acc"].random_baseline == 0.5
    assert {sample.scores["acc"] for sample in samples} == {0.5}


@pytest.mark.parametrize("null", NULL_ENGINES)
def test_every_classification_metric_knows_ties(null: str, tmp_path: Path) -> None:
    found = values(tmp_path, "classification", NULL_ENGINES[null]())
    half = dict.fromkeys(("acc", "acc_norm", "macro_f1", "precision", "recall", "brier"), 0.5)
    assert found == pytest.approx(half | {"mcc": 0, "ece": 0})


def test_ties_of_some_choices_share_the_credit(tmp_path: Path) -> None:
    def score(request: ScoreRequest) -> tuple[float, int, bool]:
        return (-9.0 if request.target == " c" else -1.0), 1, False

    rows = [{"review": f"{i}", "label": i} for i in range(3)]
    choices = [" a", " b", " c"]
    record, samples = evaluate(
        prepared(tmp_path, "classification", rows, choices=choices), TableEngine(score)
    )
    assert [sample.scores["acc"] for sample in samples] == [0.5, 0.5, 0.0]
    assert record.metrics["acc"].value == record.metrics["acc"].random_baseline == pytest.approx(1 / 3)


def test_a_uniform_model_has_the_vocabulary_as_its_perplexity(tmp_path: Path) -> None:
    found = values(tmp_path, "perplexity", uniform_engine())
    assert found["token_ppl"] == pytest.approx(VOCABULARY)
    assert found["byte_ppl"] == pytest.approx(VOCABULARY)  # its tokens are bytes
    assert found["bits_per_byte"] == pytest.approx(math.log2(VOCABULARY))
    num_words = sum(len(text.split()) for text in ("The sea is naïve.", "One more line\nand another.", "End"))
    num_tokens = 18 + 26 + 3
    assert found["word_ppl"] == pytest.approx(VOCABULARY ** (num_tokens / num_words))


def test_a_uniform_masked_model_too_by_other_names(tmp_path: Path) -> None:
    found = values(tmp_path, "perplexity", uniform_engine(model_type="masked"))
    assert found["pseudo_ppl"] == pytest.approx(VOCABULARY)
    assert not {"word_ppl", "token_ppl", "byte_ppl", "bits_per_byte"} & set(found)


@pytest.mark.parametrize("null", NULL_ENGINES)
def test_an_open_cloze_scores_nothing(null: str, tmp_path: Path) -> None:
    assert values(tmp_path, "cloze", NULL_ENGINES[null]())["acc"] == 0


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("text", ["", " \n", " zzz", " zzz qqq = kkk"])
def test_writing_nothing_of_use_scores_nothing(kind: str, text: str, tmp_path: Path) -> None:
    found = values(tmp_path, kind, TableEngine(texts=lambda request: text))
    assert found == pytest.approx(WORTHLESS[kind])


# ---- labels shuffled: a model that knows the answers to other questions ----

NUM_SHUFFLED = 400


def knowing_engine(answers: dict[str, str]) -> TableEngine:
    """It finds likely, or writes, what it believes to be the answer after a context."""

    def score(request: ScoreRequest) -> tuple[float, int, bool]:
        right = answers.get(request.context, request.target) == request.target
        return (-0.1 if right else -5.0), 1, right

    return TableEngine(score, lambda request: answers[request.context])


def shuffled(items: list[Any]) -> list[Any]:
    return random.Random(1).sample(items, len(items))


def test_a_classifier_with_shuffled_labels_is_at_chance(tmp_path: Path) -> None:
    labels = [random.Random(i).randrange(2) for i in range(NUM_SHUFFLED)]
    rows = [{"review": f"{i}", "label": label} for i, label in enumerate(labels)]
    contexts = [f"{i}\nIt is" for i in range(NUM_SHUFFLED)]
    words = [(" good", " poor")[label] for label in labels]
    knowing = knowing_engine(dict(zip(contexts, words, strict=True)))
    assert values(tmp_path, "classification", knowing, rows=rows)["acc"] == 1
    guessing = knowing_engine(dict(zip(contexts, shuffled(words), strict=True)))
    record, _ = evaluate(prepared(tmp_path, "classification", rows), guessing)
    for name in ("acc", "acc_norm", "macro_f1", "precision", "recall"):
        metric = record.metrics[name]
        assert metric.ci_low is not None and metric.ci_high is not None
        assert metric.ci_low < 0.5 < metric.ci_high and metric.ci_high - metric.ci_low < 0.11
    mcc = record.metrics["mcc"]
    assert mcc.ci_low is not None and mcc.ci_high is not None
    assert mcc.ci_low < 0 < mcc.ci_high


def test_a_cloze_with_shuffled_words_is_at_chance(tmp_path: Path) -> None:
    words = [random.Random(i).choice(("left", "near")) for i in range(NUM_SHUFFLED)]
    rows = [{"before": f"{i}", "word": word, "after": ""} for i, word in enumerate(words)]
    answers = {f"{i}": f" {word}" for i, word in enumerate(shuffled(words))}
    for kind in ("cloze", "cloze_choices"):
        record, _ = evaluate(prepared(tmp_path, kind, rows), knowing_engine(answers))
        acc = record.metrics["acc"]
        assert acc.ci_low is not None and acc.ci_high is not None
        assert acc.ci_low < 0.5 < acc.ci_high
        truth = {f"{i}": f" {word}" for i, word in enumerate(words)}
        assert values(tmp_path, kind, knowing_engine(truth), rows=rows)["acc"] == 1


def test_pairs_whose_better_text_is_drawn_by_lot_are_at_chance(tmp_path: Path) -> None:
    rows = [{"good": f"good {i}", "bad": f"evil {i}"} for i in range(NUM_SHUFFLED)]
    favourites = {row[random.Random(i).choice(("good", "bad"))] for i, row in enumerate(rows)}
    engine = TableEngine(lambda request: (-1.0 if request.target in favourites else -2.0, 2, False))
    record, _ = evaluate(prepared(tmp_path, "minimal_pairs", rows), engine)
    acc = record.metrics["acc"]
    assert acc.ci_low is not None and acc.ci_high is not None
    assert acc.ci_low < 0.5 < acc.ci_high and acc.ci_high - acc.ci_low < 0.11


@pytest.mark.parametrize(
    ("kind", "column", "wrap"),
    [("qa", "answers", list), ("translation", "target", str), ("summarization", "short", str)],
)
def test_answers_to_other_questions_score_nothing(kind: str, column: str, wrap: type, tmp_path: Path) -> None:
    asked = {"qa": "question", "translation": "source", "summarization": "long"}[kind]
    answers = [" ".join(f"{word}{i}" for word in ("Wa", "Xe", "Yi", "Zo")) for i in range(10)]
    rows = [{asked: f"t{i}", column: [text] if wrap is list else text} for i, text in enumerate(answers)]
    task = prepared(tmp_path, kind, rows)
    right = TableEngine(texts=texts_of(task, answers))
    wrong = TableEngine(texts=texts_of(task, answers[1:] + answers[:1]))
    main = next(iter(WORTHLESS[kind]))
    best = evaluate(task, right)[0].metrics[main].value
    assert best == pytest.approx(100 if kind == "translation" else 1)
    assert evaluate(task, wrong)[0].metrics[main].value == 0


def texts_of(task: PreparedTask, answers: list[str]) -> dict[GenerationRequest, str]:
    asked = [make_requests(task.spec, prompt, "causal")[0] for prompt in task.prompts]
    assert len(set(asked)) == len(answers)
    return {
        request: f" {answer}"
        for request, answer in zip(asked, answers, strict=True)
        if isinstance(request, GenerationRequest)
    }


# ---- no number at all ----


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", SCORED)
def test_what_is_no_number_stops_the_run_at_its_document(kind: str, value: float, tmp_path: Path) -> None:
    task = prepared(tmp_path, kind)
    last = task.prompts[-1]
    bad = last.target if kind in ("perplexity", "cloze") else (last.choices or ("", ""))[1]

    def score(request: ScoreRequest) -> tuple[float, int, bool]:
        is_bad = request.target.startswith(str(bad)) and request.context in (last.context, "")
        return (value if is_bad else -1.0), 1, False

    with pytest.raises(NumericError, match=f"log-likelihood is {value}") as error:
        evaluate(task, TableEngine(score))
    assert error.value.where is not None and error.value.fix is not None
    assert error.value.where.startswith(f"task my_{kind}, doc_id {last.document.doc_id} ")
    assert error.value.exit_code == 2


def test_all_kinds_are_here() -> None:
    assert set(SCORED) | set(WORTHLESS) == set(TASKS)
