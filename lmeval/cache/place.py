"""Where the cache is and how large it may grow, as the environment says."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lmeval.engine.hashes import cache_dir
from lmeval.errors import UsageError

SIZE_VARIABLE = "LMEVAL_CACHE_SIZE"
DEFAULT_BYTES = 4 * 2**30
UNITS = {"": 1, "b": 1, **{f"{unit}b": 1000**n for n, unit in enumerate("kmgt", 1)}}
UNITS |= {f"{unit}ib": 1024**n for n, unit in enumerate("kmgt", 1)}
# A damaged file is followed by one of the next number, never by one of its own name: a process that still has the old
# one open would write its journal over the new one's
FILES = "outputs-v1.*.sqlite"


def limit_bytes() -> int:
    """How large the cache may grow: LMEVAL_CACHE_SIZE, such as 500MB or 4GiB; 0: nothing is kept.

    Raises:
        UsageError: It is no size.
    """
    text = os.environ.get(SIZE_VARIABLE, "").strip()
    if not text:
        return DEFAULT_BYTES
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]{0,3})", text.lower(), re.ASCII)
    if found is None or found[2] not in UNITS:
        raise UsageError(
            f'{SIZE_VARIABLE} "{text[:40]}" is no size',
            fix="give a number of bytes, or 500MB, 4GiB; 0 keeps nothing",
        )
    return int(float(found[1]) * UNITS[found[2]])


def number_of(file: Path) -> int:
    """Which of the cache's files it is, the newest has the highest number; -1: none of them."""
    found = re.fullmatch(re.escape(FILES).replace(r"\*", r"(\d{1,9})"), file.name, re.ASCII)
    return -1 if found is None else int(found[1])


def cache_files() -> list[Path]:
    """The cache's files that are there, the one in use last."""
    try:
        found = [file for file in cache_dir().glob(FILES) if number_of(file) >= 0]
    except OSError:
        return []
    return sorted(found, key=number_of)


def current_file() -> Path:
    """The file in use, or the first one there would be."""
    files = cache_files()
    return files[-1] if files else _numbered(0)


def next_file(damaged: Path) -> Path:
    """The file that takes a damaged one's place."""
    current = current_file()
    return current if number_of(current) > number_of(damaged) else _numbered(number_of(damaged) + 1)


def _numbered(number: int) -> Path:
    return cache_dir() / FILES.replace("*", str(number))


def remove(file: Path) -> None:
    """Remove one of the cache's files, and the journal of a process that was killed while it wrote."""
    for name in (file, file.with_name(file.name + "-journal")):
        name.unlink(missing_ok=True)
