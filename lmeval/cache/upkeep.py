"""What the user's cache folder holds, and letting go of it: outputs, converted GGUF files, hashes, scores of boards.

The file of outputs is emptied, not removed: another process may have it open, and would write its journal beside a new
file of the same name.
"""

from __future__ import annotations

import fnmatch
import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmeval.cache import place
from lmeval.cache.file import CacheFile, NotOurs
from lmeval.engine.hashes import cache_dir
from lmeval.engine.import_structure import IMPORTS
from lmeval.engine.sources import CONVERTED_FROM
from lmeval.errors import StoreError

LEADERBOARD = "leaderboard.sqlite*"  # what `lmeval leaderboard` keeps, see leaderboard/scores.py
LEAST_HASH_DIGITS = 6  # of a weights' hash that names a model


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A model whose outputs are kept."""

    number: int
    name: str
    type: str
    dtype: str
    weights_sha256: str
    window: str
    device: str
    entries: int
    bytes: int
    created: float  # seconds since 1970
    used: float


@dataclass(frozen=True, slots=True)
class Conversion:
    """A GGUF file as it was converted."""

    folder: Path
    name: str
    bytes: int
    used: float


@dataclass(frozen=True, slots=True)
class PastRun:
    """What a run found in the cache."""

    ended: float
    model: str
    asked: int
    found: int
    kept: int


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What the cache holds."""

    folder: Path
    file: Path
    bytes: int  # of the outputs' files
    limit: int
    models: tuple[KeptModel, ...]  # the last used first
    runs: tuple[PastRun, ...]  # the last first
    conversions: tuple[Conversion, ...]
    num_hashes: int  # of weights
    leaderboard_bytes: int
    problem: str | None = None  # why the outputs cannot be read

    @property
    def entries(self) -> int:
        """Outputs kept."""
        return sum(model.entries for model in self.models)


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was removed."""

    entries: int
    models: tuple[str, ...]
    conversions: tuple[str, ...]
    num_hashes: int
    bytes: int


def read_info() -> CacheInfo:
    """What is there now.

    Raises:
        UsageError: LMEVAL_CACHE_SIZE is no size.
    """
    models: list[KeptModel] = []
    runs: list[PastRun] = []
    problem = None
    current = place.current_file()
    if current.exists():
        try:
            with closing(CacheFile(current)) as file:
                models, runs = _models(file), _runs(file)
        except (sqlite3.Error, OSError, ValueError) as error:
            problem = f"{error}"
    return CacheInfo(
        cache_dir(),
        current,
        sum(map(_size, place.cache_files())),
        place.limit_bytes(),
        tuple(models),
        tuple(runs),
        tuple(_conversions()),
        len(_hashes()),
        sum(map(_size, _leaderboards())),
        problem,
    )


def _models(file: CacheFile) -> list[KeptModel]:
    query = """
        SELECT models.id, name, facts, sum(entries), sum(bytes), min(created), max(used) AS last
        FROM models JOIN groups ON groups.model = models.id GROUP BY models.id ORDER BY last DESC"""
    found = []
    for number, name, facts, *counts in file.rows(query):
        known: dict[str, Any] = json.loads(str(facts))
        words = [str(known.get(key, "?")) for key in ("type", "dtype", "weights", "window", "device")]
        found.append(KeptModel(_whole(number), str(name), *words, *counts))  # type: ignore[arg-type]
    return found


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value


def _runs(file: CacheFile) -> list[PastRun]:
    rows = file.rows("SELECT ended, model, asked, found, kept FROM runs ORDER BY id DESC")
    return [PastRun(*row) for row in rows]  # type: ignore[arg-type]


def _conversions() -> Iterator[Conversion]:
    for folder in sorted(_inside("gguf", "*")):
        if folder.is_dir():
            name = folder.name
            with suppress(OSError, UnicodeDecodeError):
                name = (folder / CONVERTED_FROM).read_text("utf-8").strip() or name
            yield Conversion(folder, name, sum(map(_size, folder.rglob("*"))), _changed(folder))


def _hashes() -> list[Path]:
    return _inside("weights", "*")


def _import_structures() -> list[Path]:
    return _inside(IMPORTS, "*")


def _leaderboards() -> list[Path]:
    return _inside("", LEADERBOARD)


def _inside(folder: str, pattern: str) -> list[Path]:
    try:
        return list((cache_dir() / folder).glob(pattern))
    except OSError:
        return []


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size if file.is_file() else 0
    except OSError:
        return 0


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


# ---- removing ----


def clear(model: str | None = None, older_than: float | None = None) -> Cleared:
    """Remove what is kept: all, or of one model, or what was not used for some seconds.

    Args:
        model: Its name, its last part, a pattern, or the first digits of its weights' hash.
        older_than: Seconds; None: however new.

    Raises:
        StoreError: It cannot be removed.
    """
    before = read_info()
    until = None if older_than is None else time.time() - older_than
    try:
        entries, models = _clear_outputs(before, model, until)
        conversions = [
            found
            for found in before.conversions
            if _is_meant(found.name, "", model) and (until is None or found.used < until)
        ]
        for found in conversions:
            shutil.rmtree(found.folder)
        small = [] if model is not None else [*_hashes(), *_import_structures(), *_leaderboards()]
        gone = [file for file in small if until is None or _changed(file) < until]
        for file in gone:
            file.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"the cache in {cache_dir()} could not be cleared: {error}",
            fix="wait for runs that use it, check the folder's permissions, and try again",
        ) from error
    after = read_info()
    sizes = [
        info.bytes + info.leaderboard_bytes + sum(found.bytes for found in info.conversions)
        for info in (before, after)
    ]
    return Cleared(
        entries,
        tuple(models),
        tuple(found.name for found in conversions),
        before.num_hashes - after.num_hashes,
        max(0, sizes[0] - sizes[1]),
    )


def _is_meant(name: str, weights_sha256: str, asked: str | None) -> bool:
    if asked is None:
        return True
    if len(asked) >= LEAST_HASH_DIGITS and weights_sha256.startswith(asked):
        return True
    return any(fnmatch.fnmatchcase(one, asked) or one == asked for one in (name, Path(name).name))


def _clear_outputs(info: CacheInfo, model: str | None, until: float | None) -> tuple[int, list[str]]:
    """Remove outputs; how many, and of which models."""
    for old in place.cache_files()[:-1]:  # what a damaged file's successor left
        place.remove(old)
    if not info.file.exists():
        return 0, []
    try:
        opened = CacheFile(info.file)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_NOTADB" and not isinstance(error, NotOurs):
            raise
        return _begin_anew(info.file)
    with closing(opened) as file:
        if info.problem is not None:
            return _begin_anew(info.file)
        chosen = [kept for kept in info.models if _is_meant(kept.name, kept.weights_sha256, model)]
        removed, names = 0, []
        with file.writing():
            for kept in chosen:
                groups = file.rows(
                    "SELECT id, entries FROM groups WHERE model = ? AND (? IS NULL OR used < ?)",
                    (kept.number, until, until),
                )
                for group, entries in groups:
                    file.drop_group(_whole(group))
                    removed += _whole(entries)
                names += [kept.name] if groups else []
            file.drop_unused()
            if model is None and until is None:
                for table in ("outputs", "groups", "models", "engines", "runs"):
                    file.rows(f"DELETE FROM {table}")
        file.give_back()
    return removed, list(dict.fromkeys(names))


def _begin_anew(damaged: Path) -> tuple[int, list[str]]:
    CacheFile(place.next_file(damaged)).close()
    place.remove(damaged)
    return 0, []
