"""`lmeval gate --model`: the command runs the demo model, whole or in rounds, and exits with the verdict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lmeval.demo import demo_model_path
from lmeval.store import JOURNAL
from tests.cli.command import Ran, lmeval

TASKS = "demo_minimal_pairs,demo_classification"
NUM = 200
GATE = """\
version: 1
gates:
  - {task: demo_minimal_pairs, metric: acc, rule: {noninferior: {margin: 0.05}}}
  - {task: demo_classification, metric: acc, rule: {noninferior: {margin: 0.05}}}
sequential: {enabled: true, seed: 3}
"""


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMEVAL_DATA", raising=False)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("baseline")
    ran = lmeval("run", "--model", "demo", "--tasks", TASKS, "--output", output, "--quiet")
    assert ran.code == 0, ran.err
    return ran.folder(output)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with noise as wide as its own spread on every matrix."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("models") / "damaged"
    shutil.copytree(demo_model_path("demo"), folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    generator = torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        if weight.ndim == 2:
            weights[name] = weight + weight.std() * torch.randn(weight.shape, generator=generator)
    save_file(weights, file, metadata={"format": "pt"})
    return folder


@pytest.fixture
def gate_file(tmp_path: Path) -> Path:
    file = tmp_path / "gate.yaml"
    file.write_text(GATE)
    return file


def run_gate(baseline: Path, output: Path, *arguments: str | Path, model: str | Path = "demo") -> Ran:
    return lmeval(
        "gate", "--model", model, "--tasks", TASKS, "--baseline", baseline, "--output", output, *arguments
    )


def record_in(ran: Ran, output: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((ran.folder(output) / "run.json").read_text())
    return record


def used(record: dict[str, Any]) -> dict[str, int]:
    return {name: task["num_documents"] for name, task in record["tasks"].items()}


def test_a_damaged_model_fails_after_a_small_share_of_the_documents(
    baseline: Path, damaged: Path, gate_file: Path, tmp_path: Path
) -> None:
    output, report = tmp_path / "results", tmp_path / "report.json"
    ran = run_gate(baseline, output, "--config", gate_file, "--json", report, model=damaged)
    assert ran.code == 10, ran.err
    assert "FAIL" in ran.out and "exit code 10" in ran.out
    record = record_in(ran, output)
    assert max(used(record).values()) <= 0.25 * NUM
    task = record["tasks"]["demo_minimal_pairs"]
    assert task["sequential"] == {
        "seed": 3,
        "documents_used": task["num_documents"],
        "documents_total": NUM,
        "rounds": 1,
    }
    assert task["dataset"]["num_available"] == NUM
    assert not (ran.folder(output) / JOURNAL).exists()
    written = json.loads(report.read_text())
    assert written["verdict"] == "FAIL"


def test_the_same_model_passes_before_the_last_document(
    baseline: Path, gate_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    ran = run_gate(baseline, output, "--config", gate_file)
    assert ran.code == 0, ran.err
    assert all(32 < number < NUM for number in used(record_in(ran, output)).values())
    assert "then every rule was decided" in ran.out
    whole = tmp_path / "whole"
    ran = run_gate(baseline, whole, "--config", gate_file, "--no-sequential")
    assert ran.code == 0, ran.err
    assert set(used(record_in(ran, whole)).values()) == {NUM}


def test_without_a_gate_file_every_task_is_judged_and_small_margins_stay_open(
    baseline: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    ran = run_gate(baseline, output, "--sequential")
    assert ran.code == 11, ran.err  # no 200 documents show a margin of one point
    assert set(used(record_in(ran, output)).values()) == {NUM}
    assert "all there are" in ran.out


def test_a_partial_run_is_no_baseline_of_a_whole_one(baseline: Path, gate_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "results"
    partial = run_gate(baseline, output, "--config", gate_file).folder(output)
    ran = lmeval("gate", partial, "--baseline", baseline, "--config", gate_file)
    assert ran.code == 12 and "documents" in ran.out
    ran = lmeval("compare", baseline, partial)
    assert ran.code == 12 and f"of {NUM}" in ran.err


@pytest.mark.parametrize(
    ("arguments", "named"), [(["--limit", "50"], "documents"), (["--num-fewshot", "1"], "num_fewshot")]
)
def test_what_differs_is_named_before_the_model_is_loaded(
    baseline: Path, gate_file: Path, tmp_path: Path, arguments: list[str], named: str
) -> None:
    # a model whose weights could not be loaded: nobody tries
    broken = tmp_path / "broken"
    shutil.copytree(demo_model_path("demo"), broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    output = tmp_path / "results"
    ran = run_gate(baseline, output, "--config", gate_file, *arguments, model=broken)
    assert ran.code == 12, ran.err
    assert named in ran.out and "not loaded" in ran.out
    assert not list(output.glob("*/*"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--model", "demo"], "--model and --tasks belong together"),
        (["--tasks", TASKS], "lmeval gate needs a CANDIDATE"),
        (["{run}", "--model", "demo", "--tasks", TASKS], "both given"),
        (["{run}", "--sequential"], "--sequential is for a model that is run"),
        (["{run}", "--tasks", TASKS], "--model and --tasks belong together"),
        (["--model", "demo", "--tasks", TASKS, "--sequential", "--history", "{run}"], "step noise"),
        (["--model", "demo", "--tasks", "demo_minimal_pears"], "demo_minimal_pairs"),
    ],
)
def test_what_makes_no_sense_is_one_message(baseline: Path, arguments: list[str], what: str) -> None:
    ran = lmeval("gate", *[a.replace("{run}", str(baseline)) for a in arguments], "--baseline", baseline)
    assert ran.code == 2 and what in ran.err and "fix:" in ran.err


def test_a_baseline_that_is_not_there_is_12(gate_file: Path, tmp_path: Path) -> None:
    ran = run_gate(tmp_path / "nowhere", tmp_path / "results", "--config", gate_file)
    assert ran.code == 12 and "nowhere" in ran.err + ran.out
