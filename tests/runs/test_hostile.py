"""Records, samples and baselines of strangers: what hostile files were found to do; tests/fuzz/runs.py makes more."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmeval.baseline import save_baseline
from lmeval.errors import StoreError
from lmeval.runs import load_run, reading
from lmeval.runs.compact import with_checksum
from lmeval.runs.reading import parse_json, read_json
from tests.cli.command import lmeval
from tests.gate.finished import chosen, finished_run, written

TASKS = {"t": chosen([True, False, True]), "w": written(["a b", "c"], ["a b", "d"])}

TEXTS = {
    "a number of thousands of digits": (b'{"n": ' + b"9" * 5_000 + b"}", "whole number of 5,000 characters"),
    "a number beyond 64 bits": (b'{"n": 10000000000000000000}', "whole number of 20 characters"),
    "infinity in disguise": (b'{"n": 1e999}', "1e999 would be infinite"),
    "infinity": (b'{"n": -Infinity}', "-Infinity is no number"),
    "a key twice": (b'{"value": 1, "value": 2}', "'value' is there twice"),
    "deep": (b"[" * 100_000, "nested too deep"),
    "deeper than others follow": (b"[" * 150 + b"]" * 150, "nested too deep"),
    "NUL": (b'{"a": "\0"}', "NUL bytes"),
    "no UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "millions of values": (b"[" + b"[]," * 2_000_000 + b"[]]", "more than 3,000,000 values"),
    "nothing": (b"", "not valid JSON"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_json_that_is_none_of_ours(name: str, tmp_path: Path) -> None:
    content, message = TEXTS[name]
    (tmp_path / "run.json").write_bytes(content)
    begin = time.process_time()
    with pytest.raises(StoreError, match=message) as caught:
        read_json(tmp_path / "run.json")
    assert time.process_time() - begin < 2
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_a_file_and_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(tmp_path / "run", TASKS)
    with (tmp_path / "run" / "run.json").open("ab") as stream:
        stream.truncate(2**40)  # a terabyte that takes no place
    with pytest.raises(StoreError, match="more than 268,435,456 bytes"):
        load_run(tmp_path / "run")
    finished_run(tmp_path / "other", TASKS)
    with (tmp_path / "other" / "samples" / "t.jsonl").open("wb") as stream:
        stream.write(b'{"a": "')
        stream.truncate(2**40)
    monkeypatch.setattr("lmeval.runs.folder.MAX_LINE_BYTES", 100_000)
    with pytest.raises(StoreError, match="more than 100,000 bytes"):
        load_run(tmp_path / "other").tasks["t"].metrics["acc"].statistics  # noqa: B018


def test_samples_keep_numbers_as_they_were() -> None:
    """The bounds leave what runs write alone."""
    numbers = [0, -1, 2**62, 0.1, -1e-320, 1e308, 123456.789, -0.0]
    assert parse_json(json.dumps(numbers).encode(), "here") == numbers
    assert len(str(2**63 - 1)) == reading.MAX_DIGITS


BASELINE_DAMAGE: dict[str, tuple[Callable[[Any], None], str]] = {
    "fewer documents than none": (lambda v: v["run"]["tasks"]["t"].update(num_documents=-1), "-1 documents"),
    "more than there can be": (lambda v: v["run"]["tasks"]["t"].update(num_documents=10**15), "none of ours"),
    "columns without end": (lambda v: v["tables"]["t"].update(num_columns=10**15), "columns"),
    "a metric without columns": (lambda v: v["tables"]["t"]["metrics"].update(acc=[]), "no statistics"),
    "a metric with another's columns": (
        lambda v: v["tables"]["w"]["metrics"].update(chrf=[0]),
        "not those of|give chrf",
    ),
    "a table that is none": (lambda v: v["tables"]["t"].update(data=["%%"]), "unpacked"),
    "no time": (lambda v: v["run"].update(created="../../x"), "no time"),
}


def read_all(file: Path) -> None:
    for task in load_run(file).tasks.values():
        for metric in task.metrics.values():
            metric.statistics.sum()


@pytest.mark.parametrize("name", BASELINE_DAMAGE)
def test_a_baseline_with_a_right_checksum(name: str, tmp_path: Path) -> None:
    """Whoever makes up a baseline can compute its checksum."""
    finished_run(tmp_path / "run", TASKS)
    save_baseline(load_run(tmp_path / "run"), tmp_path / "b.json")
    value = json.loads((tmp_path / "b.json").read_text())
    change, message = BASELINE_DAMAGE[name]
    change(value)
    del value["sha256"]
    (tmp_path / "b.json").write_text(json.dumps(with_checksum(value)))
    begin = time.process_time()
    with pytest.raises(StoreError, match=message):
        read_all(tmp_path / "b.json")
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("command", ["compare", "gate", "leaderboard", "report", "export", "baseline"])
@pytest.mark.parametrize("way", ["fifo", "/dev/zero", "folder", "/proc/self/environ"])
def test_commands_on_what_is_no_file(
    way: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finished_run(tmp_path / "runs" / "good", TASKS)
    shutil.copytree(tmp_path / "runs" / "good", tmp_path / "runs" / "bad")
    for name in ("run.json", "samples/t.jsonl"):
        file = tmp_path / "runs" / "bad" / name
        file.unlink()
        if way == "fifo":
            os.mkfifo(file)
        elif way == "folder":
            file.mkdir()
        else:
            file.symlink_to(way)
    lines = {
        "compare": ["runs/good", "runs/bad"],
        "gate": ["runs/good", "--baseline", "runs/bad"],
        "leaderboard": ["runs", "--output", "board.md"],
        "report": ["runs/bad", "--output", "page.html"],
        "export": ["runs/bad", "--format", "markdown"],
        "baseline": ["save", "runs/bad", "b.json"],
    }
    ran = lmeval(command, *lines[command])
    assert ran.code == (0 if command == "leaderboard" else 2), ran.err
    assert "Traceback" not in ran.err
    # a folder that is called run.json makes its folder none of a run
    assert "bad" in ran.err or (command, way) == ("leaderboard", "folder")
    assert "PATH=" not in ran.err + ran.out
