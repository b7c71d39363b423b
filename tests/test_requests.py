from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmeval import requests
from lmeval.errors import ModelError, TaskError
from lmeval.records import GenerationOutput, GenerationRequest, ScoreOutput, ScoreRequest
from lmeval.requests import Output, check_can_do, extract_answer, make_requests, make_sample
from tests.canned import TASKS, WRITTEN, make_task, prepared

# kind: what is asked of a causal model for the first document
ASKED: dict[str, list[Any]] = {
    "perplexity": [ScoreRequest("", "The sea is naïve.", whole_text=True)],
    "cloze": [ScoreRequest("They turned", " left")],
    "cloze_choices": [
        ScoreRequest("They turned", " left again."),
        ScoreRequest("They turned", " near again."),
    ],
    "classification": [
        ScoreRequest("Film 0 was so.\nIt is", " good"),
        ScoreRequest("Film 0 was so.\nIt is", " poor"),
    ],
    "minimal_pairs": [
        ScoreRequest("", "The dog barks.", whole_text=True),
        ScoreRequest("", "The dog barkz.", whole_text=True),
    ],
    "qa": [GenerationRequest("Q: Which city?\nA:", ("\n",), 32)],
    "translation": [GenerationRequest("a b c d e =", ("\n",), 128)],
    "summarization": [GenerationRequest("It rained for days and days.\nIn short:", ("\n",), 128)],
    "generation": [GenerationRequest("Q: What is 1000 + 234?\nA:", ("\n",), 256)],
}
# a masked model reads the right context, so it is not scored
ASKED_OF_MASKED = ASKED | {
    "cloze": [ScoreRequest("They turned", " left", " again.")],
    "cloze_choices": [
        ScoreRequest("They turned", " left", " again."),
        ScoreRequest("They turned", " near", " again."),
    ],
}


@pytest.mark.parametrize("kind", TASKS)
def test_what_a_causal_model_is_asked(kind: str, tmp_path: Path) -> None:
    task = prepared(tmp_path, kind)
    assert make_requests(task.spec, task.prompts[0], "causal") == ASKED[kind]


@pytest.mark.parametrize("kind", [kind for kind in TASKS if kind not in WRITTEN])
def test_what_a_masked_model_is_asked(kind: str, tmp_path: Path) -> None:
    task = prepared(tmp_path, kind)
    assert make_requests(task.spec, task.prompts[0], "masked") == ASKED_OF_MASKED[kind]


def test_each_choice_may_have_a_context_of_its_own(tmp_path: Path) -> None:
    contexts = ["{{ review }} Yes,", "{{ review }} No,"]
    task = prepared(tmp_path, "classification", context=contexts)
    assert make_requests(task.spec, task.prompts[0], "causal") == [
        ScoreRequest("Film 0 was so. Yes,", " good"),
        ScoreRequest("Film 0 was so. No,", " poor"),
    ]


def test_stride_stop_and_length_come_from_the_task(tmp_path: Path) -> None:
    text = prepared(tmp_path, "perplexity", stride=16)
    assert make_requests(text.spec, text.prompts[0], "causal")[0] == ScoreRequest(
        "", "The sea is naïve.", whole_text=True, stride=16
    )
    qa = prepared(tmp_path, "qa", stop=["\n", "Q:"], max_new_tokens=5)
    assert make_requests(qa.spec, qa.prompts[0], "causal")[0] == GenerationRequest(
        "Q: Which city?\nA:", ("\n", "Q:"), 5
    )


def test_every_type_has_requests_and_a_model_that_can_do_it() -> None:
    types = {keys["type"] for keys in TASKS.values()}
    assert set(requests.REQUESTS) == types
    assert set(requests.TASK_TYPES_OF_MODEL["causal"]) == types


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_masked_model_is_not_asked_to_write(kind: str, tmp_path: Path) -> None:
    spec = make_task(tmp_path, kind)
    check_can_do("causal", spec)
    with pytest.raises(ModelError, match=f'"my_{kind}".*a masked model cannot') as error:
        check_can_do("masked", spec)
    assert error.value.fix is not None
    assert error.value.fix.startswith("use a causal or seq2seq model, or tasks of type perplexity")


def sample_of(folder: Path, kind: str, outputs: list[Output], **changes: Any) -> dict[str, Any]:
    task = prepared(folder, kind, **changes)
    return make_sample(task.spec, task.prompts[0], outputs).to_json()


@pytest.mark.parametrize(
    ("kind", "outputs", "expected"),
    [
        (
            "perplexity",
            [ScoreOutput(-9.0, True, 5)],
            {
                "target": "The sea is naïve.",
                "loglikelihood": -9.0,
                "num_tokens": 5,
                "num_bytes": 18,
                "num_words": 4,
            },
        ),
        (
            "cloze",
            [ScoreOutput(-1.5, True, 1)],
            {
                "context": "They turned",
                "target": " left",
                "suffix": " again.",
                "loglikelihood": -1.5,
                "is_greedy": True,
                "num_tokens": 1,
                "num_bytes": 5,
            },
        ),
        (
            "classification",
            [ScoreOutput(-2.0, False, 1), ScoreOutput(-1.0, True, 2)],
            {
                "context": "Film 0 was so.\nIt is",
                "choices": (" good", " poor"),
                "label": 0,
                "loglikelihood": (-2.0, -1.0),
                "prediction": 1,
                "num_tokens": (1, 2),
            },
        ),
        (
            "minimal_pairs",
            [ScoreOutput(-3.0, False, 4), ScoreOutput(-5.0, False, 4)],
            {
                "choices": ("The dog barks.", "The dog barkz."),
                "label": 0,
                "loglikelihood": (-3.0, -5.0),
                "prediction": 0,
                "num_tokens": (4, 4),
            },
        ),
        (
            "qa",
            [GenerationOutput(" Paris", "stop", 2)],
            {
                "context": "Q: Which city?\nA:",
                "references": ("Paris", "Paris, France"),
                "prediction": " Paris",
                "stop_reason": "stop",
                "num_tokens": 2,
            },
        ),
        (
            "generation",
            [GenerationOutput(" It is 1000 + 234 = 1,234 in all", "eos", 9)],
            {
                "prediction": "1,234",
                "raw_prediction": " It is 1000 + 234 = 1,234 in all",
                "references": ("1,234",),
                "stop_reason": "eos",
                "num_tokens": 9,
            },
        ),
    ],
)
def test_samples(kind: str, outputs: list[Output], expected: dict[str, Any], tmp_path: Path) -> None:
    sample = sample_of(tmp_path, kind, outputs)
    assert sample["doc_id"] == 0 and len(sample["doc_sha256"]) == 64
    assert sample["truncated"] is False
    assert {key: sample[key] for key in expected} == expected


def test_bytes_and_words_are_those_of_the_original(tmp_path: Path) -> None:
    rows = [{"text": "A cat , a dog .", "raw": "A cat, a dog."}]
    sample = sample_of(tmp_path, "perplexity", [ScoreOutput(-1, True, 6)], rows=rows, original="{{ raw }}")
    assert sample["target"] == "A cat , a dog ."
    assert (sample["num_bytes"], sample["num_words"]) == (13, 4)


def test_one_truncated_request_marks_its_document(tmp_path: Path) -> None:
    outputs: list[Output] = [ScoreOutput(-2.0, False, 1), ScoreOutput(-1.0, True, 2, truncated=True)]
    assert sample_of(tmp_path, "classification", outputs)["truncated"] is True


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        (r"(\d+)", "first 12 then 34", "12"),
        (r"\d+ apples", "12 apples", "12 apples"),  # no group: the whole match
        (r"#### (\d+)|is (\d+)", "it is 7", "7"),  # the first group took no part
        (r"(x)?\d+", "12", "12"),
        (r"(\d+)", "none", None),
        (r"it is (.*)", "it is ", ""),
    ],
)
def test_extract(pattern: str, text: str, answer: str | None) -> None:
    assert extract_answer(pattern, text) == answer


def test_a_pattern_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "EXTRACT_SECONDS", 0.05)
    with pytest.raises(TaskError, match=r"took more than 0\.05 s"):
        extract_answer(r"(a|a)*$", "a" * 40 + "b")
