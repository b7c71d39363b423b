from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmeval import patterns, requests
from lmeval.errors import ModelError, TaskError
from lmeval.prepare import Settings
from lmeval.records import (
    DecodingSettings,
    GenerationOutput,
    GenerationRequest,
    ScoreOutput,
    ScoreRequest,
)
from lmeval.requests import (
    Output,
    check_can_do,
    extract_answer,
    find_answer,
    make_requests,
    make_sample,
    sampling_seed,
)
from tests.canned import DOCUMENTS, TASKS, WRITTEN, make_task, prepared

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
    "memorization": [
        ScoreRequest("The key to the", " boat house"),
        ScoreRequest("The key to the", " writes that"),
        ScoreRequest("The key to the", " shall be"),
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
    monkeypatch.setattr(patterns, "SEARCH_SECONDS", 0.05)
    with pytest.raises(TaskError, match=r"took more than 0\.05 s"):
        extract_answer(r"(a|a)*$", "a" * 40 + "b")


@pytest.mark.parametrize(
    ("text", "fallback", "expected"),
    [
        ("so = 12", "last_number", ("12", "extract")),
        ("so it is 12, not 7.", "last_number", ("7", "last_number")),
        ("it costs $1,234.50, all told", "last_number", ("1,234.50", "last_number")),
        ("-3 degrees", "last_number", ("-3", "last_number")),
        ("no number", "last_number", ("", "none")),
        (" Seven.", "whole", (" Seven.", "whole")),
        ("12", "none", ("", "none")),
        ("12", None, ("", "none")),
    ],
)
def test_a_fallback_answers_by_name(text: str, fallback: str | None, expected: tuple[str, str]) -> None:
    assert find_answer(r"= (-?[0-9,]+)", fallback, text) == expected


# ---- strategies ----

SAMPLED = {"strategy": "sample", "temperature": 0.7, "top_k": 40, "top_p": 0.9, "repetitions": 3}


@pytest.mark.parametrize(
    ("decoding", "settings"),
    [
        (None, DecodingSettings()),
        ({"strategy": "greedy"}, DecodingSettings()),
        ({"strategy": "beam"}, DecodingSettings("beam", num_beams=4)),
        (
            {"strategy": "beam", "num_beams": 2, "length_penalty": 0.6},
            DecodingSettings("beam", num_beams=2, length_penalty=0.6),
        ),
        ({"strategy": "sample"}, DecodingSettings("sample")),
        (SAMPLED, DecodingSettings(**SAMPLED)),
    ],
)
def test_the_strategy_is_the_tasks(
    decoding: dict[str, Any] | None, settings: DecodingSettings, tmp_path: Path
) -> None:
    task = prepared(tmp_path, "qa", decoding=decoding)
    asked = make_requests(task.spec, task.prompts[0], "causal")
    assert [request.decoding for request in asked] == [settings] * settings.repetitions
    if settings.strategy != "sample":
        assert [request.seed for request in asked] == [0]


def test_strategy_and_options_are_part_of_the_tasks_hash(tmp_path: Path) -> None:
    settings = [None, SAMPLED, SAMPLED | {"top_k": 39}, {"strategy": "sample"}, {"strategy": "beam"}]
    hashes = [make_task(tmp_path, "qa", decoding=decoding).sha256 for decoding in settings]
    assert len(set(hashes)) == len(settings)
    assert make_task(tmp_path, "qa", decoding={"strategy": "greedy"}).sha256 == hashes[0]


def test_each_text_is_drawn_by_a_seed_of_its_own(tmp_path: Path) -> None:
    task = prepared(tmp_path, "qa", decoding=SAMPLED)

    def seeds(run_seed: int = 0) -> list[list[int]]:
        asked = [make_requests(task.spec, prompt, "causal", run_seed) for prompt in task.prompts]
        return [[request.seed for request in requests] for requests in asked]

    found = [seed for own in seeds() for seed in own]
    assert len(set(found)) == len(found) == 9
    assert all(0 <= seed < 2**63 for seed in found)
    assert seeds() == seeds()
    assert not set(found) & {seed for own in seeds(1) for seed in own}
    # stable over versions and machines: what was sampled once can be sampled again
    assert sampling_seed(0, "my_qa", "ab" * 32, 1) == 6652925747769630748


def test_neither_limit_nor_order_changes_a_seed(tmp_path: Path) -> None:
    rows = DOCUMENTS["qa"]

    def seeds(rows: list[dict[str, Any]], limit: int | None = None) -> dict[str, list[int]]:
        task = prepared(tmp_path, "qa", rows, Settings(limit=limit), decoding=SAMPLED)
        asked = {p.document.sha256: make_requests(task.spec, p, "causal") for p in task.prompts}
        return {sha256: [request.seed for request in requests] for sha256, requests in asked.items()}

    whole = seeds(rows)
    assert seeds(rows[::-1]) == whole
    part = seeds(rows, limit=2)
    assert part == {sha256: whole[sha256] for sha256 in part} and len(part) == 2


def test_a_sample_holds_every_repetition(tmp_path: Path) -> None:
    outputs: list[Output] = [
        GenerationOutput(" = 7", "stop", 3),
        GenerationOutput(" seven", "length", 2),
        GenerationOutput(" = 8", "eos", 4, truncated=True),
    ]
    sample = sample_of(
        tmp_path, "generation", outputs, decoding=SAMPLED | {"repetitions": 3}, extract_fallback="whole"
    )
    assert {
        key: value for key, value in sample.items() if key.startswith(("pred", "raw", "stop", "ext"))
    } == {
        "prediction": "7",
        "predictions": ("7", " seven", "8"),
        "raw_prediction": " = 7",
        "raw_predictions": (" = 7", " seven", " = 8"),
        "stop_reason": "stop",
        "stop_reasons": ("stop", "length", "eos"),
        "extracted_by": ("extract", "whole", "extract"),
    }
    assert sample["num_tokens"] == (3, 2, 4)
    assert sample["truncated"] is True
