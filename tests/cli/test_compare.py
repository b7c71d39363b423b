"""`lmeval compare` through the command line: what it prints, writes and exits with."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmeval.journal import Journal
from lmeval.prepare import Settings
from lmeval.records import ScoreRequest
from lmeval.store import JOURNAL
from tests.canned import prepared
from tests.cli.command import ROOT, lmeval
from tests.gate.finished import chosen, finished_run, flags, read, written
from tests.table_runs import random_engine, table_run

HOSTILE = "[red]blink[/red] \x1b[2J\x07 \u202ekcab שלום :smile: [link=x]y[/link]\nlast line"


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    texts = ["the cat sat on the mat", "a dog ran in the park", "it is late now"]
    before = {
        "alpha": chosen(flags(300)),
        "beta": read([20.0, 30.0, 40.0] * 10),
        "gamma": written(texts, texts),
    }
    after = {
        "alpha": chosen(flags(300, range(20))),
        "beta": read([20.5, 30.0, 41.0] * 10),
        "delta": chosen(flags(10)),
    }
    return finished_run(tmp_path / "a", before), finished_run(tmp_path / "b", after)


def test_it_prints_differences_and_the_worst_flips(runs: tuple[Path, Path]) -> None:
    ran = lmeval("compare", *runs)
    assert ran.code == 0 and ran.err == ""
    assert max(map(len, ran.out.splitlines())) <= 100
    acc = next(line for line in ran.out.splitlines() if "acc " in line)
    assert re.search(r"1\.0000 .*0\.9333 .*-0\.0667 .*-0\.10\d\d to -0\.04\d\d .*\+0 -20 .*worse", acc)
    bits = next(line for line in ran.out.splitlines() if "bits_per_byte" in line and "│" in line)
    assert "+0.0072" in bits and "worse" in bits
    words = next(line for line in ran.out.splitlines() if "word_ppl" in line and "│" in line)
    assert re.search(r"\+\d\.\d\d % to \+\d\.\d\d %", words)
    for part in (
        "McNemar: the exact test",
        "n = 300",
        "B - A",
        "two-sided",
        "Tango",
        "only in A, not compared: gamma",
    ):
        assert part in ran.out, part
    assert "only in B, not compared: delta" in ran.out
    flips = re.findall(r"(alpha|beta) \S+, doc_id \d+: lost", ran.out)
    assert len(flips) == 5 and set(flips) == {"alpha", "beta"}
    assert "Is 0 a number? | `0`↵" in ran.out
    assert "expected  yes" in ran.out and "A         yes" in ran.out and "B         no" in ran.out


def test_what_is_asked_for_is_shown_and_no_more(runs: tuple[Path, Path]) -> None:
    ran = lmeval("compare", *runs, "--task", "al*", "--metric", "acc", "--worst", "1")
    assert ran.code == 0 and "beta" not in ran.out and "macro_f1" not in ran.out
    assert ran.out.count("doc_id") == 1
    assert "doc_id" not in lmeval("compare", *runs, "--worst", "0").out


def test_the_json_is_whole(runs: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    assert lmeval("compare", *runs, "--json", file, "--worst", "2").code == 0
    found = json.loads(file.read_text())
    assert found["a"]["run_id"] == "a" and found["b"]["path"] == str(runs[1])
    alpha = found["tasks"]["alpha"]
    assert alpha["num_documents"] == 300 and len(alpha["worst"]) == 2
    assert alpha["worst"][0]["prompt"] == "Is 0 a number? | `0`\n"
    acc = alpha["metrics"]["acc"]
    assert acc["delta"] == pytest.approx(-20 / 300) and (acc["gains"], acc["losses"]) == (0, 20)
    assert acc["p_mcnemar"] == pytest.approx(2 * 0.5**20)
    assert set(alpha["hashes"]) == {"task_sha256", "documents_sha256", "prompts_sha256"}
    assert (found["only_a"], found["only_b"]) == (["gamma"], ["delta"])
    again = tmp_path / "again.json"
    lmeval("compare", *runs, "--json", again, "--worst", "2")
    assert again.read_bytes() == file.read_bytes()


def test_a_file_that_cannot_be_written_is_an_error(runs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = lmeval("compare", *runs, "--json", tmp_path / "no" / "c.json")
    assert ran.code == 2 and "cannot be written" in ran.err and "Traceback" not in ran.err


def test_a_baseline_file_takes_the_place_of_a_run(runs: tuple[Path, Path], tmp_path: Path) -> None:
    assert lmeval("baseline", "save", runs[0], tmp_path / "main.json").code == 0
    ran, kept = lmeval("compare", *runs), lmeval("compare", tmp_path / "main.json", runs[1])
    assert kept.code == 0
    tables = [[line for line in out.splitlines() if "│" in line] for out in (kept.out, ran.out)]
    assert tables[0] == tables[1] and len(tables[0]) > 6
    both = lmeval("compare", tmp_path / "main.json", tmp_path / "main.json")
    assert both.code == 0 and "+0 -0" in both.out


def test_hostile_prompts_are_shown_not_obeyed(tmp_path: Path) -> None:
    rows = [{"before": f"{i} {HOSTILE}", "word": "left", "after": "."} for i in range(9)]
    task = prepared(tmp_path, "cloze", rows, metrics=["acc"])
    greedy = random_engine("good")

    def always(request: ScoreRequest) -> tuple[float, int, bool]:
        return -1.0, 1, True

    greedy._scores = always
    a, b = table_run(tmp_path / "a", [task], greedy), table_run(tmp_path / "b", [task])
    ran = lmeval("compare", a, b)
    assert ran.code == 0
    for sign in ("\x1b", "\x07", "\u202e"):
        assert sign not in ran.out
    for shown in ("[red]blink[/red]", "\\u001b[2J", "\\u202e", ":smile:", "שלום", "[link=x]", "↵"):
        assert shown in "".join(ran.out.split("\n")), shown


def test_long_prompts_are_cut_at_their_beginning(tmp_path: Path) -> None:
    rows = [{"before": "far away " * 200 + f"the end {i}", "word": "left", "after": "."} for i in range(20)]
    task = prepared(tmp_path, "cloze", rows)
    ran = lmeval(
        "compare", table_run(tmp_path / "a", [task]), table_run(tmp_path / "b", [task]), "--worst", "1"
    )
    assert ran.out.count("far away") < 40 and "the end" in ran.out and "…" in ran.out


def test_long_names_and_absurd_numbers_leave_every_column_in_sight(tmp_path: Path) -> None:
    name = "blimp_regular_plural_subject_verb_agreement_1"
    before = {
        name: chosen(flags(1000, range(200)), [str(i // 7) for i in range(1000)]),
        "ppl": read([1e3, 900.0] * 20),
    }
    after = {
        name: chosen(flags(1000, range(420)), [str(i // 7) for i in range(1000)]),
        "ppl": read([9e3, 900.0] * 20),
    }
    runs = [finished_run(tmp_path / run, tasks) for run, tasks in (("a", before), ("b", after))]
    out = lmeval("compare", *runs).out
    table = [line for line in out.splitlines() if "│" in line]
    assert {len(line) for line in table} == {len(table[0])} and len(table[0]) <= 100
    assert name in "".join(line[1:19].strip() for line in table)
    assert re.search(r"n = 1,000, 143", out) and "not so in McNemar's test" in out
    assert "│ worse │" in out and "+0 -220" in out and "e+" in out


# ---- exit codes ----


def test_help_and_missing_arguments() -> None:
    assert "B - A" in lmeval("compare", "--help").out
    for arguments in (["compare"], ["compare", "x"]):
        ran = lmeval(*arguments)
        assert ran.code == 2 and "needs two runs" in ran.err


Change = Callable[[Path], Any]


def _cut(folder: Path) -> None:
    file = folder / "samples" / "t.jsonl"
    file.write_bytes(file.read_bytes()[:-50])


def _record(**changes: Any) -> Change:
    def change(folder: Path) -> None:
        record = json.loads((folder / "run.json").read_text())
        record["tasks"]["t"] |= changes
        (folder / "run.json").write_text(json.dumps(record))

    return change


def _unit(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    record["tasks"]["t"]["metrics"]["acc"]["unit"] = "0-100"
    (folder / "run.json").write_text(json.dumps(record))


def _unfinished(folder: Path) -> None:
    (folder / "run.json").unlink()
    Journal(folder / JOURNAL).close()


BAD: dict[str, tuple[Change, int, str]] = {
    "another task version": (_record(version=2), 12, "version: 1 (A), 2 (B)"),
    "another task": (_record(task_sha256="0" * 64), 12, "task_sha256: "),
    "another number of shots": (_record(num_fewshot=5), 12, "num_fewshot: 0 (A), 5 (B)"),
    "another unit": (_unit, 12, "unit of acc: 0-1 (A), 0-100 (B)"),
    "a cut sample file": (_cut, 2, "was cut"),
    "no sample file": (lambda folder: (folder / "samples" / "t.jsonl").unlink(), 2, "cannot be read"),
    "not finished": (_unfinished, 2, "not finished"),
    "no run": (lambda folder: (folder / "run.json").unlink(), 2, "There is no run"),
    "a newer schema": (
        lambda folder: (folder / "run.json").write_text('{"schema_version": 7}'),
        2,
        "its schema is 7",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_compared_exits_with_its_code(case: str, tmp_path: Path) -> None:
    change, code, message = BAD[case]
    a, b = (finished_run(tmp_path / name, {"t": chosen(flags(30))}) for name in ("a", "b"))
    change(b)
    ran = lmeval("compare", a, b)
    assert ran.code == code and ran.out == ""
    assert ran.err.startswith("error: ") and message in ran.err and "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        (Settings(limit=3), 8, "documents: 8 (A), 3 of 8 (--limit 3) (B)"),
        (Settings(), 9, "documents: 8 (A), 9 (B)"),
        (Settings(num_fewshot=1), 8, "num_fewshot: 0 (A), 1 (B)"),
    ],
)
def test_real_runs_of_other_documents_or_shots_exit_with_12(
    settings: Settings, rows: int, message: str, tmp_path: Path
) -> None:
    def task(count: int, changes: Settings) -> Any:
        made = [{"before": f"Number {i}", "word": "left", "after": "."} for i in range(count)]
        return prepared(tmp_path, "cloze", made, changes)

    a = table_run(tmp_path / "a", [task(8, Settings())])
    b = table_run(tmp_path / "b", [task(rows, settings)])
    ran = lmeval("compare", a, b)
    assert ran.code == 12 and message in ran.err


# ---- the page ----


def test_every_command_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    commands = [
        shlex.split(line)
        for block in re.findall(r"^```sh\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    assert len(commands) == 7
    for command in commands:
        ran = lmeval(*command[1:])
        assert ran.code == 0, (command, ran)
