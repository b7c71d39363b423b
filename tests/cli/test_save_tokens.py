"""`lmeval run --save-tokens`: what samples then hold, and that nothing else of a run changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmeval.runs import load_run
from tests.cli.command import lmeval

TASKS = "demo_classification,demo_cloze,demo_minimal_pairs,demo_ppl"


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMEVAL_DATA", raising=False)


def run(output: Path, *arguments: str, model: str = "demo", tasks: str = TASKS) -> dict[str, Any]:
    """A run's record, with the lines of its samples by task."""
    ran = lmeval(
        "run", "--model", model, "--tasks", tasks, "--limit", "3", "--quiet", "--output", output, *arguments
    )
    assert ran.code == 0, ran.err
    folder = ran.folder(output)
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    record["samples"] = {
        file.stem: [json.loads(line) for line in file.read_text().splitlines()]
        for file in (folder / "samples").iterdir()
    }
    record["folder"] = folder
    return record


@pytest.mark.parametrize("model", ["demo", "demo-masked", "demo-seq2seq"])
def test_samples_hold_the_tokens_of_each_text_that_was_scored(model: str, tmp_path: Path) -> None:
    plain, kept = run(tmp_path / "a", model=model), run(tmp_path / "b", "--save-tokens", model=model)
    for task, lines in kept["samples"].items():
        for line, without in zip(lines, plain["samples"][task], strict=True):
            nats = (
                line["loglikelihood"] if isinstance(line["loglikelihood"], list) else [line["loglikelihood"]]
            )
            counts = line["num_tokens"] if isinstance(line["num_tokens"], list) else [line["num_tokens"]]
            tokens = line.pop("tokens")
            assert [len(text) for text in tokens] == counts
            for text, total in zip(tokens, nats, strict=True):
                assert sum(token["logprob"] for token in text) == pytest.approx(total, abs=1e-9)
                assert all(len(token["top"]) == 5 for token in text)
            assert line == without  # and nothing else is different
    assert kept["tasks"] == plain["tasks"]


def test_such_a_run_is_read_back_and_checked_like_any_other(tmp_path: Path) -> None:
    task = load_run(run(tmp_path, "--save-tokens")["folder"]).tasks["demo_cloze"]
    assert task.metrics["acc"].statistics.shape[0] == 3
    (sample,) = task.samples([1]) or []
    assert sample.tokens is not None and sample.tokens[0][0].rank >= 1


def test_outputs_kept_without_tokens_are_not_taken_for_ones_with(tmp_path: Path, score_cache: Path) -> None:
    run(tmp_path / "a", "--cache")
    again = run(tmp_path / "b", "--cache", "--save-tokens")
    assert {task["counts"]["reused"] for task in again["tasks"].values()} == {0}
    assert all("tokens" in line for lines in again["samples"].values() for line in lines)
    third = run(tmp_path / "c", "--cache", "--save-tokens")
    assert all(task["counts"]["reused"] > 0 for task in third["tasks"].values())
    assert third["samples"] == again["samples"]  # and come back whole


def test_texts_that_a_model_writes_have_none(tmp_path: Path) -> None:
    kept = run(tmp_path, "--save-tokens", tasks="demo_qa")
    assert not any("tokens" in line for line in kept["samples"]["demo_qa"])
