"""Hashes of weights: remembered for as long as the files are the same, and never a moment longer."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from lmeval.engine import hashes
from lmeval.engine.hashes import file_stamps, weights_sha256


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The files that were read in full, call by call."""
    read: list[list[str]] = []
    real = hashes.file_sha256

    def record(files: Iterable[Path]) -> str:
        files = list(files)
        read.append([file.name for file in files])
        return real(files)

    monkeypatch.setattr(hashes, "file_sha256", record)
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", 0.0)
    return read


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    time.sleep(0.02)  # a tick of the clock that files' times are taken from
    return path


def sha(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()


def test_contents_are_read_once(tmp_path: Path, reads: list[list[str]]) -> None:
    files = [written(tmp_path / "a", b"one"), written(tmp_path / "b", b"two")]
    assert [weights_sha256(files) for _ in range(3)] == [sha(b"one", b"two")] * 3
    assert reads == [["a", "b"]]


def test_a_file_overwritten_in_place_is_read_again(tmp_path: Path, reads: list[list[str]]) -> None:
    """Even where it is as long as before and its time was set back: the inode's own time cannot be."""
    file = written(tmp_path / "a", b"one")
    before = file.stat()
    assert weights_sha256([file]) == sha(b"one")
    with file.open("r+b") as stream:
        stream.write(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_ino, after.st_mtime_ns) == (
        before.st_size,
        before.st_ino,
        before.st_mtime_ns,
    )
    assert weights_sha256([file]) == sha(b"two")
    assert len(reads) == 2


def test_a_replaced_file_and_one_in_another_place_are_read(tmp_path: Path, reads: list[list[str]]) -> None:
    file = written(tmp_path / "a", b"one")
    weights_sha256([file])
    written(tmp_path / "new", b"two").replace(file)
    assert weights_sha256([file]) == sha(b"two")
    file.rename(tmp_path / "moved")
    assert weights_sha256([tmp_path / "moved"]) == sha(b"two")
    assert len(reads) == 3


def test_what_changed_a_moment_ago_is_not_remembered(
    tmp_path: Path, reads: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second change within one tick of the clock would show in nothing."""
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", 2.0)
    file = written(tmp_path / "a", b"one")
    assert weights_sha256([file]) == weights_sha256([file]) == sha(b"one")
    assert len(reads) == 2
    now = time.time() + 3
    monkeypatch.setattr(hashes.time, "time", lambda: now)
    assert weights_sha256([file]) == weights_sha256([file]) == sha(b"one")
    assert len(reads) == 3
    monkeypatch.setattr(hashes.time, "time", lambda: 5.0)  # a clock that went backwards
    written(tmp_path / "a", b"two")
    assert weights_sha256([file]) == weights_sha256([file]) == sha(b"two")
    assert len(reads) == 5


def test_what_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", 0.0)
    file = written(tmp_path / "a", b"one")
    real = hashes.file_sha256

    def overwriting(files: Iterable[Path]) -> str:
        found = real(files)
        written(file, b"two")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(hashes, "file_sha256", overwriting)
        assert weights_sha256([file]) == sha(b"one")
    assert weights_sha256([file]) == sha(b"two")


@pytest.mark.parametrize("damage", ["", "0" * 64, "0" * 64 + " " + "0" * 16, "text", "\xff", "cut"])
def test_a_damaged_memory_is_not_believed(
    damage: str, tmp_path: Path, reads: list[list[str]], own_cache_folder: Path
) -> None:
    file = written(tmp_path / "a", b"one")
    weights_sha256([file])
    (known,) = (own_cache_folder / "weights").iterdir()
    assert known.stat().st_mode & 0o077 == 0
    whole = known.read_text()
    known.write_bytes(damage.encode("latin-1") if damage != "cut" else whole[:50].encode())
    assert weights_sha256([file]) == sha(b"one")
    assert len(reads) == 2 and known.read_text() == whole


def test_without_a_cache_folder_it_is_read_each_time(
    tmp_path: Path, reads: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LMEVAL_CACHE", str(tmp_path / "file" / "below"))
    file = written(tmp_path / "a", b"one")
    assert weights_sha256([file]) == weights_sha256([file]) == sha(b"one")
    assert len(reads) == 2


def test_several_may_remember_at_once(tmp_path: Path, reads: list[list[str]], own_cache_folder: Path) -> None:
    file = written(tmp_path / "a", b"one")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(weights_sha256([file]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sha(b"one")] * 8
    assert len(list((own_cache_folder / "weights").iterdir())) == 1  # and nothing half-written beside it


def test_a_file_that_is_gone_has_no_stamp(tmp_path: Path) -> None:
    assert file_stamps([tmp_path / "none"]) == [None]
