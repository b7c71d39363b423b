"""Which folder a run is in: the unfinished one of the same command, or a new one."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmeval import resume
from lmeval.errors import StoreError
from lmeval.resume import began, open_run

PRINT = "0123456789abcdef"


def folder_of(output: Path, model: str = "m", fingerprint: str = PRINT, *, goes_on: bool = True) -> Path:
    """The folder of a run that begins or is gone on with, and stops at once."""
    journal = open_run(output, model, fingerprint, resume=goes_on)
    journal.close()
    return journal.path.parent


def test_each_new_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path, "org/m", goes_on=False) for _ in range(12)]
    assert len(set(folders)) == 12 and sorted(folders) == folders
    assert {folder.parent for folder in folders} == {tmp_path / "org__m"}
    assert all(folder.name.endswith("-0123456789") for folder in folders)


def test_an_unfinished_run_is_gone_on_with(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    assert folder_of(tmp_path) == folder
    assert folder_of(tmp_path, fingerprint="f" * 64) != folder
    assert folder_of(tmp_path, "other").parent != folder.parent
    assert folder_of(tmp_path, goes_on=False) != folder


def test_a_folder_whose_process_was_killed_at_once_is_taken(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "journal.jsonl").unlink()
    assert folder_of(tmp_path) == folder
    (folder / "journal.jsonl").unlink()
    (folder / "notes.txt").touch()  # somebody's own
    assert folder_of(tmp_path) != folder


def test_of_several_the_newest_is_gone_on_with(tmp_path: Path) -> None:
    folder_of(tmp_path)
    newest = folder_of(tmp_path, goes_on=False)
    assert folder_of(tmp_path) == newest


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "run.json").write_text("{}")  # its journal is still there: the process was killed just then
    assert folder_of(tmp_path) != folder


def test_a_fingerprint_that_begins_alike_is_another_run(tmp_path: Path) -> None:
    folder_of(tmp_path)
    with pytest.raises(StoreError, match="of another run"):
        open_run(tmp_path, "m", PRINT[:10] + "other", resume=True)


def test_strangers_in_the_results_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "notes-0123456789").write_text("a file")
    (tmp_path / "m" / "99999999-999999.x-0123456789").mkdir()
    assert folder_of(tmp_path).is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("a file")
    with pytest.raises(StoreError, match="no run folder can be made in"):
        open_run(tmp_path, "m", PRINT, resume=True)


class Clock(datetime.datetime):
    """A clock that tests set."""

    moment = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.UTC)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.moment


def test_ids_stay_unique_and_in_order_where_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume.datetime, "datetime", Clock)
    folders = []
    for hour, second in ((12, 0), (12, 0), (11, 0), (3, 59), (12, 0), (12, 1), (12, 1)):
        monkeypatch.setattr(Clock, "moment", Clock.moment.replace(hour=hour, second=second))
        folders.append(folder_of(tmp_path, goes_on=False).name)
    assert len(set(folders)) == len(folders) and folders == sorted(folders)
    assert folders[-2].startswith("20260301-120001-")  # once the clock has caught up, it is right again


def test_when_a_run_began() -> None:
    assert began("20260301-120001.004-0123456789") == "2026-03-01T12:00:01+00:00"
    assert began("1") is None


# ---- two processes ----

HOLD = """
import pathlib, sys, time
from lmeval.resume import open_run
journal = open_run(pathlib.Path(sys.argv[1]), "m", sys.argv[2], resume=True)
print(journal.path.parent, flush=True)
sys.stdin.read()
"""


def holding(output: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output), PRINT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_that_another_process_is_doing_is_refused(tmp_path: Path) -> None:
    other = holding(tmp_path)
    assert other.stdout is not None
    folder = other.stdout.readline().strip()
    with pytest.raises(StoreError, match=f"^process {other.pid} is doing this run now") as error:
        open_run(tmp_path, "m", PRINT, resume=True)
    assert error.value.where == folder and "--no-resume" in str(error.value.fix)
    apart = open_run(tmp_path, "m", PRINT, resume=False)
    assert str(apart.path.parent) != folder
    apart.close()
    apart.path.unlink()
    apart.path.parent.rmdir()
    other.kill()  # SIGKILL: nothing is tidied up, and yet the lock is gone
    other.wait()
    other.communicate()
    assert str(folder_of(tmp_path)) == folder


def test_of_two_commands_begun_at_once_one_runs(tmp_path: Path) -> None:
    processes = [holding(tmp_path) for _ in range(3)]
    said = []
    for process in processes:
        assert process.stdout is not None
        said.append(process.stdout.readline().strip())
    (running,) = [process for process, folder in zip(processes, said, strict=True) if folder]
    for process in processes:
        _, err = process.communicate(input="")
        assert process is running or f"process {running.pid} is doing this run now" in err
    assert len(list((tmp_path / "m").iterdir())) == 1


def test_what_cannot_be_begun_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, content: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left on device"):
            open_run(tmp_path, "m", PRINT, resume=True)
    assert list((tmp_path / "m").iterdir()) == []
