"""Metrics of the evaluate library are programs: none runs before the user has said so, and the record names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmeval.documents import load_documents
from lmeval.engine.table import TableEngine
from lmeval.errors import DataError, LmevalError, UsageError
from lmeval.runs import load_run
from lmeval.specs import DatasetSpec
from tests.canned import write_task
from tests.cli.command import lmeval
from tests.gate.finished import chosen
from tests.leaderboard.made import add_run, edit

SCRIPT = """
import pathlib
pathlib.Path({mark!r}).write_text("ran")
import datasets
import evaluate
class M(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({{"predictions": text, "references": text}})
        return evaluate.MetricInfo(description="", citation="", features=features)
    def _compute(self, predictions, references):
        return {{"my_metric": 0.5}}
"""


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task whose metric leaves a mark where it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lmeval.run.load_engine", lambda *arguments: TableEngine(texts=lambda request: "a"))
    script = tmp_path / "my_metric" / "my_metric.py"
    script.parent.mkdir()
    script.write_text(SCRIPT.format(mark=str(tmp_path / "mark")))
    return write_task(tmp_path, "qa", metrics=["exact_match", "evaluate:./my_metric"])


def test_no_metric_runs_unasked(task_file: Path) -> None:
    ran = lmeval("run", "--model", "demo", "--tasks", task_file, "--output", "results")
    assert ran.code == 2
    for part in ('"./my_metric"', "is a program", "task my_qa", "--trust-remote-code"):
        assert part in ran.err
    assert not Path("mark").exists()
    assert not list(Path("results").glob("*/*"))


def test_with_consent_it_runs_and_the_record_names_it(task_file: Path) -> None:
    ran = lmeval("run", "--model", "demo", "--tasks", task_file, "--trust-remote-code", "--output", "results")
    assert ran.code == 0, ran.err
    assert Path("mark").read_text() == "ran"
    record = json.loads((ran.folder(Path("results")) / "run.json").read_text())
    assert record["runtime"]["trusted_code"] == ["evaluate:./my_metric"]
    assert "|code:" in record["tasks"]["my_qa"]["metrics"]["evaluate:./my_metric"]["signature"]
    assert "--trust-remote-code" in record["command"]


def test_a_run_without_such_metrics_names_none(task_file: Path) -> None:
    plain = task_file.parent / "plain"
    plain.mkdir()
    ran = lmeval("run", "--model", "demo", "--tasks", write_task(plain, "qa"), "--output", "results")
    assert json.loads((ran.folder(Path("results")) / "run.json").read_text())["runtime"]["trusted_code"] == []


@pytest.mark.parametrize(
    "command", ["compare", "gate", "leaderboard", "report", "export", "baseline", "plan"]
)
def test_no_finished_run_makes_a_metric_run(command: str, task_file: Path) -> None:
    """A stranger's record may name any metric, and consent to it in the victim's name."""
    here = task_file.parent
    for name in ("a", "b"):
        folder = add_run(here / "runs", name, {"t": chosen([True, False, True, True])})
        record = json.loads((folder / "run.json").read_text())
        metrics = record["tasks"]["t"]["metrics"]
        metrics["evaluate:./my_metric"] = {**metrics["acc"], "value": 0.5}
        edit(folder, tasks=record["tasks"], runtime={"trusted_code": ["evaluate:./my_metric"]})
    lines: dict[str, list[Any]] = {
        "compare": ["runs/a", "runs/b", "--metric", "evaluate:./my_metric"],
        "gate": ["runs/a", "--baseline", "runs/b"],
        "leaderboard": ["runs", "--output", "board.html"],
        "report": ["runs/a", "--against", "runs/b", "--output", "page.html"],
        "export": ["runs/a", "--format", "lm-eval", "--output", "exported"],
        "baseline": ["save", "runs/a", "baseline.json"],
        "plan": ["runs/a"],
    }
    ran = lmeval(command, *lines[command])
    assert ran.code in (0, 2, 10, 11, 12), ran.err
    assert not Path("mark").exists()
    run = load_run("runs/a")
    with pytest.raises(LmevalError):
        run.tasks["t"].metrics["evaluate:./my_metric"].statistics  # noqa: B018
    assert not Path("mark").exists()


@pytest.mark.parametrize("path", ["pandas", "text", "json", "arrow", "webdataset"])
def test_no_reader_of_files_stands_in_for_a_data_set(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` takes these names for readers of the working folder; that of pandas unpickles, which runs code."""
    monkeypatch.chdir(tmp_path)
    Path("secret.txt").write_text("a secret\n")
    with pytest.raises(DataError, match="is a reader of files"):
        load_documents(DatasetSpec(path=path, split="train"), tmp_path, offline=True)


def test_no_folder_stands_in_for_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("owner/data").mkdir(parents=True)
    Path("owner/data/secret.txt").write_text("a secret\n")
    with pytest.raises(DataError, match="would be read in place of the hub"):
        load_documents(DatasetSpec(path="owner/data", split="train"), tmp_path, offline=True)
    assert UsageError.exit_code == DataError.exit_code == 2
