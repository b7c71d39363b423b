"""Hashes of files' contents; those of weights are remembered for as long as the files are the same ones.

A file is the same while its path, inode, size, and the times of its content and of its inode are. The last is set by
the system alone, so that a file overwritten in place is found even where its size and time were restored. What was
changed within the last seconds is not remembered: a clock's tick may hide a second change.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

SETTLED_SECONDS = 2.0  # the coarsest clock of a file system (FAT) ticks so
Stamp = tuple[str, int, int, int, int]


def cache_dir() -> Path:
    """Where outputs, converted models and hashes are kept: LMEVAL_CACHE, or lmeval/ in the user's cache folder."""
    if found := os.environ.get("LMEVAL_CACHE"):
        return Path(found).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmeval"


def file_sha256(files: Iterable[Path]) -> str:
    """Hex SHA-256 over the files' contents, in the order given."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(2**22):
                digest.update(block)
    return digest.hexdigest()


def file_stamps(files: Iterable[Path]) -> list[Stamp | None]:
    """What tells whether files are still the same; None for one that is gone."""
    return [_stamp(file) for file in files]


def _stamp(file: Path) -> Stamp | None:
    try:
        stat = file.stat()
        return (str(file.resolve()), stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
    except OSError:
        return None


def weights_sha256(files: Sequence[Path]) -> str:
    """As `file_sha256`; the contents are read only where a file is not the one that was read before."""
    stamps, begun = file_stamps(files), time.time()
    identity = hashlib.sha256(repr(stamps).encode("utf-8", "surrogateescape")).hexdigest()
    known = cache_dir() / "weights" / identity
    if (remembered := _read(known, identity)) is not None:
        return remembered
    found = file_sha256(files)
    settled = all(stamp is not None and stamp[-1] / 1e9 < begun - SETTLED_SECONDS for stamp in stamps)
    if settled and file_stamps(files) == stamps:
        with suppress(OSError):  # without a cache folder the hash is computed again next time
            keep_text(known, f"{found} {_check(identity, found)}\n")
    return found


def _read(known: Path, identity: str) -> str | None:
    """The hash remembered; None where none is, or the file is damaged."""
    try:
        found, _, check = known.read_text("ascii").strip().partition(" ")
    except (OSError, ValueError):
        return None
    return found if re.fullmatch("[0-9a-f]{64}", found) and check == _check(identity, found) else None


def _check(identity: str, found: str) -> str:
    return hashlib.sha256(f"{identity} {found}".encode()).hexdigest()[:16]


def keep_text(path: Path, text: str) -> None:
    """Write an ASCII file of the cache aside and rename it, so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    number, aside = tempfile.mkstemp(dir=path.parent)
    try:
        with open(number, "w", encoding="ascii") as stream:
            stream.write(text)
        os.replace(aside, path)
    finally:
        with suppress(OSError):
            os.unlink(aside)
