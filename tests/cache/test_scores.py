"""The score cache: what it keeps, its bound, several processes at once, and everything that may go wrong with it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from lmeval.cache import file as file_module
from lmeval.cache import place, scores
from lmeval.cache.file import CacheFile
from lmeval.cache.scores import ScoreCache, open_cache
from lmeval.engine.table import TableEngine
from lmeval.errors import UsageError
from lmeval.records import GenerationOutput, ScoreOutput

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 2**30


def name(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def output(number: int) -> ScoreOutput:
    return ScoreOutput(-number / 7, number % 2 == 0, number)


def cache(limit: int = LIMIT, model: str = "table") -> ScoreCache:
    made = ScoreCache(limit)
    assert made.serve(TableEngine(name=model))
    return made


def fill(numbers: range, limit: int = LIMIT, model: str = "table") -> None:
    made = cache(limit, model)
    for number in numbers:
        made.put(name(number), output(number))
    made.close()


def found(numbers: range, limit: int = LIMIT, model: str = "table") -> dict[int, object]:
    made = cache(limit, model)
    by_key = made.get(name(number) for number in numbers)
    made.close()
    return {number: by_key[name(number)] for number in numbers if name(number) in by_key}


def expected(numbers: range) -> dict[int, object]:
    return {number: output(number) for number in numbers}


@pytest.fixture
def folder(score_cache: Path) -> Path:
    return score_cache


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "LOCK_SECONDS", 0.2)


# ---- what it keeps ----


def test_outputs_are_there_for_the_next_run(folder: Path) -> None:
    fill(range(3000))
    assert found(range(3100)) == expected(range(3000))  # more keys than one query takes
    assert found(range(5), model="another") == {}


def test_what_was_put_is_found_before_it_is_on_disk(folder: Path) -> None:
    made = cache()
    made.put(name(1), output(1))
    assert made.get([name(1), name(2)]) == {name(1): output(1)}
    made.close()


def test_it_is_for_its_user_alone(folder: Path) -> None:
    fill(range(3))
    assert folder.stat().st_mode & 0o777 == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files and all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_nothing_is_kept_of_a_model_that_runs_code_of_its_own(folder: Path) -> None:
    engine = TableEngine()
    engine.model = replace(engine.model, remote_code=("modeling.py",))
    made = ScoreCache(LIMIT)
    assert not made.serve(engine)
    made.put(name(1), output(1))
    assert made.get([name(1)]) == {}
    made.close()
    assert found(range(2)) == {}


def test_nothing_is_kept_from_when_the_weights_changed_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unchanged = True
    made = ScoreCache(LIMIT)
    made.serve(TableEngine(), lambda: unchanged)
    made.put(name(1), output(1))
    made.commit()
    made.put(name(2), output(2))
    unchanged = False
    made.commit()
    made.put(name(3), output(3))
    assert made.get([name(1)]) == {}
    made.close()
    assert found(range(5)) == expected(range(1, 2))
    assert capsys.readouterr().err == (
        "warning: the weights changed while they were scored: from here on, this run's outputs are not kept\n"
    )


# ---- its size ----


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 4 * 2**30),
        ("0", 0),
        ("1000", 1000),
        ("500MB", 500 * 10**6),
        (" 2 GiB ", 2 * 2**30),
        ("1.5kib", 1536),
        ("3t", None),
        ("many", None),
        ("-1", None),
        ("1e9", None),
        ("٣", None),
    ],
)
def test_the_environment_says_how_large_it_may_be(
    text: str, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMEVAL_CACHE_SIZE", text)
    if size is None:
        with pytest.raises(UsageError, match="is no size"):
            place.limit_bytes()
    else:
        assert place.limit_bytes() == size


def test_it_is_not_opened_where_nobody_wants_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_cache(False) as none:
        assert none is None
    monkeypatch.setenv("LMEVAL_CACHE_SIZE", "0")
    with open_cache(True) as none:
        assert none is None
    assert not folder.exists()


def test_what_was_not_used_for_longest_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "GROUP_BYTES", 20_000)
    now = 1000.0
    monkeypatch.setattr(file_module.time, "time", lambda: now)
    for begin in range(0, 4000, 1000):
        fill(range(begin, begin + 1000))
        now += 10
    assert len(found(range(1000))) == 1000  # used again, so it is the second group that is the oldest
    now += 10
    size = place.current_file().stat().st_size
    fill(range(4000, 5000), limit=size)
    kept = found(range(5000))
    assert set(range(1000)) <= set(kept) and set(range(4000, 5000)) <= set(kept)
    assert not set(range(1000, 1500)) & set(kept)  # the first half of what was used least
    assert all(kept[number] == output(number) for number in kept)
    assert place.current_file().stat().st_size <= size


def test_a_lower_bound_is_come_to_and_the_file_shrinks(folder: Path) -> None:
    fill(range(20_000))
    before = place.current_file().stat().st_size
    fill(range(0), limit=before // 4)
    assert place.current_file().stat().st_size <= before // 4
    assert len(found(range(20_000), limit=before // 4)) < 10_000


def test_a_bound_smaller_than_an_empty_file_keeps_nothing_and_ends(folder: Path) -> None:
    fill(range(100), limit=1)
    assert found(range(100), limit=1) == {}


def test_a_clock_that_goes_backwards_does_no_harm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(file_module.time, "time", lambda: now)
    fill(range(10))
    now = 5.0
    assert found(range(10)) == expected(range(10))
    with CacheFileAt(place.current_file()) as kept:
        assert kept.rows("SELECT used FROM groups") == [(1000.0,)]


# ---- several processes ----

WRITER = """
import sys
from tests.cache.test_scores import cache, name, output
begin, end = map(int, sys.argv[1:3])
made = cache()
for number in range(begin, end):
    made.put(name(number), output(number))
    if number % 50 == 0:
        made.commit()
        assert made.get([name(number)]) == {name(number): output(number)}
made.close()
"""


def writer(begin: int, end: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(begin), str(end)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def test_processes_share_it(folder: Path) -> None:
    """They begin at once with no file there, and write some entries both."""
    writers = [writer(begin, begin + 1000) for begin in (0, 500, 1000)]
    for one in writers:
        assert one.communicate(timeout=60)[1] == ""
        assert one.returncode == 0
    assert found(range(2100)) == expected(range(2000))
    with CacheFileAt(place.current_file()) as kept:
        assert kept.rows("SELECT sum(entries) FROM groups") == [(2000,)]
        assert kept.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_process_that_is_killed_leaves_it_sound(folder: Path) -> None:
    for begin in range(0, 4000, 1000):
        one = writer(begin, begin + 100_000)
        while not place.cache_files():
            time.sleep(0.01)
        time.sleep(0.6)
        one.kill()
        one.communicate()
    kept = found(range(4000))
    assert kept and all(kept[number] == output(number) for number in kept)
    with CacheFileAt(place.current_file()) as opened:
        assert opened.rows("PRAGMA integrity_check") == [("ok",)]


# ---- what may go wrong ----


class CacheFileAt:
    """The cache's file for as long as the block."""

    def __init__(self, path: Path) -> None:
        self.file = CacheFile(path)

    def __enter__(self) -> CacheFile:
        return self.file

    def __exit__(self, *error: object) -> None:
        self.file.close()


def overwrite(begin: int, size: int = 4096) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with path.open("r+b") as stream:
            stream.seek(begin)
            stream.write(b"\xa5" * size)

    return damage


DAMAGE: dict[str, Callable[[Path], None]] = {
    "no database": lambda path: overwrite(0, path.stat().st_size)(path),
    "its first page": overwrite(0),
    "the schema": overwrite(100),
    "cut in two": lambda path: os.truncate(path, path.stat().st_size // 2),
    "another's database": lambda path: other_database(path),
    "a later version's": lambda path: later_version(path),
}


def other_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE outputs (key TEXT, value TEXT)")
    connection.close()


def later_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_begun_anew(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(range(2000))
    DAMAGE[kind](place.current_file())
    kept = found(range(2000))
    assert all(kept[number] == output(number) for number in kept)
    fill(range(2000))
    assert found(range(2000)) == expected(range(2000))
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1 and "is damaged and is begun anew" in warnings[0]


def test_every_page_may_be_damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No page makes a run crash, and none makes it take a wrong output for a right one."""
    fill(range(600))
    sound = place.current_file().read_bytes()
    pages = len(sound) // 4096
    assert pages > 20
    for page in range(pages):
        for old in place.cache_files():
            place.remove(old)
        first = folder / "outputs-v1.0.sqlite"
        first.write_bytes(sound)
        overwrite(page * 4096 + 40, 1500)(first)
        made = cache()
        by_key = made.get([name(number) for number in range(600)])
        for number in range(600):
            assert by_key.get(name(number), output(number)) == output(number)
            if name(number) not in by_key:
                made.put(name(number), output(number))
        made.close()
        capsys.readouterr()
        kept = found(range(600))
        assert all(kept[number] == output(number) for number in kept)
        assert len(capsys.readouterr().err.splitlines()) <= 1


def test_damaged_entries_are_computed_again_and_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(range(10))
    with sqlite3.connect(place.current_file()) as connection:
        connection.execute("UPDATE outputs SET value = ? WHERE key = ?", (b"x", bytes.fromhex(name(3))))
        (value,) = connection.execute(
            "SELECT value FROM outputs WHERE key = ?", (bytes.fromhex(name(4)),)
        ).fetchone()
        connection.execute("UPDATE outputs SET value = ? WHERE key = ?", (value, bytes.fromhex(name(5))))
        connection.execute("UPDATE outputs SET value = 'text' WHERE key = ?", (bytes.fromhex(name(6)),))
    connection.close()
    made = cache()
    by_key = made.get(name(number) for number in range(10))
    assert set(by_key) == {name(number) for number in (0, 1, 2, 4, 7, 8, 9)}
    for number in (3, 5, 6):
        made.put(name(number), output(number))
    made.close()
    assert "3 damaged entries in" in capsys.readouterr().err
    assert found(range(10)) == expected(range(10))
    assert capsys.readouterr().err == ""


def test_a_file_that_another_process_has_locked_is_done_without(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(range(3))
    holder = sqlite3.connect(place.current_file(), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert found(range(3)) == {}
    err = capsys.readouterr().err
    assert err.count("warning:") == 1 and "the run goes on without it" in err and "locked" in err
    holder.execute("ROLLBACK")
    assert found(range(3)) == expected(range(3))
    made = cache()
    holder.execute("BEGIN IMMEDIATE")
    assert len(made.get([name(1)])) == 1  # reading is possible all the while
    for number in range(10, 20):
        made.put(name(number), output(number))
        made.commit()
    made.close()
    err = capsys.readouterr().err
    assert err.count("warning:") == 1 and "cannot be written" in err
    holder.execute("ROLLBACK")
    holder.close()


def test_a_full_disk_is_said_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(range(3))
    made = cache()
    assert made._file is not None
    made._file.rows("PRAGMA max_page_count = 12")
    for number in range(3000):
        made.put(name(number), output(number))
        if number % 1000 == 0:
            made.commit()
    assert made.get([name(1)]) == {name(1): output(1)}
    made.close()
    err = capsys.readouterr().err
    assert err.count("warning:") == 1 and "cannot be written, so this run's outputs are not kept" in err
    assert "full" in err


def test_a_file_that_may_only_be_read_still_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = (
        "import os, sys\n"
        "from tests.cache.test_scores import *\n"
        "cache().close()\n"  # what only root may import is imported
        "os.geteuid() or os.seteuid(65534)\n"
        "made = cache()\n"
        "print(len(made.get([name(n) for n in range(5)])))\n"
        "made.put(name(9), output(9)); made.close()\n"
    )
    root = Path("/tmp") / f"lmeval-read-only-{os.getpid()}"  # tmp_path is for its user alone
    monkeypatch.setenv("LMEVAL_CACHE", str(root))
    monkeypatch.delenv("LMEVAL_CACHE_SIZE")
    try:
        fill(range(5))
        place.current_file().chmod(0o444)
        root.chmod(0o555)
        ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
        assert ran.stdout == "5\n", ran.stderr
        assert ran.stderr.count("warning:") == 1 and "cannot be written" in ran.stderr
    finally:
        root.chmod(0o755)
        for path in root.rglob("*"):
            path.unlink()
        root.rmdir()


def test_a_folder_that_cannot_be_made_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LMEVAL_CACHE", str(tmp_path / "file" / "below"))
    fill(range(3))
    assert found(range(3)) == {}
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2 and all("the run goes on without it" in line for line in err)  # one a run


def test_what_others_put_into_the_folder_is_let_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "outputs-v1.x.sqlite").write_text("notes")
    (folder / "outputs-v1.7.sqlite.bak").write_text("notes")
    fill(range(3))
    assert found(range(3)) == expected(range(3))
    assert place.current_file().name == "outputs-v1.0.sqlite"


def test_it_is_put_on_disk_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(scores.time, "monotonic", lambda: now)
    made = cache()
    made.put(name(1), GenerationOutput("a", "eos", 1))
    assert found(range(3)) == {}
    now += scores.COMMIT_SECONDS + 1
    made.put(name(2), output(2))
    assert set(found(range(3))) == {1, 2}
    made.close()
