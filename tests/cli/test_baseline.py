"""`lmeval baseline` through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import lmeval
from tests.gate.finished import chosen, finished_run, flags, read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tasks = {
        "alpha": chosen(flags(1000), [str(i // 2) for i in range(1000)]),
        "beta": read([20.0, 30.0] * 50),
    }
    run = finished_run(tmp_path / "first", tasks)
    ran = lmeval("baseline", "save", run, tmp_path / "main.json")
    assert ran.code == 0 and ran.err == ""
    assert "2 tasks, 1,100 documents" in ran.out and "kB" in ran.out
    return tmp_path / "main.json"


def candidate(tmp_path: Path, name: str, wrong: int = 0) -> Path:
    tasks = {"alpha": chosen(flags(1000, range(wrong)), [str(i // 2) for i in range(1000)])}
    return finished_run(tmp_path / name, {**tasks, "beta": read([20.0, 30.0] * 50)})


def test_show_says_what_it_holds(file: Path) -> None:
    ran = lmeval("baseline", "show", file)
    assert ran.code == 0 and max(map(len, ran.out.splitlines())) <= 100
    for part in (
        "first",
        "made-up",
        "float32",
        "alpha",
        "acc",
        "1,000, 500 apart",
        "bits_per_byte",
        "window",
    ):
        assert part in ran.out, part
    assert "anchor" not in ran.out and "before" not in ran.out


def test_promote_replaces_after_a_pass(file: Path, tmp_path: Path) -> None:
    ran = lmeval("baseline", "promote", candidate(tmp_path, "second"), file)
    assert ran.code == 0, ran
    assert "PASS" in ran.out and "now holds" in ran.out
    shown = lmeval("baseline", "show", file).out
    assert "run       second" in shown
    assert "anchor    made-up, first" in shown and "replaced by second after PASS" in shown


def test_promote_exits_with_the_gates_code(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    worse = candidate(tmp_path, "worse", 100)
    ran = lmeval("baseline", "promote", worse, file)
    assert ran.code == 10 and "is unchanged: the gate says FAIL" in ran.err and "FAIL" in ran.out
    assert lmeval("baseline", "promote", candidate(tmp_path, "near", 8), file).code == 11
    other = finished_run(tmp_path / "other", {"alpha": chosen(flags(10)), "beta": read([1.0])})
    assert lmeval("baseline", "promote", other, file).code == 12
    assert file.read_bytes() == before
    assert lmeval("baseline", "promote", worse, file, "--force").code == 0
    assert "after FAIL, by force" in lmeval("baseline", "show", file).out


def test_promote_takes_the_report_of_a_gate(file: Path, tmp_path: Path) -> None:
    second, report = candidate(tmp_path, "second"), tmp_path / "gate.json"
    assert lmeval("gate", second, "--baseline", file, "--json", report).code == 0
    ran = lmeval("baseline", "promote", second, file, "--gate-report", report)
    assert ran.code == 0 and "now holds" in ran.out
    ran = lmeval("baseline", "promote", candidate(tmp_path, "third"), file, "--gate-report", report)
    assert ran.code == 12 and "of another candidate" in ran.err


def test_promote_takes_a_gate_file(file: Path, tmp_path: Path) -> None:
    rules = tmp_path / "gate.yaml"
    rules.write_text(
        "version: 1\ngates:\n  - {task: alpha, metric: acc, rule: {noninferior: {margin: 0.2}}}\n"
    )
    assert lmeval("baseline", "promote", candidate(tmp_path, "worse", 100), file, "--config", rules).code == 0


def test_wrong_use_ends_with_2(file: Path, tmp_path: Path) -> None:
    run = tmp_path / "first"
    cut = tmp_path / "cut.json"
    cut.write_text(file.read_text()[:-2000])
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps({**json.loads(file.read_text()), "history": [{}]}))
    for arguments, message in (
        (["save", run, file], "exists and is not overwritten"),
        (["save", tmp_path / "nowhere", tmp_path / "new.json"], "There is no such run"),
        (["show", run], "is a folder"),
        (["show", run / "run.json"], "is no baseline file"),
        (["show", cut], "not valid JSON"),
        (["show", edited], "checksum differs"),
        (["promote", run, file], "holds already"),
        (["promote", run, cut], "not valid JSON"),
        ([], "needs a command"),
    ):
        ran = lmeval("baseline", *arguments)
        assert ran.code == 2 and message in ran.err and "Traceback" not in ran.err, arguments


def test_hostile_names_are_shown_not_obeyed(tmp_path: Path) -> None:
    folder = candidate(tmp_path, "run")
    record = json.loads((folder / "run.json").read_text())
    record["model"]["id"] = "[red]\x1b[2J\u202e"
    (folder / "run.json").write_text(json.dumps(record))
    assert lmeval("baseline", "save", folder, tmp_path / "main.json").code == 0
    out = lmeval("baseline", "show", tmp_path / "main.json").out
    assert "[red]\\u001b[2J\\u202e" in out and "\x1b" not in out and "\u202e" not in out
