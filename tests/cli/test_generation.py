"""Runs that write, from the command line: every strategy, and what samples and record say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.canned import write_task
from tests.cli.command import Ran, lmeval
from tests.contract import check_run, read_samples

ROWS = [
    {"question": f"Where does {name} live?", "answers": ["Velnek"]}
    for name in ("Ann", "Bo", "Cy", "Di", "Ed")
]
SAMPLED = {"strategy": "sample", "temperature": 1.3, "top_k": 50, "repetitions": 4}


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMEVAL_DATA", raising=False)


def run(
    folder: Path, name: str, *arguments: str, **changes: Any
) -> tuple[Ran, dict[str, Any], list[dict[str, Any]]]:
    """A run of the demo model, its record and its sample lines."""
    task = write_task(folder, "qa", ROWS, max_new_tokens=6, **changes)
    output = folder / name
    ran = lmeval("run", "--model", "demo", "--tasks", task, "--output", output, "--quiet", *arguments)
    assert ran.code == 0, ran.err
    record: dict[str, Any] = json.loads((ran.folder(output) / "run.json").read_text())
    check_run(record)
    return ran, record, read_samples(ran.folder(output))["my_qa"]


def test_sampled_texts_depend_on_neither_batch_nor_limit_but_on_the_seed(tmp_path: Path) -> None:
    metrics = ["exact_match", "f1", "pass@2", "majority"]
    ran, record, lines = run(tmp_path, "all", decoding=SAMPLED, metrics=metrics)
    assert [len(line["predictions"]) for line in lines] == [4] * 5
    assert len({text for line in lines for text in line["predictions"]}) > 5
    for line in lines:
        assert line["prediction"] == line["predictions"][0]
        assert line["stop_reason"] == line["stop_reasons"][0]
        assert {*line["stop_reasons"]} <= {"stop", "eos", "length"}
        assert len(line["num_tokens"]) == 4 and all(1 <= number <= 6 for number in line["num_tokens"])
        assert set(line["scores"]) == set(metrics)
        assert {name: len(scores) for name, scores in line["repetition_scores"].items()} == {
            "exact_match": 4,
            "f1": 4,
        }
    task = record["tasks"]["my_qa"]
    assert task["decoding"] == SAMPLED | {"top_p": None, "stop": ["\n"], "max_new_tokens": 6}
    assert task["metrics"]["f1"]["spread"] is not None
    assert "standard deviation over its 4 repetitions" in ran.out
    assert record["efficiency"]["tokens_generated"] == sum(sum(line["num_tokens"]) for line in lines)
    assert f"written: {record['efficiency']['tokens_generated']} tokens · " in ran.out

    _, _, part = run(
        tmp_path, "part", "--limit", "2", "--batch-tokens", "64", decoding=SAMPLED, metrics=metrics
    )
    texts = [line["predictions"] for line in lines]
    assert [line["predictions"] for line in part] == texts[:2]
    _, _, other = run(tmp_path, "other", "--seed", "1", decoding=SAMPLED, metrics=metrics)
    assert all(a["predictions"] != b for a, b in zip(other, texts, strict=True))


@pytest.mark.parametrize("decoding", [{"strategy": "greedy"}, {"strategy": "beam", "num_beams": 3}])
def test_one_text_a_document(decoding: dict[str, Any], tmp_path: Path) -> None:
    _, record, lines = run(tmp_path, "out", decoding=decoding)
    for line in lines:
        assert {"context", "references", "prediction", "stop_reason", "num_tokens", "scores"} <= set(line)
        assert not {"predictions", "stop_reasons", "raw_prediction", "repetition_scores"} & set(line)
        assert isinstance(line["num_tokens"], int) and set(line["scores"]) == {"exact_match", "f1"}
    task = record["tasks"]["my_qa"]
    assert task["decoding"]["strategy"] == decoding["strategy"]
    assert ("length_penalty" in task["decoding"]) == (decoding["strategy"] == "beam")
    assert task["metrics"]["f1"]["spread"] is None
