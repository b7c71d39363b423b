"""Texts cut into a prefix and what follows it, and the prompts that ask for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmeval.engine.kinds import load_config
from lmeval.engine.loading import load_encoder, load_engine
from lmeval.engine.sources import ModelOptions, find_model
from lmeval.errors import DataError, RequestError, TaskError
from lmeval.evaluate import evaluate
from lmeval.memorization import cut_text
from lmeval.prepare import PreparedTask, Settings, prepare
from lmeval.records import GenerationRequest
from lmeval.task import find_tasks, load_task_file
from tests.table_runs import random_engine

PROSE = (
    "The key to the boat house hangs behind the third oar from the left, as it always has, and nobody asks."
)


# ---- cutting ----


@pytest.mark.parametrize(
    ("text", "prefix", "continuation", "parts"),
    [
        ("one two three four five", 7, 6, ("one two", " three")),
        ("one two three four five", 9, 6, ("one two", " three")),  # never inside a word
        ("one two three four five", 100, 50, ("one two three", " four five")),  # too short: two to one
        ("今天天气很好我们去公园散步", 6, 3, ("今天天气很好", "我们去")),
        (
            "a👨‍👩‍👧‍👦👨‍👩‍👧‍👦b",
            3,
            20,
            ("a", "👨‍👩‍👧‍👦👨‍👩‍👧‍👦b"),
        ),  # an emoji of seven code points stays whole
        ("  one two  ", 3, 4, ("one", " two")),
        ("word", 2, 2, ("wo", "rd")),
        ("", 5, 5, ("", "")),
    ],
)
def test_where_a_text_is_cut(text: str, prefix: int, continuation: int, parts: tuple[str, str]) -> None:
    assert cut_text(text, prefix, continuation) == parts


@given(text=st.text(max_size=120), prefix=st.integers(1, 40), continuation=st.integers(1, 40))
@settings(deadline=None, max_examples=300)
def test_the_parts_are_the_texts_beginning(text: str, prefix: int, continuation: int) -> None:
    first, second = cut_text(text, prefix, continuation)
    assert text.strip().startswith(first + second)
    assert len(first) <= prefix and len(second) <= continuation
    assert not first or not first[-1:].isspace()


@pytest.mark.parametrize("size", [60, 80, 100])
def test_prose_is_cut_between_words_near_what_was_asked(size: int) -> None:
    first, second = cut_text(PROSE * 3, size, 40)
    assert size - 10 < len(first) <= size and 30 < len(second) <= 40
    assert second[0] == " " and (PROSE * 3)[len(first + second)] == " "


# ---- prompts ----


def write(folder: Path, rows: list[dict[str, Any]] | str, **keys: Any) -> Path:
    data = "texts.txt" if isinstance(rows, str) else "texts.jsonl"
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    (folder / data).write_text(text)
    defaults = {"name": "mine", "type": "memorization", "dataset": {"path": data}, "text": "{{ text }}"}
    task = {key: value for key, value in (defaults | keys).items() if value is not None}
    file = folder / "mine.yaml"
    file.write_text(json.dumps(task))
    return file


def prepared(
    folder: Path, rows: list[dict[str, Any]] | str, limit: int | None = None, **keys: Any
) -> PreparedTask:
    (spec,) = load_task_file(write(folder, rows, **keys))
    return prepare(spec, Settings(limit=limit))


LINES = "".join(
    f"Letter number {n} was sent to the {n}th house in the street of the {n * 7}th mill.\n" for n in range(30)
)


def test_a_plain_text_file_is_enough(tmp_path: Path) -> None:
    task = prepared(tmp_path, LINES)
    assert len(task.prompts) == 30
    for prompt in task.prompts:
        assert prompt.choices is not None and len(prompt.choices) == 16 == len(set(prompt.choices))
        assert prompt.choices[0] == prompt.target and prompt.label == 0
        assert (prompt.context + prompt.choices[0]) == prompt.document.columns["text"]


def test_alternatives_are_those_of_other_documents_whatever_the_limit(tmp_path: Path) -> None:
    whole, part = (
        prepared(tmp_path, LINES, alternatives=4),
        prepared(tmp_path, LINES, limit=3, alternatives=4),
    )
    assert whole.prompts[:3] == part.prompts
    true = {prompt.target for prompt in whole.prompts}
    assert all(set(prompt.choices or ()) <= true for prompt in whole.prompts)
    assert len({(prompt.choices or ())[1:] for prompt in whole.prompts}) > 20
    assert prepared(tmp_path, LINES, alternatives=4, name="other").prompts != whole.prompts


def test_a_small_file_has_as_many_alternatives_as_there_are(tmp_path: Path) -> None:
    rows = [
        {"text": text} for text in ("one two three", "four five six", "seven eight nine", "four five six")
    ]
    task = prepared(tmp_path, rows)
    assert [len(prompt.choices or ()) for prompt in task.prompts] == [3, 3, 3, 3]  # a copy is no alternative
    with pytest.raises(DataError, match="no other document") as raised:
        prepared(tmp_path, [{"text": "one two three"}])
    assert raised.value.fix is not None and "alternatives: 0" in raised.value.fix


def test_secrets_with_alternatives_of_ones_own(tmp_path: Path) -> None:
    rows = [{"before": "The code is", "code": "4711", "others": ["1234", "4711", "9999"]}]
    keys = {"text": None, "context": "{{ before }}", "target": " {{ code }}"}
    (prompt,) = prepared(tmp_path, rows, **keys, alternatives="{{ others | prefix(' ') }}").prompts
    assert (prompt.context, prompt.choices) == ("The code is", (" 4711", " 1234", " 9999"))
    (alone,) = prepared(tmp_path, rows, **keys, alternatives=0, metrics=["exact"]).prompts
    assert (alone.target, alone.choices) == (" 4711", None)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"context": "a", "target": " b"}, "either the key text"),
        ({"text": None}, "either the key text"),
        ({"text": None, "context": "a"}, "context and target go together"),
        ({"alternatives": 0}, "the metric exposure ranks the continuation among alternatives"),
        ({"alternatives": -1, "metrics": ["exact"]}, "-1 alternatives; allowed is 0 or more"),
        ({"prefix_chars": 0}, "prefix_chars"),
        ({"metrics": ["acc"]}, 'unknown metric "acc" for type memorization'),
        ({"num_fewshot": 2}, "takes no shots"),
    ],
)
def test_keys_that_do_not_go_together(keys: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as raised:
        load_task_file(write(tmp_path, LINES, **keys))
    assert problem in str(raised.value)


def test_a_text_that_cannot_be_cut_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="too short to be cut") as raised:
        prepared(tmp_path, [{"text": "one two three"}, {"text": "x"}])
    assert "document 1" in str(raised.value.where)


def test_continuations_of_short_texts_are_counted(tmp_path: Path) -> None:
    task = prepared(tmp_path, [{"text": PROSE * 4}, {"text": PROSE}, {"text": "one two three"}])
    record, _ = evaluate(task, random_engine("m"))
    assert record.counts["short"] == 2
    assert (
        evaluate(prepared(tmp_path, LINES, continuation_chars=20), random_engine("m"))[0].counts["short"] == 0
    )


# ---- the demo model ----


@pytest.fixture(scope="module")
def demo() -> Any:
    options = ModelOptions(model="demo")
    source = find_model(options)
    return load_engine(source, load_config(source, options), load_encoder(source, options), options)


def test_what_never_changes_is_known_by_heart_and_what_is_drawn_anew_is_not(demo: Any) -> None:
    (spec,) = find_tasks(["memorization"])
    record, _ = evaluate(prepare(spec, Settings()), demo)
    assert record.groups is not None
    always, drawn = (record.groups[name].metrics for name in ("always", "drawn"))
    assert always["exact"].value > 0.97
    assert drawn["exact"].ci_low is not None and drawn["exact"].ci_low < 1 / 12 + 0.01  # one of twelve words
    assert always["exposure"].value > 2.9  # of 3 bits among eight words
    chance = drawn["exposure"].random_baseline
    assert chance is not None
    assert drawn["exposure"].ci_low is not None and drawn["exposure"].ci_high is not None
    assert drawn["exposure"].ci_low < chance < drawn["exposure"].ci_high
    assert record.calibration is None
    assert not record.metrics["exact"].higher_is_better


def test_exact_is_what_greedy_decoding_writes(demo: Any) -> None:
    (spec,) = find_tasks(["memorization"])
    _, samples = evaluate(prepare(spec, Settings(limit=24)), demo)
    requests = [GenerationRequest(sample.context, ("\x00",), int(sample.num_tokens[0])) for sample in samples]  # type: ignore[index]
    written = {index: output.text for index, output in demo.generate(requests)}
    reproduced = [written[n] == sample.target for n, sample in enumerate(samples)]
    assert reproduced == [sample.is_greedy for sample in samples]
    assert 0 < sum(reproduced) < len(samples)
