"""`lmeval plan` through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.command import lmeval
from tests.gate.finished import chosen, finished_run, flags, read


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    text = read([100.0 + i % 9 for i in range(200)])
    finished_run(folder / "base", {"quiz": chosen(flags(500, range(250))), "text": text})
    finished_run(folder / "cand", {"quiz": chosen(flags(500, range(5, 255))), "text": text})
    return folder


def test_a_run_is_planned_by_default_rules(runs: Path) -> None:
    ran = lmeval("plan", runs / "base")
    assert ran.code == 0, ran
    for part in ("can show", "n needed", "minutes needed", "10 % of the documents flip"):
        assert part in ran.out
    found = re.search(
        r"1 point needs ([\d,]+) documents and there are 500: set a margin of ([\d.]+) points", ran.out
    )
    assert found and 6000 < int(found[1].replace(",", "")) < 6500 and 3.5 < float(found[2]) < 3.7


def test_two_runs_are_measured_and_json_says_the_same(runs: Path) -> None:
    ran = lmeval("plan", runs / "base", "--against", runs / "cand", "--json")
    quiz, text = json.loads(ran.out)
    assert (quiz["task"], quiz["metric"], quiz["margin"], quiz["n"]) == ("quiz", "acc", 0.01, 500)
    assert quiz["assumption"] == "measured on the two runs"
    assert (quiz["carries"], text["carries"]) == (False, True)
    assert text["delta_scale"] == "log"


def test_a_gate_file_is_planned(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text(
        "version: 1\ngates:\n  - {task: quiz, metric: acc, rule: {noninferior: {margin: 0.05}}}\n"
    )
    ran = lmeval("plan", runs / "base", "--config", file)
    assert ran.code == 0
    assert "its 500 documents carry 5 points" in ran.out


def test_what_is_missing_or_wrong_has_its_exit_code(runs: Path, tmp_path: Path) -> None:
    assert lmeval("plan", tmp_path / "none").code == 2
    file = tmp_path / "gate.yaml"
    file.write_text("version: 1\ngates:\n  - {task: quizz, rule: {min: 0.5}}\n")
    ran = lmeval("plan", runs / "base", "--config", file)
    assert (ran.code, 'no task "quizz". Did you mean "quiz"?' in ran.err) == (12, True)
