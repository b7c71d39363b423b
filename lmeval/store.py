"""Run folders: `<output>/<model slug>/<run id>/` with run.json and samples/<task>.jsonl.

A run that is under way keeps its outputs in journal.sqlite in its folder, under keys of everything that
decides them; the same command finds the folder again and goes on. run.json is written last and whole: a
folder that has one is a finished run.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from lmeval.errors import StoreError
from lmeval.records import GenerationOutput, HeadOutput, RunRecord, Sample, ScoreOutput, TokenScore

JOURNAL = "journal.sqlite"
COMMIT_SECONDS = 1.0
Output = ScoreOutput | GenerationOutput | HeadOutput


class Outputs(Protocol):
    """Where outputs are kept under their keys: a run's journal, or the cache across runs."""

    def get(self, keys: Iterable[str]) -> dict[str, Output]:
        """The outputs that are there, by key."""
        ...

    def put(self, key: str, output: Output) -> None:
        """Keep an output."""
        ...

    def commit(self) -> None:
        """Put everything on disk."""
        ...

    def close(self) -> None:
        """Commit and close."""
        ...


class OutputStore:
    """Model outputs under their keys, in an SQLite file: a run's journal."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS outputs (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
            )
            self._connection.commit()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{path} cannot be used: {error}", fix="check the folder, or remove the file and run again"
            ) from error
        self._path = path
        self._pending: dict[str, Output] = {}
        self._committed = time.monotonic()

    def get(self, keys: Iterable[str]) -> dict[str, Output]:
        """The outputs that are there, by key."""
        self.commit()
        found: dict[str, Output] = {}
        for key in keys:
            row = self._connection.execute("SELECT value FROM outputs WHERE key = ?", (key,)).fetchone()
            if row is not None:
                found[key] = _output(json.loads(row[0]))
        return found

    def put(self, key: str, output: Output) -> None:
        """Keep an output; on disk within about a second of the next."""
        self._pending[key] = output
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Put everything on disk.

        Raises:
            StoreError: It cannot be written.
        """
        # written in one go: a transaction left open would lock other processes out of a shared cache
        rows = [(key, json.dumps(asdict(output))) for key, output in self._pending.items()]
        try:
            self._connection.executemany("INSERT OR REPLACE INTO outputs VALUES (?, ?)", rows)
            self._connection.commit()
        except sqlite3.Error as error:
            raise StoreError(
                f"{self._path} cannot be written: {error}",
                fix="make room, then run the same command again: what was scored before is kept",
            ) from error
        self._pending.clear()
        self._committed = time.monotonic()

    def close(self) -> None:
        """Commit and close."""
        try:
            self.commit()
        finally:
            self._connection.close()


def _output(value: dict[str, Any]) -> Output:
    if "logits" in value:
        return HeadOutput(**(value | {"logits": tuple(value["logits"])}))
    if "loglikelihood" not in value:
        return GenerationOutput(**value)
    if (tokens := value.get("tokens")) is not None:
        value["tokens"] = tuple(
            TokenScore(**token | {"top": tuple(map(tuple, token["top"]))}) for token in tokens
        )
    return ScoreOutput(**value)


def slug(model: str) -> str:
    """A model's name as one folder name: a local path's last part, a hub id with `__` for its slash."""
    name = Path(model).expanduser().resolve().name if _is_local(model) else model
    return re.sub(r"[^\w.-]+", "__", name).strip(".")[-100:] or "model"


def _is_local(model: str) -> bool:
    return model.startswith((".", "/", "~")) or Path(model).exists()


def check_writable(output: Path) -> None:
    """Make the results folder and try it, so that a run cannot fail on it at its end.

    Raises:
        StoreError: It cannot be made or written.
    """
    probe = output / f".write-{os.getpid()}"
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StoreError(
            f"the results folder {output} cannot be written: {error.strerror}", fix="give another --output"
        ) from error


def begin_run(output: Path, model: str, fingerprint: str, *, resume: bool) -> Path:
    """The folder of a run: an unfinished one of the same fingerprint, or a new one."""
    parent = output / slug(model)
    try:
        if resume and parent.is_dir():
            for folder in sorted(parent.iterdir(), reverse=True):
                unfinished = (folder / JOURNAL).is_file() and not (folder / "run.json").exists()
                if unfinished and folder.name.rpartition("-")[2] == fingerprint[:10]:
                    return folder
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
        for attempt in range(1000):
            folder = parent / f"{stamp}{f'.{attempt}' if attempt else ''}-{fingerprint[:10]}"
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        raise StoreError(f"no run folder can be made in {parent}: {error.strerror}") from error
    raise StoreError(f"no run folder can be made in {parent}: too many runs began at once")


def finish_run(folder: Path, record: RunRecord, samples: Mapping[str, Sequence[Sample]]) -> None:
    """Write the samples, then run.json; then the journal has served."""
    try:
        (folder / "samples").mkdir(exist_ok=True)
        for task, lines in samples.items():
            text = "".join(to_json_text(line.to_json()) + "\n" for line in lines)
            write_whole(folder / "samples" / f"{task}.jsonl", text)
        write_whole(folder / "run.json", run_text(record))
        for leftover in folder.glob(JOURNAL + "*"):
            leftover.unlink()
    except OSError as error:
        raise StoreError(
            f"the run could not be written to {folder}: {error.strerror}",
            fix="make room, then run the same command again: what was scored is kept",
        ) from error


def run_text(record: RunRecord) -> str:
    """The content of run.json."""
    return to_json_text(record.to_json(), indent=1) + "\n"


def to_json_text(value: Any, indent: int | None = None) -> str:
    """Strict JSON as readable UTF-8, escaped only where other readers would stumble.

    Those are half surrogates, which no UTF-8 has, and the line ends of Unicode, at which some readers break a
    line of JSON Lines.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return re.sub("[\\x85\\u2028\\u2029\\ud800-\\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def write_whole(path: Path, text: str) -> None:
    """Write a file aside and rename it: it is there whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
