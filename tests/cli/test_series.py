"""A training run from end to end: its checkpoints evaluated, its trends shown, its last checkpoint judged."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import SHARES, write_checkpoints
from tests.cli.command import ROOT, Ran, lmeval

TASKS = "demo_minimal_pairs,demo_ppl"
LIMIT = "30"


def run_series(checkpoints: Path, output: Path, *arguments: str, tasks: str = TASKS) -> Ran:
    return lmeval(
        "run",
        "--model",
        f"{checkpoints}/step-*",
        "--tasks",
        tasks,
        "--limit",
        LIMIT,
        "--output",
        output,
        *arguments,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoints(tmp_path_factory.mktemp("training") / "demo-run")


@pytest.fixture(scope="module")
def evaluated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    output = tmp_path_factory.mktemp("results")
    return run_series(trained, output), output


def run_file(output: Path, step: int) -> Path:
    (file,) = (output / "demo-run" / f"step-{step}").glob("*/run.json")
    return file


def record_of(output: Path, step: int) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(run_file(output, step).read_text())
    return record


def test_every_checkpoint_is_a_run_of_its_step(evaluated: tuple[Ran, Path]) -> None:
    ran, output = evaluated
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    for number, step in enumerate(SHARES):
        record = record_of(output, step)
        assert record["model"]["step"] == step
        bits = record["tasks"]["demo_ppl"]["metrics"]["bits_per_byte"]["value"]
        assert lines[number].startswith(f"step {step:,}  step-{step}: ")
        assert f"demo_ppl bits_per_byte {bits:.4f}" in lines[number]
        (row,) = [line for line in lines if line.startswith(f"│ {step:,} ")]
        assert f"{bits:.4f} [" in row
    assert "n 30 of 200" in ran.out
    assert f"kept in {output / 'demo-run'}" in ran.out
    bits = [record_of(output, s)["tasks"]["demo_ppl"]["metrics"]["bits_per_byte"]["value"] for s in SHARES]
    assert bits[-1] < 0.5 < bits[0]  # it is a training run


def test_a_series_scores_as_single_runs_do(
    evaluated: tuple[Ran, Path], trained: Path, tmp_path: Path
) -> None:
    ran = lmeval(
        "run", "--model", trained / "step-300", "--tasks", TASKS, "--limit", LIMIT, "--output", tmp_path
    )
    assert ran.code == 0, ran.err
    single = json.loads((ran.folder(tmp_path) / "run.json").read_text())
    assert single["tasks"] == record_of(evaluated[1], 300)["tasks"]
    assert single["model"]["step"] == 300


def test_what_is_done_is_shown_and_not_computed(evaluated: tuple[Ran, Path], trained: Path) -> None:
    first, output = evaluated
    again = run_series(trained, output)
    assert again.code == 0, again.err
    assert again.out.count(": already done  ") == len(SHARES)
    assert again.out.partition("┏")[2] == first.out.partition("┏")[2]
    printed = json.loads(run_series(trained, output, "--json").out)
    assert printed["series"] == "demo-run" and printed["failed"] == {}
    assert printed["runs"] == [record_of(output, step) for step in SHARES]


def test_a_checkpoint_cut_off_stops_no_other(trained: Path, tmp_path: Path) -> None:
    for step in (100, 200, 300):
        shutil.copytree(trained / f"step-{step}", tmp_path / "demo-run" / f"step-{step}")
    weights = tmp_path / "demo-run" / "step-200" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    ran = run_series(tmp_path / "demo-run", tmp_path / "out", tasks="demo_minimal_pairs")
    assert ran.code == 2
    assert re.search(r"step 200  step-200: failed, .*model.safetensors is cut off", ran.out)
    assert ran.err.startswith("error: 1 of 3 checkpoints could not be evaluated: step-200\n")
    assert "Traceback" not in ran.err
    record_of(tmp_path / "out", 100), record_of(tmp_path / "out", 300)
    weights.write_bytes(whole)
    ran = run_series(tmp_path / "demo-run", tmp_path / "out", tasks="demo_minimal_pairs")
    assert (ran.code, ran.err) == (0, "")
    assert [line.count("already done") for line in ran.out.splitlines()[:3]] == [1, 0, 1]


def test_tasks_that_the_models_cannot_do_are_named(tmp_path: Path) -> None:
    write_checkpoints(tmp_path / "demo-run", {7: 1.0}, "demo-masked")
    ran = run_series(tmp_path / "demo-run", tmp_path / "out", tasks="demo_[qm]*")
    assert (ran.code, ran.err) == (0, "")
    assert "demo_qa: left out, " in ran.out and "a masked model cannot" in ran.out
    assert set(record_of(tmp_path / "out", 7)["tasks"]) == {"demo_minimal_pairs"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "none/step-*"], "no folder and no .gguf file matches none/step-*"),
        (["--model", "ck/*"], "no training step in final"),
        (["--model", "ck/step-*", "--revision", "main"], "--revision main is for one model"),
        (["--model", "ck/step-*", "--revisions", "step1"], "--revisions are those of a model on the hub"),
        (["--model", "demo", "--revisions", "step1"], "--revisions are those of a model on the hub"),
        (["--model", "org/model", "--revisions", " , "], "--revisions names none"),
        (["--model", "mixed/step-*"], "of one type"),
    ],
)
def test_what_is_no_series_is_refused(
    arguments: list[str], message: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ck/step-1", "ck/final", "mixed/step-1"):
        shutil.copytree(trained / "step-100", name)
    write_checkpoints(Path("mixed"), {2: 1.0}, "demo-masked")
    ran = lmeval("run", "--tasks", "demo_minimal_pairs", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ") and message in ran.err and "fix:" in ran.err
    assert not list(Path().glob("results/**/run.json"))


# ---- trends ----


def test_compare_series_prints_the_trend_of_every_metric(evaluated: tuple[Ran, Path], tmp_path: Path) -> None:
    _, output = evaluated
    ran = lmeval("compare", "--series", output / "demo-run", "--json", tmp_path / "trends.json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads((tmp_path / "trends.json").read_text())
    assert found["steps"] == list(SHARES) and found["per"] == "doubling"
    trends = {(trend["task"], trend["metric"]): trend for trend in found["trends"]}
    pairs = trends["demo_minimal_pairs", "acc"]
    assert sum(pairs["changes"].values()) == int(LIMIT)
    assert pairs["changes"]["learned"] > 0
    bits = trends["demo_ppl", "bits_per_byte"]
    assert bits["best"] == len(SHARES) - 1 and bits["slope"]["value"] < 0
    assert f"{len(SHARES)} checkpoints, steps 100 to 1,000" in ran.out
    for text in ("per doubling", "n = 30, partial", f"{bits['values'][-1]:.4f} at 1,000", "█", "S/N"):
        assert text in ran.out
    only = lmeval(
        "compare", "--series", output / "demo-run", "--task", "demo_p*", "--metric", "bits_per_byte"
    )
    assert "demo_minimal_pairs" not in only.out and "byte_ppl" not in only.out and "bits_per_byte" in only.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--series", "{out}/nowhere"], 2, "no such folder"),
        (["--series", "{out}/demo-run/step-100"], 12, "has one checkpoint, step 100"),
        (["--series", "{out}/demo-run", "--task", "nosuch"], 2, "no task or metric of the series"),
        (["--series", "{out}/demo-run", "{out}/demo-run/step-100"], 2, "one or the other"),
        ([], 2, "needs two runs"),
    ],
)
def test_what_has_no_trend_is_refused(
    arguments: list[str], code: int, message: str, evaluated: tuple[Ran, Path]
) -> None:
    ran = lmeval("compare", *(argument.format(out=evaluated[1]) for argument in arguments))
    assert ran.code == code and message in ran.err, ran


# ---- the gate ----


def test_the_gate_adds_step_noise_and_an_anchor(evaluated: tuple[Ran, Path], tmp_path: Path) -> None:
    _, output = evaluated
    history = output / "demo-run"
    ran = lmeval("gate", history / "step-1000", "--history", history, "--json", tmp_path / "gate.json")
    report = json.loads((tmp_path / "gate.json").read_text())
    assert ran.code == report["exit_code"] == {"PASS": 0, "FAIL": 10, "INCONCLUSIVE": 11}[report["verdict"]]
    notes = " ".join(report["notes"])
    assert "step noise is added, from steps 100, 200, 300, 400, 500" in notes
    assert "the anchor is the history's first checkpoint, step 100" in notes
    assert report["runs"]["baseline"]["step"] == 500 and report["runs"]["anchor"]["step"] == 100
    named = lmeval(
        "gate", history / "step-1000", "--baseline", history / "step-400", "--anchor", history / "step-300",
        "--history", history, "--steps", "4", "--json", tmp_path / "named.json",
    )  # fmt: skip
    report = json.loads((tmp_path / "named.json").read_text())
    assert named.code == report["exit_code"]
    assert report["runs"]["baseline"]["step"] == 400 and report["runs"]["anchor"]["step"] == 300
    assert "from steps 200, 300, 400, 500" in " ".join(report["notes"])


def test_a_worse_model_after_the_last_checkpoint_fails(
    evaluated: tuple[Ran, Path], trained: Path, tmp_path: Path
) -> None:
    """Late checkpoints that hardly differ, then one from the beginning under a late name."""
    write_checkpoints(tmp_path / "late", {1000 + step: 1 - step / 10_000 for step in range(1, 6)})
    shutil.copytree(trained / "step-100", tmp_path / "late" / "step-2000")
    ran = run_series(tmp_path / "late", tmp_path / "out")
    assert ran.code == 0, ran.err
    history = tmp_path / "out" / "late"
    ran = lmeval("gate", history / "step-2000", "--history", history)
    assert ran.code == 10, ran.out
    assert "FAIL" in ran.out


@pytest.mark.parametrize(
    ("candidate", "arguments", "code", "message"),
    [
        ("step-300", [], 2, "the history has 2 checkpoints before step 300"),
        ("step-1000", ["--steps", "2"], 2, "--steps 2 is too few"),
        ("step-1000", ["--history", "nowhere"], 2, "no such folder"),
    ],
)
def test_too_short_a_history_is_refused(
    candidate: str, arguments: list[str], code: int, message: str, evaluated: tuple[Ran, Path]
) -> None:
    history = evaluated[1] / "demo-run"
    ran = lmeval("gate", history / candidate, "--history", history, *arguments)
    assert ran.code == code and message in ran.err, ran


def test_a_history_of_other_tasks_is_not_comparable(
    evaluated: tuple[Ran, Path], trained: Path, tmp_path: Path
) -> None:
    ran = lmeval(
        "run",
        "--model",
        trained / "step-1000",
        "--tasks",
        "demo_cloze",
        "--limit",
        LIMIT,
        "--output",
        tmp_path,
    )
    assert ran.code == 0, ran.err
    ran = lmeval(
        "gate",
        ran.folder(tmp_path),
        "--baseline",
        ran.folder(tmp_path),
        "--history",
        evaluated[1] / "demo-run",
    )
    assert ran.code == 12, ran
    assert "has no task demo_cloze" in ran.out + ran.err


# ---- the page that explains it ----


def test_the_commands_of_the_page_work(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in re.findall(r"^lmeval .*", page, flags=re.MULTILINE)]
    assert [command[1] for command in commands] == ["run", "compare", "gate", "selftest"]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "checkpoints")
    for command in commands:
        limit = ["--limit", LIMIT] if command[1] in ("run", "selftest") else []
        ran = lmeval(*command[1:], *limit)
        assert ran.code in ((0, 10, 11) if command[1] == "gate" else (0,)), ran
