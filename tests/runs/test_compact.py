"""A baseline file gives the numbers of the run folder it came from, to the last digit, or is refused."""

from __future__ import annotations

import base64
import bz2
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmeval.baseline import save_baseline
from lmeval.compare import compare_runs
from lmeval.errors import NotComparableError, StoreError
from lmeval.records import canonical_sha256
from lmeval.runs import StoredRun, load_run
from tests.canned import TASKS, prepared
from tests.table_runs import random_engine, table_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredRun, StoredRun]:
    """Two models on a task of every type; some documents of one share a passage."""
    folder = tmp_path_factory.mktemp("runs")
    tasks = [prepared(folder, kind) for kind in TASKS]
    rows = [{"before": f"{i // 3} {i}", "word": "left", "after": "."} for i in range(40)]
    tasks.append(prepared(folder, "cloze", rows, name="passages", cluster="{{ before.split()[0] }}"))
    one, two = (load_run(table_run(folder / name, tasks)) for name in ("one", "two"))
    return one, two


@pytest.fixture
def file(runs: tuple[StoredRun, StoredRun], tmp_path: Path) -> Path:
    save_baseline(runs[0], tmp_path / "main.json")
    return tmp_path / "main.json"


def test_everything_that_is_kept_comes_back(runs: tuple[StoredRun, StoredRun], file: Path) -> None:
    run, back = runs[0], load_run(file)
    assert back.record == run.record and back.identity == run.identity
    assert list(back.tasks) == list(run.tasks)
    assert back.history == () and back.anchor is None
    for name, task in run.tasks.items():
        kept = back.tasks[name]
        assert kept.record == task.record
        assert (kept.doc_ids, kept.clusters) == (task.doc_ids, task.clusters)
        assert kept.doc_sha256 == tuple(sha[:8] for sha in task.doc_sha256)
        assert (kept.is_greedy is None) == (task.is_greedy is None)
        if task.is_greedy is not None and kept.is_greedy is not None:
            assert kept.is_greedy.tolist() == task.is_greedy.tolist()
        for metric in task.metrics:
            np.testing.assert_array_equal(kept.metrics[metric].statistics, task.metrics[metric].statistics)
        assert kept.samples([0]) is None


def numbers(a: StoredRun, b: StoredRun) -> dict[str, Any]:
    """A comparison as JSON but for where runs lie and what only samples know."""
    found = compare_runs(a, b).to_json()
    for run in ("a", "b"):
        found[run].pop("path")
    for task in found["tasks"].values():
        for flip in task["worst"]:
            for key in ("prompt", "expected", "baseline", "candidate", "doc_sha256"):
                flip.pop(key)
    return found


def test_a_comparison_gives_the_same_numbers_to_the_last_digit(
    runs: tuple[StoredRun, StoredRun], file: Path
) -> None:
    kept = load_run(file)
    assert numbers(kept, runs[1]) == numbers(*runs)
    found = numbers(runs[1], kept), numbers(runs[1], runs[0])
    for comparison in found:  # which of equal losses are shown needs the new run's samples
        for task in comparison["tasks"].values():
            del task["worst"]
    assert found[0] == found[1]


def test_the_same_run_gives_the_same_bytes(
    runs: tuple[StoredRun, StoredRun], file: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.json"
    save_baseline(load_run(runs[0].path), again)
    assert again.read_bytes() == file.read_bytes()
    copy = tmp_path / "copy.json"
    save_baseline(load_run(file), copy)  # of a baseline file too
    assert copy.read_bytes() == file.read_bytes()


def test_the_file_can_be_reviewed(file: Path) -> None:
    value = json.loads(file.read_text())
    assert list(value) == ["lmeval_baseline", "run", "tables", "history", "anchor", "sha256"]
    assert value["run"]["tasks"]["my_cloze"]["metrics"]["acc"]["unit"] == "0-1"
    assert "Film 0" not in file.read_text()  # no prompts
    assert max(map(len, file.read_text().splitlines())) < 400


def test_line_ends_may_change(file: Path) -> None:
    before = load_run(file)
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert load_run(file).record == before.record


def test_a_change_of_one_task_leaves_the_lines_of_the_others(tmp_path: Path) -> None:
    tasks = [prepared(tmp_path, kind) for kind in ("cloze", "classification")]
    one = load_run(table_run(tmp_path / "one", tasks, random_engine("m")))
    two = load_run(table_run(tmp_path / "two", tasks[:1], random_engine("m")))
    for run, name in ((one, "1.json"), (two, "2.json")):
        save_baseline(run, tmp_path / name)
    tables = [
        json.loads((tmp_path / name).read_text())["tables"]["my_cloze"] for name in ("1.json", "2.json")
    ]
    assert tables[0] == tables[1]


def test_five_thousand_documents_are_tens_of_kilobytes(tmp_path: Path) -> None:
    rows = [{"before": f"Document {i}", "word": "left", "after": "."} for i in range(5000)]
    run = load_run(table_run(tmp_path / "run", [prepared(tmp_path, "cloze", rows)]))
    save_baseline(run, tmp_path / "main.json")
    samples = (run.path / "samples" / "my_cloze.jsonl").stat().st_size
    size = (tmp_path / "main.json").stat().st_size
    assert size < 90_000 and size < samples / 10  # nats of full precision: worse than a model's


def test_an_opaque_metric_stays_opaque(runs: tuple[StoredRun, StoredRun], tmp_path: Path) -> None:
    table_run(tmp_path / "run", [prepared(tmp_path, "cloze")])
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    metrics = record["tasks"]["my_cloze"]["metrics"]
    metrics["evaluate:some"] = metrics["acc"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    save_baseline(load_run(tmp_path / "run"), tmp_path / "main.json")
    metric = load_run(tmp_path / "main.json").tasks["my_cloze"].metrics["evaluate:some"]
    with pytest.raises(NotComparableError):
        _ = metric.statistics


# ---- damage ----


def resealed(value: dict[str, Any]) -> dict[str, Any]:
    """With the checksum of what it holds now, as one would forge it."""
    rest = {key: part for key, part in value.items() if key != "sha256"}
    return {**rest, "sha256": canonical_sha256(rest)}


def test_a_cut_file_is_refused(file: Path) -> None:
    text = file.read_text()
    file.write_text(text[: len(text) // 2])
    with pytest.raises(StoreError, match="not valid JSON"):
        load_run(file)


def _other_score(text: str) -> str:
    value = json.loads(text)
    value["run"]["tasks"]["my_cloze"]["metrics"]["acc"]["value"] += 0.01
    return json.dumps(value)


EDITS: dict[str, Callable[[str], str]] = {
    "a score": _other_score,
    "the command": lambda text: text.replace("lmeval run", "lmeval rum", 1),
    "shots": lambda text: text.replace('"num_fewshot": 0', '"num_fewshot": 1', 1),
    "no checksum": lambda text: text.replace('"sha256": ', '"sha1": '),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_file_is_refused(case: str, file: Path) -> None:
    text = file.read_text()
    changed = EDITS[case](text)
    assert json.loads(changed) != json.loads(text)
    file.write_text(changed)
    with pytest.raises(StoreError, match="checksum differs") as error:
        load_run(file)
    assert error.value.exit_code == 2 and "main.json" in str(error.value)


def _table(value: dict[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = value["tables"]["my_cloze"]
    return table


def _bomb(value: dict[str, Any]) -> None:
    _table(value)["data"] = [base64.b64encode(bz2.compress(bytes(10**8))).decode()]


Forge = Callable[[dict[str, Any]], Any]
FORGED: dict[str, tuple[Forge, str]] = {
    "newer": (lambda value: value.update(lmeval_baseline=2), "newer lmeval: its format is 2"),
    "not base64": (lambda value: _table(value).update(data=["@@"]), "cannot be unpacked"),
    "not bzip2": (lambda value: _table(value).update(data=["AAAA"]), "cannot be unpacked"),
    "cut": (lambda value: _table(value).update(data=[]), "holds 0 bytes"),
    "a bomb": (_bomb, "bytes; "),
    "more documents": (
        lambda value: value["run"]["tasks"]["my_cloze"].update(num_documents=10**6),
        "holds",
    ),
    "another column": (lambda value: _table(value)["metrics"].update(acc=[0, 99]), 'no statistics of "acc"'),
    "swapped columns": (
        lambda value: _table(value)["metrics"].update(acc=_table(value)["metrics"]["ppl"]),
        "the record says",
    ),
    "no tables": (lambda value: value.pop("tables"), '"tables" is missing'),
    "a task less": (lambda value: value["tables"].pop("my_cloze"), "tasks of its record"),
    "no run": (lambda value: value["run"].pop("model"), '"model" is missing'),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_file_is_refused(case: str, file: Path) -> None:
    forge, message = FORGED[case]
    value = json.loads(file.read_text())
    forge(value)
    file.write_text(json.dumps(resealed(value)))
    with pytest.raises(StoreError, match=message) as error:
        _ = load_run(file).tasks["my_cloze"].metrics["acc"].statistics
    assert "main.json" in str(error.value)
