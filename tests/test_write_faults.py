"""Every write of a run fails in turn: one message, nothing half-written, and the same record when it is run again.

The writes are counted by a run that is not disturbed; then each of them fails, is cut short, or finds the disk full
from there on.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmeval.engine.table import TableEngine
from lmeval.run_record import without_times
from lmeval.store import JOURNAL
from tests.canned import num_bytes, write_rows, write_task
from tests.cli.command import ROOT, Ran, lmeval

OPERATIONS = ("open", "write", "fsync", "replace", "mkdir", "unlink", "rmdir")
TAKES_ROOM = ("open", "write", "mkdir")


class Disk:
    """The system's calls on the files of one folder, one of which may fail."""

    def __init__(self, root: Path, at: int | None = None, code: int = errno.EIO, how: str = "once") -> None:
        self.root, self.at, self.code, self.how = str(root), at, code, how
        self.calls: list[str] = []
        self._ours: set[int] = set()
        self._is_full = False

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put it between the program and the system."""
        for name in OPERATIONS:
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *rest: Any, **options: Any) -> Any:
            is_ours = target in self._ours if isinstance(target, int) else self._is_below(target)
            if is_ours and not (name == "open" and rest[0] == os.O_RDONLY):
                self._fail(name, target, rest)
            result = real(target, *rest, **options)
            if name == "open":
                (self._ours.add if is_ours else self._ours.discard)(result)
            return result

        real_write = os.write
        self._half = lambda target, content: real_write(target, bytes(content)[: len(content) // 2])
        return call

    def _is_below(self, path: Any) -> bool:
        return os.path.abspath(os.fspath(path)).startswith(self.root)

    def _fail(self, name: str, target: Any, rest: tuple[Any, ...]) -> None:
        self.calls.append(name)
        is_now = len(self.calls) == self.at
        if is_now and self.how == "short" and name == "write":
            self._half(target, rest[0])
        self._is_full |= is_now and self.how == "full"
        if is_now or (self._is_full and name in TAKES_ROOM):
            raise OSError(self.code, os.strerror(self.code))


Command = Callable[[], Ran]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A run of two tasks by a model that answers from a table."""
    files = [
        write_task(tmp_path, "minimal_pairs"),
        write_task(tmp_path, "qa", metrics=["exact_match"]),
    ]
    arguments = ["run", "--model", "demo", "--tasks", ",".join(map(str, files)), "--no-cache"]

    def load(*found: Any) -> TableEngine:
        return TableEngine(lambda request: (-1.0 / num_bytes(request), 1, False), lambda request: " Ada\n")

    monkeypatch.setattr("lmeval.run.load_engine", load)
    for name in ("load_config", "load_encoder"):  # they take most of the time
        monkeypatch.setattr(f"lmeval.run.{name}", lambda *found: None)
    monkeypatch.setattr("lmeval.run.check_type", lambda *found: "causal")
    monkeypatch.setattr("lmeval.run_record._git_commit", lambda: None)
    return lambda: lmeval(*arguments, "--output", tmp_path / "results")


def outcome(output: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The one finished run: its record without times, and its samples."""
    (folder,) = (path.parent for path in output.glob("*/*/run.json"))
    record = json.loads((folder / "run.json").read_bytes())
    files = {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}
    return without_times(record), files


def assert_nothing_half_written(output: Path, expected: tuple[dict[str, Any], dict[str, bytes]]) -> bool:
    """Whatever has its final name is whole; whether the run is finished."""
    for path in output.rglob("*"):
        if path.is_file() and not path.name.startswith(".") and path.name not in (JOURNAL, "run.json"):
            assert path.read_bytes() == expected[1][path.name]
    finished = list(output.glob("*/*/run.json"))
    assert not finished or outcome(output) == expected
    return bool(finished)


FAULTS = [(errno.EIO, "once"), (errno.ENOSPC, "full"), (errno.ENOSPC, "short")]


@pytest.mark.parametrize(("code", "how"), FAULTS, ids=["EIO", "full", "short"])
def test_a_write_that_fails_is_one_message_and_costs_nothing(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, how: str
) -> None:
    output = tmp_path / "results"
    disk = Disk(output)
    with monkeypatch.context() as patch:
        disk.install(patch)
        assert command().code == 0
    expected = outcome(output)
    shutil.rmtree(output)
    assert set(disk.calls) >= {"open", "write", "fsync", "replace", "mkdir", "unlink"}
    for at in range(1, len(disk.calls) + 1):
        if how == "short" and disk.calls[at - 1] != "write":
            continue
        with monkeypatch.context() as patch:
            Disk(output, at, code, how).install(patch)
            ran = command()
        where = f"{how} at {at}, {disk.calls[at - 1]}"
        finished = assert_nothing_half_written(output, expected)
        if ran.code == 0:
            assert finished, (
                where
            )  # the probe of the folder has another way, and behind run.json nothing matters
        else:
            assert ran.code == 2 and ran.err.count("error:") == 1 and "Traceback" not in ran.err, where
            assert os.strerror(code) in ran.err, where
        if not finished:
            again = command()
            assert again.code == 0, (where, again.err)
            assert outcome(output) == expected, where
        names = {path.name for path in output.glob("*/*/*")}
        assert names <= {"run.json", "samples", JOURNAL}, where  # no leftovers
        shutil.rmtree(output, ignore_errors=True)


def test_a_results_folder_that_cannot_be_written_is_told_before_anything_is_read(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmeval.run.open_job", None)
    output = tmp_path / "results"
    output.mkdir()
    with monkeypatch.context() as patch:
        Disk(output, 1, errno.EROFS, "full").install(patch)
        ran = command()
    assert ran.code == 2 and "cannot be written: Read-only file system" in ran.err


LIMITED = """
import resource, signal, sys
from lmeval.engine.table import TableEngine
import lmeval.run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lmeval.run.load_config = lmeval.run.load_encoder = lambda *found: None
lmeval.run.check_type = lambda *found: "causal"
lmeval.run.load_engine = lambda *found: TableEngine(lambda request: (-1.0, 1, False))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from lmeval.cli import main
main()
"""


def test_a_file_that_may_not_grow_is_one_message(tmp_path: Path) -> None:
    """By the system's own limit, not by a fault of ours."""
    file = write_task(tmp_path, "minimal_pairs")
    write_rows(tmp_path / "my_minimal_pairs.jsonl", [{"good": f"{i}a", "bad": f"{i}b"} for i in range(40)])
    arguments = [
        "run",
        "--model",
        "demo",
        "--tasks",
        str(file),
        "--no-cache",
        "--output",
        str(tmp_path / "r"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LIMITED, str(limit), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=120, check=False
        )

    full = run(3000)
    assert full.returncode == 2 and full.stderr.count("error:") == 1 and "Traceback" not in full.stderr
    assert "File too large" in full.stderr and not list(tmp_path.glob("r/*/*/run.json"))
    again = run(resource.RLIM_INFINITY)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("cut off") == 1  # the record that did not fit
    assert len(list(tmp_path.glob("r/*/*/run.json"))) == 1
