"""Run records, samples and baselines of strangers, through every command that reads finished runs."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from rich.console import Console

from lmeval.baseline import load_baseline, promote, save_baseline
from lmeval.cli.compare import print_comparison
from lmeval.cli.gate_table import print_report
from lmeval.compare import compare_runs
from lmeval.exports import FORMATS, export
from lmeval.gate.config import GateConfig
from lmeval.gate.formats import json_text, junit_text
from lmeval.gate.suite import judge_suite
from lmeval.gate.summary import annotation_lines, github_summary, markdown_text
from lmeval.leaderboard import build, find_runs
from lmeval.leaderboard import formats as board_formats
from lmeval.leaderboard.page import page as board_page
from lmeval.report import report_page
from lmeval.runs import load_run
from lmeval.runs.compact import with_checksum
from tests.fuzz.kind import Kind, outcome
from tests.fuzz.making import CONSTANTS, changed, damaged, dumped, paths_of, repeated, trees
from tests.gate.finished import chosen, finished_run, read, written

TASKS = {
    "t": chosen([True, False, True, True], clusters=["a", "a", "b", "c"]),
    "p": read([40.0, 50.0, 60.5]),
    "w": written(["a b c", "d e"], ["a b d", "d e"]),
}
MARKUP = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>",
    "javascript:alert(1)",
    "[red]x[/red]",
)
UNITS = (
    b"[",
    b"{",
    b'{"a":',
    b'"',
    b"9",
    b"\\u0000",
    b"1e9",
    b"\n",
    b",",
    b"[]",
    b"[[]],",
    b"-",
    b"e",
    b"\xff",
    b"\0",
)
values = st.one_of(
    trees, st.sampled_from([*MARKUP, *CONSTANTS, "\x1b]8;;http://x\x07", "https://u:canary@h/"])
)


def _alike(value: Any) -> st.SearchStrategy[Any]:
    """Hostile values of the same type, which come past the check of types."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.sampled_from((0, 1, -1, 2, 7, 2**31, 2**63 - 1, -(2**63), 10**18, 1000))
    if isinstance(value, float):
        return st.sampled_from((0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 5e-324, 0.5, 1e-9))
    if isinstance(value, list):
        return st.sampled_from(([], value * 2, value[:1]))
    if isinstance(value, dict):
        renamed = dict(zip(MARKUP, value.values(), strict=False))
        return st.sampled_from(({}, value, {"t": None}, renamed))
    strings = tuple(constant for constant in CONSTANTS if isinstance(constant, str))
    return st.sampled_from((*MARKUP, *strings, None, "2026-01-01", "x" * 3_000))


@st.composite
def _of_same_types(draw: st.DrawFn, valid: Any) -> Any:
    """A valid tree with one to three of its values exchanged for hostile ones of their types."""
    tree = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from([path for path in paths_of(tree) if path]))
        parent = tree
        for part in above:
            parent = parent[part]
        parent[last] = draw(_alike(parent[last]))
    return tree


@cache
def _good() -> Path:
    """A finished run, and another of the same questions."""
    folder = Path(tempfile.mkdtemp(prefix="lmeval-fuzz-runs-"))
    finished_run(folder / "a", TASKS)
    finished_run(
        folder / "b", TASKS | {"t": chosen([True, True, False, True], clusters=["a", "a", "b", "c"])}
    )
    save_baseline(load_run(folder / "a"), folder / "baseline.json")
    return folder


def _value(name: str) -> Any:
    return json.loads((_good() / name).read_text())


def _with(name: str, raw: bytes, folder: Path) -> Path:
    """The good run with one file exchanged."""
    run = folder / "run"
    (run / "samples").mkdir(parents=True)
    for file in ("run.json", *(f"samples/{task}.jsonl" for task in TASKS)):
        (run / file).write_bytes(raw if file == name else (_good() / "a" / file).read_bytes())
    return run


def _read_all(path: Path) -> None:
    run = load_run(path)
    for task in run.tasks.values():
        for metric in task.metrics.values():
            if metric.interval is not None:
                metric.statistics.sum()
        task.samples(range(min(2, task.num_documents)))


def _check_page(html: str) -> None:
    """No foreign text has become markup."""
    for piece in ("<script>alert", "<img src=x", '</script><script>"', "\x1b"):
        assert piece not in html, piece
    assert "canary@" not in html


def _check_text(text: str) -> None:
    assert not set(text) & set("\x1b\x07\x00\u202e"), repr(text)[:300]
    assert "canary@" not in text
    text.encode()


def _compare(path: Path) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        found = compare_runs(load_run(path), load_run(_good() / "b"))
        print_comparison(found, 3, Console(file=out, width=200, force_terminal=False))
    _check_text(out.getvalue())


def _gate(path: Path) -> None:
    report = judge_suite(load_run(_good() / "b"), load_run(path), GateConfig())
    for form in (junit_text, markdown_text, github_summary):
        _check_text(form(report))
    _check_text("".join(annotation_lines(report)))
    assert "canary@" not in json_text(report)
    out = io.StringIO()
    print_report(report, out)
    _check_text(out.getvalue())


def _board(path: Path) -> None:
    found = find_runs(path)
    board = build((*found.runs, load_run(_good() / "b")), notes=found.notes)
    _check_page(board_page(board))
    for form in (board_formats.as_markdown, board_formats.as_csv):
        _check_text(form(board))
    board_formats.as_json(board).encode()


def _report(path: Path) -> None:
    _check_page(report_page(load_run(path), None).html)


def _report_of_two(path: Path) -> None:
    _check_page(report_page(load_run(_good() / "b"), load_run(path)).html)


def _exports(path: Path) -> None:
    run = load_run(path)
    for form in FORMATS:
        for name, text in export(run, form).files.items():
            assert not Path(name).is_absolute() and ".." not in Path(name).parts, name
            assert all(len(part.encode()) < 256 for part in Path(name).parts), name
            text.encode()


def _baseline(path: Path) -> None:
    file = path.parent / "baseline.json"
    save_baseline(load_run(path), file)
    load_baseline(file)
    promote(load_run(_good() / "b"), file, GateConfig(), force=True)


READERS: dict[str, Callable[[Path], None]] = {
    "read": _read_all,
    "compare": _compare,
    "gate": _gate,
    "leaderboard": _board,
    "report": _report,
    "report of two": _report_of_two,
    "exports": _exports,
    "baseline": _baseline,
}


def _through(reader: str) -> Callable[[bytes, Path], str]:
    def check(raw: bytes, folder: Path) -> str:
        run = _with("run.json", raw, folder)
        return outcome(lambda: READERS[reader](run))

    return check


def _samples(raw: bytes, folder: Path) -> str:
    run = _with("samples/t.jsonl", raw, folder)
    return outcome(lambda: _read_all(run))


def _sample_lines(line: Any, folder: Path) -> str:
    """One line exchanged, and the record's hashes of the documents taken away."""
    lines = (_good() / "a" / "samples" / "t.jsonl").read_text().splitlines()
    lines[1] = json.dumps(line, default=str)
    run = _with("samples/t.jsonl", ("\n".join(lines) + "\n").encode(), folder)
    return outcome(lambda: (_read_all(run), _report(run)))


def _a_baseline(value: Any, folder: Path) -> str:
    file = folder / "baseline.json"
    content = (
        {key: part for key, part in value.items() if key != "sha256"} if isinstance(value, dict) else value
    )
    file.write_bytes(dumped(with_checksum(content) if isinstance(content, dict) else content))

    def use() -> None:
        _read_all(file)
        promote(load_run(_good() / "b"), file, GateConfig())

    return outcome(use)


def _gate_report(value: Any, folder: Path) -> str:
    baseline, report = folder / "baseline.json", folder / "report.json"
    baseline.write_bytes((_good() / "baseline.json").read_bytes())
    report.write_bytes(dumped(value))
    return outcome(lambda: promote(load_run(_good() / "b"), baseline, GateConfig(), gate_report=report))


@cache
def _report_value() -> Any:
    report = judge_suite(load_run(_good() / "b"), load_run(_good() / "baseline.json"), GateConfig())
    return json.loads(json_text(report))


def _no_file(example: tuple[str, str], folder: Path) -> str:
    """Something in place of a file of a run."""
    way, name = example
    run = _with("", b"", folder)
    (run / name).unlink()
    if way == "fifo":
        os.mkfifo(run / name)
    elif way == "folder":
        (run / name).mkdir()
    elif way == "huge":
        with (run / name).open("wb") as stream:
            stream.truncate(10**9)
    elif way == "one line":
        with (run / name).open("wb") as stream:
            for _ in range(100):
                stream.write(b"[" * 1_000_000)
    elif way != "missing":
        (run / name).symlink_to(way)
    return outcome(lambda: _read_all(run))


WAYS = (
    "fifo",
    "folder",
    "huge",
    "one line",
    "missing",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/environ",
    "run.json",
    "..",
)


def _record() -> Any:
    return _value("a/run.json")


def _line() -> Any:
    return json.loads((_good() / "a/samples/t.jsonl").read_text().splitlines()[1])


def _hostile(valid: Callable[[], Any]) -> st.SearchStrategy[Any]:
    return st.deferred(
        lambda: st.one_of(_of_same_types(valid()), _of_same_types(valid()), changed(valid(), values))
    )


def _damaged(name: str) -> st.SearchStrategy[bytes]:
    return st.one_of(st.deferred(lambda: damaged([(_good() / "a" / name).read_bytes()])), repeated(UNITS))


RUN_KINDS = {
    "run records": Kind(_hostile(_record).map(dumped), _through("read"), share=4),
    "run bytes": Kind(_damaged("run.json"), _through("read"), share=2),
    **{
        f"records to {reader}": Kind(_hostile(_record).map(dumped), _through(reader))
        for reader in READERS
        if reader != "read"
    },
    "sample bytes": Kind(_damaged("samples/t.jsonl"), _samples, share=2),
    "sample lines": Kind(_hostile(_line), _sample_lines, share=2),
    "baselines": Kind(_hostile(lambda: _value("baseline.json")), _a_baseline, share=2),
    "gate reports": Kind(_hostile(_report_value), _gate_report),
    "no files of runs": Kind(
        st.tuples(st.sampled_from(WAYS), st.sampled_from(("run.json", "samples/t.jsonl"))), _no_file
    ),
}
