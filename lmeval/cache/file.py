"""The cache's SQLite file: entries in groups, the least recently used group goes first.

Entries of one model lie together, so that a run's look-ups and writes touch few pages. A group is about a megabyte
of entries written together; when it was last used is kept for the group, so that a run which finds everything writes
a few rows, not one for each entry. A rollback journal, not WAL: the user's cache folder may lie on a network file
system, where WAL does not work. Methods raise sqlite3.Error; `scores` decides what follows.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SCHEMA_VERSION = 1
APPLICATION_ID = 0x6C6D6576  # "lmev"
LOCK_SECONDS = 10.0
GROUP_BYTES = 2**20
KEYS_AT_ONCE = 900  # SQLite's limit of parameters was 999 for long
ENTRY_BYTES = 100  # that an entry takes beside its value, about: its key twice, and numbers
RUNS_KEPT = 20
ENGINES_KEPT = 1000
GROUPS_AT_ONCE = 32  # that one transaction lets go: others wait meanwhile

_TABLES = """
CREATE TABLE IF NOT EXISTS models (
    id INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT UNIQUE NOT NULL, name TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL, created REAL NOT NULL, used REAL NOT NULL,
    entries INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS outputs (
    model INTEGER NOT NULL, key BLOB NOT NULL, grp INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (model, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outputs_grp ON outputs (grp);
CREATE TABLE IF NOT EXISTS engines (key BLOB PRIMARY KEY, value BLOB NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ended REAL NOT NULL, model TEXT NOT NULL,
    asked INTEGER NOT NULL, found INTEGER NOT NULL, kept INTEGER NOT NULL);
"""


class NotOurs(sqlite3.DatabaseError):
    """A database that something else made."""


class CacheFile:
    """A connection to the cache's file, which is made if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():  # what SQLite makes others could read
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._sql = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            self._begin()
        except BaseException:
            self._sql.close()
            raise

    def _begin(self) -> None:
        self._sql.execute("PRAGMA cache_size=-16000")
        self._sql.execute("PRAGMA synchronous=NORMAL")
        self._sql.execute("PRAGMA journal_mode=TRUNCATE").fetchone()
        if self._number("PRAGMA user_version") == 0:
            self._make()
        version = self._number("PRAGMA user_version")
        if version != SCHEMA_VERSION or self._number("PRAGMA application_id") != APPLICATION_ID:
            raise NotOurs(f"it is of version {version}, not {SCHEMA_VERSION}, or something else made it")

    def _make(self) -> None:
        self._sql.execute("PRAGMA auto_vacuum=INCREMENTAL")
        with self.writing():
            if self._number("SELECT count(*) FROM sqlite_schema"):
                return  # another process was first
            for statement in _TABLES.split(";\n"):
                self._sql.execute(statement)
            self._sql.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._sql.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def close(self) -> None:
        """Let the file go."""
        self._sql.close()

    def _number(self, query: str, arguments: Sequence[object] = ()) -> int:
        row = self._sql.execute(query, arguments).fetchone()
        return 0 if row is None or row[0] is None else int(row[0])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, which all other processes' wait for."""
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._sql.execute("COMMIT")
        except BaseException:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise

    # ---- entries ----

    def find(self, identity: str, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int, object]]:
        """Key, group and value of the entries of a model that are there."""
        model = self._number("SELECT id FROM models WHERE identity = ?", (identity,))
        for begin in range(0, len(keys) if model else 0, KEYS_AT_ONCE):
            part = keys[begin : begin + KEYS_AT_ONCE]
            places = ",".join("?" * len(part))
            query = f"SELECT key, grp, value FROM outputs WHERE model = ? AND key IN ({places})"
            yield from self._sql.execute(query, (model, *part)).fetchall()

    def add(
        self,
        model: tuple[str, str, str],
        group: int | None,
        entries: Sequence[tuple[bytes, bytes]],
        damaged: Collection[bytes] = (),
    ) -> tuple[int, int]:
        """Add entries of a model, within `writing`.

        Args:
            model: Its identity, its name, and what is to be told of it.
            group: That the last ones were added to; None: a new one.
            damaged: Keys of entries that go first.

        Returns:
            The group, and how many were added: the others were there.
        """
        identity, name, facts = model
        now = time.time()
        self._sql.execute(
            "INSERT INTO models (identity, name, facts) VALUES (?, ?, ?)"
            " ON CONFLICT (identity) DO UPDATE SET name = excluded.name, facts = excluded.facts",
            (identity, name, facts),
        )
        owner = self._number("SELECT id FROM models WHERE identity = ?", (identity,))
        room = "SELECT count(*) FROM groups WHERE id = ? AND model = ? AND bytes < ?"
        if group is None or not self._number(room, (group, owner, GROUP_BYTES)):
            query = "INSERT INTO groups (model, created, used) VALUES (?, ?, ?)"
            group = self._sql.execute(query, (owner, now, now)).lastrowid
            assert group is not None
        self._sql.executemany(
            "DELETE FROM outputs WHERE model = ? AND key = ?", [(owner, key) for key in damaged]
        )
        before = self._sql.total_changes
        self._sql.executemany(
            "INSERT OR IGNORE INTO outputs VALUES (?, ?, ?, ?)",
            [(owner, key, group, value) for key, value in entries],
        )
        added = self._sql.total_changes - before
        size = sum(len(value) + ENTRY_BYTES for _, value in entries) * added // max(1, len(entries))
        self._sql.execute(
            "UPDATE groups SET entries = entries + ?, bytes = bytes + ?, used = max(used, ?) WHERE id = ?",
            (added, size, now, group),
        )
        return group, added

    def touch(self, groups: Iterable[int]) -> None:
        """Some groups were used now."""
        now = time.time()
        self._sql.executemany(
            "UPDATE groups SET used = max(used, ?) WHERE id = ?", [(now, group) for group in groups]
        )

    # ---- what models turned out to be when they were loaded ----

    def engine(self, key: bytes) -> object:
        """What was kept of an engine; None: nothing."""
        row = self._sql.execute("SELECT value FROM engines WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def keep_engine(self, key: bytes, value: bytes) -> None:
        """Keep what is to be known of an engine before it is loaded."""
        self._sql.execute("INSERT OR REPLACE INTO engines VALUES (?, ?, ?)", (key, value, time.time()))
        oldest = "SELECT key FROM engines ORDER BY used DESC LIMIT -1 OFFSET ?"
        self._sql.execute(f"DELETE FROM engines WHERE key IN ({oldest})", (ENGINES_KEPT,))

    def keep_run(self, model: str, asked: int, found: int, kept: int) -> None:
        """Remember what a run found; of the last few runs."""
        query = "INSERT INTO runs (ended, model, asked, found, kept) VALUES (?, ?, ?, ?, ?)"
        self._sql.execute(query, (time.time(), model, asked, found, kept))
        self._sql.execute("DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - ?", (RUNS_KEPT,))

    # ---- size ----

    def used_bytes(self) -> int:
        """Of the file, without pages that are free."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._number("PRAGMA page_size")

    def shrink(self, limit: int) -> bool:
        """Let go of the groups that were not used for longest until the rest fits, some of them in one call.

        Returns:
            True where more has to go.
        """
        if self.used_bytes() > limit:
            with self.writing():
                for _ in range(GROUPS_AT_ONCE):
                    oldest = self._number("SELECT id FROM groups ORDER BY used, id LIMIT 1")
                    if not oldest or self.used_bytes() <= limit:
                        break
                    self.drop_group(oldest)
                self.drop_unused()
        if self._number("PRAGMA page_count") * self._number("PRAGMA page_size") > limit:
            self.give_back()
        return self.used_bytes() > limit and bool(self._number("SELECT count(*) FROM groups"))

    def give_back(self) -> None:
        """Give free pages back to the file system."""
        # a script, because the pragma has rows without columns, which `execute` stops at
        self._sql.executescript("PRAGMA incremental_vacuum")

    def drop_group(self, group: int) -> None:
        """Remove a group and its entries, within `writing`."""
        self._sql.execute("DELETE FROM outputs WHERE grp = ?", (group,))
        self._sql.execute("DELETE FROM groups WHERE id = ?", (group,))

    def drop_unused(self) -> None:
        """Remove models that have no entries, within `writing`."""
        self._sql.execute("DELETE FROM models WHERE id NOT IN (SELECT model FROM groups)")

    def rows(self, query: str, arguments: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """The rows of a query."""
        return self._sql.execute(query, arguments).fetchall()
