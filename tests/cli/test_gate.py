"""`lmeval gate` on finished runs, through the command line: every exit code, every output."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import junitparser
import pytest
from rich.console import Console

from lmeval.cli.gate_table import _print_table
from lmeval.gate.cells import COLUMNS
from lmeval.gate.config import load_gate_file
from lmeval.gate.suite import EXIT_CODES
from tests.cli.command import Ran, lmeval
from tests.gate.finished import Task, chosen, finished_run, flags, read, written
from tests.gate.results import result

N = 1000
WRONG = range(300, 400)


def quiz(n: int = N, lost: Sequence[int] = (), **changes: Any) -> Task:
    return chosen(flags(n, [i for i in (*WRONG, *lost) if i < n]), **changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline and candidates, one for each verdict."""
    folder = tmp_path_factory.mktemp("runs")
    for name, task in {
        "base": quiz(),
        "good": quiz(lost=[1, 2]),
        "bad": quiz(lost=range(50)),
        "unclear": quiz(lost=range(10)),
        "other": quiz(version=2),
    }.items():
        finished_run(folder / name, {"quiz": task})
    return folder


def printed_verdict(ran: Ran) -> tuple[str, int]:
    """Verdict and exit code as the last line says them."""
    found = re.search(r"^gate: ([A-Z ]+) \(exit code (\d+)\)$", ran.out, flags=re.MULTILINE)
    assert found, ran
    return found[1], int(found[2])


@pytest.mark.parametrize(
    ("candidate", "verdict", "code"),
    [
        ("good", "PASS", 0),
        ("bad", "FAIL", 10),
        ("unclear", "INCONCLUSIVE", 11),
        ("other", "NOT COMPARABLE", 12),
    ],
)
def test_every_verdict_ends_with_its_exit_code(
    runs: Path, tmp_path: Path, candidate: str, verdict: str, code: int
) -> None:
    file = tmp_path / "gate.json"
    ran = lmeval("gate", runs / candidate, "--baseline", runs / "base", "--json", file)
    assert ran.code == code, ran
    assert printed_verdict(ran) == (verdict, code)
    found = json.loads(file.read_text())
    assert (found["verdict"].replace("_", " "), found["exit_code"]) == (verdict, code)
    assert EXIT_CODES[found["verdict"]] == code


def test_the_table_says_what_the_specification_lists(runs: Path) -> None:
    ran = lmeval("gate", runs / "bad", "--baseline", runs / "base")
    for part in ("change", "interval", "margin", "flips", "can show", "n needed", "method"):
        assert part in ran.out
    assert "-5.00 points" in ran.out and "1 point" in ran.out and "+0 −50" in ran.out and "Tango" in ran.out
    assert "FAIL quiz acc: worse than the baseline by more than 1 point" in ran.out
    assert "worst flips of quiz acc" in ran.out and "a number?" in ran.out
    assert "no gate file: these are default rules" in ran.out


def test_the_flips_of_ten_rules_are_enough_for_a_terminal(tmp_path: Path) -> None:
    finished_run(tmp_path / "base", {f"quiz_{i}": chosen(flags(40)) for i in range(12)})
    finished_run(tmp_path / "cand", {f"quiz_{i}": chosen(flags(40, range(i + 1))) for i in range(12)})
    ran = lmeval("gate", tmp_path / "cand", "--baseline", tmp_path / "base")
    assert (
        ran.out.count("worst flips of quiz_") == 10 and "the worst flips of 2 more are in --json" in ran.out
    )
    assert ran.out.index("worst flips of quiz_11") < ran.out.index("worst flips of quiz_1 ")  # FAIL first


@pytest.mark.parametrize(("width", "left_out"), [(200, 0), (130, 1), (100, 4), (60, 6)])
def test_a_narrow_terminal_gets_fewer_columns_and_is_told(width: int, left_out: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    _print_table(console, [result("FAIL"), result("PASS")])
    text = console.file.getvalue()  # type: ignore[attr-defined]
    note = re.search("no room for (.*): widen", text)
    missing = note[1].split(", ") if note else []
    assert len(missing) == left_out
    shown = [column for column in COLUMNS if column not in missing]
    header = text[: text.index("┡")]
    assert header.splitlines()[-1].count("┃") == len(shown) + 1
    assert set(shown) >= {"verdict", "task", "metric", "change", "interval", "margin"}
    if width > 60:
        assert all(column in header for column in shown) and "-1.00 points" in text


# ---- wrong usage: 2, one message ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gate"], "needs a CANDIDATE"),
        (["gate", "good"], "needs a baseline"),
        (["gate", "nowhere", "--baseline", "base"], "nowhere"),
        (["gate", "good", "--baseline", "base", "--config", "nowhere.yaml"], "no such gate file"),
        (
            ["gate", "good", "--baseline", "base", "--json", "-", "--junit", "-"],
            "both write to standard output",
        ),
        (["gate", "good", "--baseline", "base", "--json", "-", "--github"], "both write to standard output"),
        (["gate", "good", "--baseline", "base", "--json", "no/such/folder/x"], "cannot be written"),
        (["gate", "good", "--baseline", "base", "--basline", "x"], "--basline"),
        (
            ["gate", "--model", "demo", "--tasks", "demo_cloze", "--baseline", "base", "--write-config", "x"],
            "finished",
        ),
    ],
)
def test_wrong_usage_is_one_message(
    runs: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(runs)
    ran = lmeval(*arguments)
    assert ran.code == 2
    assert message in ran.err and ran.err.startswith("error: ") and "Traceback" not in ran.err
    assert "exit code" not in ran.out  # no verdict is printed that the exit code is not


def write(folder: Path, text: str) -> Path:
    file = folder / "gate.yaml"
    file.write_text(text)
    return file


def test_a_wrong_gate_file_is_named_by_file_line_and_key(runs: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "version: 1\ngates:\n  - {task: quiz, rule: {noninferior: {margin: -1}}}\n")
    ran = lmeval("gate", runs / "good", "--baseline", runs / "base", "--config", file)
    assert ran.code == 2
    assert f"{file}:3, key gates[0].rule.noninferior.margin" in ran.err and "above 0" in ran.err


def test_a_margin_written_in_points_is_refused(runs: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "version: 1\ngates:\n  - {task: quiz, rule: {noninferior: {margin: 2}}}\n")
    ran = lmeval("gate", runs / "good", "--baseline", runs / "base", "--config", file)
    assert ran.code == 2
    assert "decides nothing" in ran.err and "line 3" in ran.err


def test_damaged_runs_are_refused_with_what_is_damaged(runs: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(runs / "base", broken)
    samples = broken / "samples" / "quiz.jsonl"
    samples.write_bytes(samples.read_bytes()[:-20])
    ran = lmeval("gate", runs / "good", "--baseline", broken)
    assert ran.code == 2
    assert str(samples) in ran.err and "cut" in ran.err


# ---- what is not comparable: 12, and every output is still written ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version: 1 (baseline), 2 (candidate)"),
        ({"task_sha256": "0" * 64}, "task_sha256"),
        ({"num_fewshot": 3}, "num_fewshot: 0 (baseline), 3 (candidate)"),
    ],
)
def test_a_run_of_other_questions(runs: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    finished_run(tmp_path / "cand", {"quiz": quiz(**changes)})
    ran = lmeval("gate", tmp_path / "cand", "--baseline", runs / "base")
    assert (ran.code, printed_verdict(ran)) == (12, ("NOT COMPARABLE", 12))
    assert message in ran.out


def test_other_documents_a_partial_run_and_another_unit(runs: Path, tmp_path: Path) -> None:
    finished_run(tmp_path / "fewer", {"quiz": quiz(N - 1)})
    ran = lmeval("gate", tmp_path / "fewer", "--baseline", runs / "base")
    assert ran.code == 12 and "documents_sha256" in ran.out
    finished_run(tmp_path / "partial", {"quiz": _limited(quiz(), 500, N)})
    ran = lmeval("gate", tmp_path / "partial", "--baseline", runs / "base")
    assert ran.code == 12 and "500 of 1,000 (--limit 500)" in ran.out
    other_unit = tmp_path / "unit"
    shutil.copytree(runs / "base", other_unit)
    file = other_unit / "run.json"
    file.write_text(file.read_text().replace('"unit": "0-1"', '"unit": "0-100"'))
    ran = lmeval("gate", other_unit, "--baseline", runs / "base")
    assert ran.code == 12 and "unit of acc: 0-1 (baseline), 0-100 (candidate)" in ran.out


def _limited(task: Task, limit: int, available: int) -> Task:
    from lmeval.records import DatasetRecord, canonical_sha256

    samples = task.samples[:limit]
    hashed = canonical_sha256([sample.doc_sha256 for sample in samples])
    dataset = DatasetRecord("made/up", None, "test", None, hashed, available)
    return replace(task, samples=samples, changes={"limit": limit, "dataset": dataset})


def test_a_baseline_that_is_not_there_is_twelve_and_written_down(runs: Path, tmp_path: Path) -> None:
    ran = lmeval(
        "gate", runs / "good", "--baseline", tmp_path / "none", "--json", tmp_path / "g.json",
        "--junit", tmp_path / "g.xml", "--markdown", tmp_path / "g.md",
    )  # fmt: skip
    assert (ran.code, printed_verdict(ran)) == (12, ("NOT COMPARABLE", 12))
    assert "There is no baseline at" in ran.out and "lmeval baseline save" in ran.out
    assert json.loads((tmp_path / "g.json").read_text())["verdict"] == "NOT_COMPARABLE"
    assert junitparser.JUnitXml.fromfile(str(tmp_path / "g.xml")).errors == 1
    assert "NOT COMPARABLE" in (tmp_path / "g.md").read_text()


def test_a_rule_about_nothing_is_twelve(runs: Path, tmp_path: Path) -> None:
    file = write(tmp_path, 'version: 1\ngates:\n  - {task: "blimp_*", rule: {noninferior: {margin: 0.01}}}\n')
    ran = lmeval("gate", runs / "good", "--baseline", runs / "base", "--config", file)
    assert ran.code == 12
    assert 'no task matches "blimp_*"' in ran.out


# ---- gate files ----


def test_a_gate_file_names_baseline_and_anchor_relative_to_itself(runs: Path, tmp_path: Path) -> None:
    for name in ("base", "good"):
        shutil.copytree(runs / name, tmp_path / "results" / name)
    file = write(
        tmp_path,
        "version: 1\nbaseline: {path: results/base, anchor: results/good}\ngates:\n"
        "  - {task: quiz, metric: acc, rule: {noninferior: {margin: 0.01}}}\n"
        "  - {task: quiz, metric: acc, rule: {min: 0.85, on: ci_bound}}\n"
        "  - {task: quiz, metric: acc, rule: {max_drop: 0.02}, level: warn}\n",
    )
    ran = lmeval("gate", runs / "good", "--config", file, "--json", tmp_path / "g.json")
    assert ran.code == 0, ran
    rules = json.loads((tmp_path / "g.json").read_text())["rules"]
    assert [(rule["rule"]["kind"], rule["against"]) for rule in rules] == [
        ("noninferior", "baseline"),
        ("noninferior", "anchor"),
        ("min", None),
        ("max_drop", "baseline"),
        ("max_drop", "anchor"),
    ]
    assert {rule["verdict"] for rule in rules} == {"PASS"}


@pytest.mark.parametrize(("on", "code"), [("fail", 11), ("warn", 0), ("pass", 0)])
def test_on_inconclusive_decides_the_exit_code(runs: Path, tmp_path: Path, on: str, code: int) -> None:
    file = write(
        tmp_path,
        f"version: 1\ndefaults: {{on_inconclusive: {on}}}\ngates:\n"
        "  - {task: quiz, rule: {noninferior: {margin: 0.01}}}\n",
    )
    ran = lmeval("gate", runs / "unclear", "--baseline", runs / "base", "--config", file)
    assert ran.code == code
    assert "INCONCLUSIVE quiz acc: the data allow anything from" in ran.out


def test_a_warning_shows_and_changes_nothing(runs: Path, tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "version: 1\ngates:\n  - {task: quiz, rule: {noninferior: {margin: 0.01}}, level: warn}\n"
        "  - {task: quiz, rule: {min: 0.1}}\n",
    )
    ran = lmeval("gate", runs / "bad", "--baseline", runs / "base", "--config", file)
    assert ran.code == 0
    assert "FAIL (warn)" in ran.out


def test_the_default_rules_can_be_written_to_a_file_that_gives_the_same_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"one two three four {i}" for i in range(30)]
    tasks = {"quiz": quiz(), "text": read([100.0 + i % 7 for i in range(300)]), "mt": written(texts, texts)}
    finished_run(tmp_path / "runs" / "base", tasks)
    finished_run(tmp_path / "runs" / "cand", tasks | {"quiz": quiz(lost=range(50))})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ci").mkdir()
    ran = lmeval("gate", "runs/cand", "--baseline", "runs/base", "--write-config", "ci/gate.yaml")
    assert ran.code == 0, ran
    text = (tmp_path / "ci" / "gate.yaml").read_text()
    assert 'baseline: {path: "../runs/base"}' in text and "1,000 documents can show a margin of" in text
    assert [str(rule.margin) for rule in load_gate_file(tmp_path / "ci/gate.yaml").rules] == [
        "0.01",
        "1 %",
        "1",
    ]
    by_file = lmeval("gate", "runs/cand", "--config", "ci/gate.yaml", "--json", "file.json")
    by_default = lmeval("gate", "runs/cand", "--baseline", "runs/base", "--json", "default.json")
    assert by_file.code == by_default.code == 10
    found = [json.loads(Path(name).read_text())["rules"] for name in ("file.json", "default.json")]
    for rules in found:
        for rule in rules:
            rule["rule"]["line"] = None
    assert found[0] == found[1]
    again = lmeval("gate", "runs/cand", "--baseline", "runs/base", "--write-config", "ci/gate.yaml")
    assert again.code == 2 and "not overwritten" in again.err
    bounds = write(tmp_path, "version: 1\ngates: [{task: quiz, metric: acc, rule: {min: 0.5}}]\n")
    without = lmeval("gate", "runs/cand", "--config", bounds, "--write-config", "other.yaml")
    assert without.code == 2 and "give --baseline RUN" in without.err


# ---- outputs ----


@pytest.mark.parametrize("form", ["json", "junit", "markdown"])
def test_standard_output_carries_one_format_and_nothing_else(runs: Path, tmp_path: Path, form: str) -> None:
    arguments = ["gate", runs / "bad", "--baseline", runs / "base", f"--{form}"]
    to_file = lmeval(*arguments, tmp_path / "report")
    to_stdout = lmeval(*arguments, "-")
    assert to_stdout.code == to_file.code == 10
    assert to_stdout.out == (tmp_path / "report").read_text()
    assert "gate: FAIL" in to_stdout.err  # the table
    assert not (Path.cwd() / "-").exists()


def test_github_gets_a_summary_and_annotations(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# what another command of the step wrote\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    ran = lmeval("gate", runs / "bad", "--baseline", runs / "base", "--github")
    assert ran.code == 10
    text = summary.read_text()
    assert text.startswith("# what another command of the step wrote\n") and "lmeval gate: FAIL" in text
    commands = [line for line in ran.out.splitlines() if line.startswith("::")]
    assert commands[0] == "::error title=lmeval gate%3A FAIL::1 FAIL"
    assert commands[1].startswith(
        "::error title=FAIL%3A quiz acc::worse than the baseline by more than 1 point"
    )


def test_a_summary_leaves_room_for_what_is_there(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_bytes(b"x" * (1024 * 1024 - 900))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert lmeval("gate", runs / "bad", "--baseline", runs / "base", "--github").code == 10
    assert 1024 * 1024 - 900 < summary.stat().st_size <= 1024 * 1024
    assert "more rows and sections did not fit here" in summary.read_text()


def test_github_without_its_variable_is_said(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    ran = lmeval("gate", runs / "good", "--baseline", runs / "base", "--github")
    assert ran.code == 0
    assert "GITHUB_STEP_SUMMARY is not set" in ran.err and "::notice" in ran.out


def test_prompts_with_control_characters_reach_every_format(tmp_path: Path) -> None:
    for name, right in (("base", flags(400)), ("cand", flags(400, range(40)))):
        task = chosen(right)
        samples = [replace(s, context="\x00\x1b[2J ]]> \ud800 | ``` " + s.context) for s in task.samples]
        finished_run(tmp_path / name, {"quiz": replace(task, samples=samples)})
    ran = lmeval(
        "gate", tmp_path / "cand", "--baseline", tmp_path / "base", "--json", tmp_path / "g.json",
        "--junit", tmp_path / "g.xml", "--markdown", tmp_path / "g.md",
    )  # fmt: skip
    assert ran.code == 10, ran
    assert "\x1b" not in ran.out and "\\u001b[2J" in ran.out
    assert junitparser.JUnitXml.fromfile(str(tmp_path / "g.xml")).failures == 1
    flips = json.loads((tmp_path / "g.json").read_text())["rules"][0]["flips"]["worst"]
    assert flips[0]["prompt"].startswith("\x00\x1b[2J ]]> \ud800")
    assert "\x1b" not in (tmp_path / "g.md").read_text()
