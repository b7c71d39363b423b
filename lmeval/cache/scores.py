"""The score cache: outputs across runs, under keys of everything that decides them (see `keys`).

A cache may never cost a run. Whatever goes wrong with it (a damaged file, a lock that nobody lets go, a full disk, a
folder that cannot be written) is said once on standard error, and the run goes on without; a damaged file is
begun anew.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from lmeval.cache import place
from lmeval.cache.entries import from_entry, pack, to_entry, unpack
from lmeval.cache.file import CacheFile, NotOurs
from lmeval.engine.base import Engine
from lmeval.keys import engine_identity
from lmeval.records import canonical_sha256
from lmeval.store import Output

COMMIT_SECONDS = 5.0
COMMIT_BYTES = 2**23  # of entries that wait in memory
SHRINK_SECONDS = 10.0  # at the end of a run: a bound that was lowered much is come to over several runs
DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")


@contextmanager
def open_cache(wanted: bool) -> Iterator[ScoreCache | None]:
    """The user's cache, which is closed in the end; None where it is not wanted, or may hold nothing.

    Raises:
        UsageError: LMEVAL_CACHE_SIZE is no size.
    """
    limit = place.limit_bytes()
    if not (wanted and limit):
        yield None
        return
    with closing(ScoreCache(limit)) as cache:
        yield cache


class ScoreCache:
    """An `Outputs` store across runs. It belongs to one model at a time, see `serve`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._file: CacheFile | None = None
        self._may_write = True
        self._has_warned = self._was_renewed = False
        self._model: tuple[str, str, str] | None = None
        self._is_unchanged: Callable[[], bool] = lambda: True
        self._group: int | None = None
        self._pending: dict[bytes, bytes] = {}
        self._pending_bytes = 0
        self._touched: set[int] = set()
        self._damaged: set[bytes] = set()
        self._asked = self._found = self._kept = 0
        self._committed = time.monotonic()
        self._open(place.current_file())

    def serve(self, engine: Engine, is_unchanged: Callable[[], bool] = lambda: True) -> bool:
        """Look up and keep this engine's outputs from here on.

        Args:
            engine: Whose outputs they are.
            is_unchanged: Tells whether its weights' files are still those it was loaded from: a CPU may read them
                while it computes, and what came of other bytes must not stand under the first ones' key.

        Returns:
            False where nothing of it may be kept: the model runs code of its own, which no key can cover.
        """
        self._end_run()
        self._group, self._is_unchanged, self._model = None, is_unchanged, None
        model = engine.model
        if model.remote_code:
            return False
        facts = {"type": model.type, "dtype": model.dtype, "weights": model.weights_sha256}
        facts |= {"window": str(engine.max_length), "device": engine.device.partition(":")[0]}
        self._model = (canonical_sha256(engine_identity(engine)), model.id, json.dumps(facts))
        return True

    # ---- outputs ----

    def get(self, keys: Iterable[str]) -> dict[str, Output]:
        """The outputs that are there, by key."""
        asked = {bytes.fromhex(key): key for key in keys}
        if self._model is None or not asked:
            return {}
        waiting = {key: from_entry(key, self._pending[key]) for key in asked.keys() & self._pending.keys()}
        found = {asked[key]: output for key, output in waiting.items() if output is not None}
        self._guard(lambda file: self._look_up(file, asked, found))
        self._asked += len(asked)
        self._found += len(found)
        return found

    def _look_up(self, file: CacheFile, asked: dict[bytes, str], found: dict[str, Output]) -> None:
        assert self._model is not None
        wanted = sorted(key for key, name in asked.items() if name not in found)
        for key, group, value in file.find(self._model[0], wanted):
            output = from_entry(key, value)
            if output is None:
                self._damaged.add(key)
            else:
                found[asked[key]] = output
                self._touched.add(group)
        if self._damaged:
            self._warn(f"{len(self._damaged)} damaged entries in {file.path} are computed again")

    def put(self, key: str, output: Output) -> None:
        """Keep an output; on disk within some seconds, or at the next `commit`."""
        if self._model is None or self._file is None or not self._may_write:
            return
        raw = bytes.fromhex(key)
        self._pending[raw] = to_entry(raw, output)
        self._pending_bytes += len(self._pending[raw])
        if self._pending_bytes > COMMIT_BYTES or time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Put on disk what waits, and let go of what was not used for longest where that is too much."""
        if not self._is_unchanged():
            self._forget()
            self._warn(
                "the weights changed while they were scored: from here on, this run's outputs are not kept"
            )
            self._model = None
        if self._pending or self._touched or self._damaged:
            if not self._guard(self._write, writes=True):
                self._guard(self._write, writes=True)  # into a new file, if the old one was damaged
            self._forget()

    def _write(self, file: CacheFile) -> None:
        with file.writing():
            if self._model is not None and (self._pending or self._damaged):
                entries = list(self._pending.items())
                self._group, added = file.add(self._model, self._group, entries, self._damaged)
                self._kept += added
            file.touch(self._touched)
        if self._pending:
            file.shrink(self.limit)

    def _forget(self) -> None:
        """Nothing waits."""
        self._pending.clear()
        self._touched.clear()
        self._damaged.clear()
        self._pending_bytes, self._committed = 0, time.monotonic()

    def close(self) -> None:
        """Put everything on disk, come to the bound, and let the file go."""
        self._end_run()
        if self._file is not None and self._may_write:
            self._guard(self._shrink, writes=True)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _end_run(self) -> None:
        self.commit()
        if self._model is not None and self._asked:
            name, counts = self._model[1], (self._asked, self._found, self._kept)
            self._guard(lambda file: file.keep_run(name, *counts), writes=True)
        self._asked = self._found = self._kept = 0

    def _shrink(self, file: CacheFile) -> None:
        begin = time.monotonic()
        while file.shrink(self.limit) and time.monotonic() - begin < SHRINK_SECONDS:
            pass

    # ---- what engines turned out to be ----

    def engine(self, key: str) -> dict[str, Any] | None:
        """What `keep_engine` kept under this key."""
        raw, rows = bytes.fromhex(key), []
        self._guard(lambda file: rows.append(file.engine(raw)))
        content = unpack(raw, rows[0]) if rows else None
        found: Any = None if content is None else json.loads(content)
        return found if isinstance(found, dict) else None

    def keep_engine(self, key: str, facts: dict[str, Any]) -> None:
        """Keep what an engine turned out to be when its weights were loaded."""
        raw = bytes.fromhex(key)
        value = pack(raw, json.dumps(facts).encode())
        self._guard(lambda file: file.keep_engine(raw, value), writes=True)

    # ---- what may go wrong ----

    def _open(self, path: Path) -> None:
        try:
            self._file = CacheFile(path)
        except (sqlite3.Error, OSError) as error:
            self._failed(error, path, writes=False)

    def _guard(self, action: Callable[[CacheFile], object], *, writes: bool = False) -> bool:
        """Do something with the file, if it can be used; whether that was done, or need not be tried again."""
        if self._file is None or (writes and not self._may_write):
            return True
        try:
            action(self._file)
        except (sqlite3.Error, OSError) as error:
            self._failed(error, self._file.path, writes=writes)
            return False
        return True

    def _failed(self, error: Exception, path: Path, *, writes: bool) -> None:
        """Begin a damaged file anew, once; else do without writing, or without the cache."""
        name = str(getattr(error, "sqlite_errorname", ""))
        if (name.startswith(DAMAGE) or isinstance(error, NotOurs)) and not self._was_renewed:
            self._was_renewed = True
            self._renew(path, error)
            return
        why = f"{error}" if not name.startswith(BUSY) else f"another process has locked it ({error})"
        if writes:
            self._may_write = False
            self._warn(f"the cache {path} cannot be written, so this run's outputs are not kept: {why}")
            return
        self._warn(f"the cache {path} cannot be used, and the run goes on without it: {why}")
        self._let_go()

    def _renew(self, path: Path, error: Exception) -> None:
        self._let_go()
        self._warn(f"the cache {path} is damaged and is begun anew: {error}")
        self._open(place.next_file(path))
        if self._file is not None and not isinstance(error, NotOurs):
            with suppress(OSError):
                place.remove(path)

    def _let_go(self) -> None:
        if self._file is not None:
            with suppress(sqlite3.Error):
                self._file.close()
        self._file, self._group = None, None
        self._touched.clear()
        self._damaged.clear()

    def _warn(self, text: str) -> None:
        """Say on standard error what is wrong; the first time."""
        if not self._has_warned:
            self._has_warned = True
            print(f"warning: {text}", file=sys.stderr)
