"""The journal of a run that is under way: every output as soon as it is there, in one file that is only appended to.

A line is a record, behind the CRC-32 of its text. A line that is cut off or does not match its checksum is left out,
the others count: what it held is scored again. Each output is handed to the system by itself, so that a process that
is killed loses nothing but the batch in flight; for a machine that loses its power the file is synced as often as
costs a thousandth of the time. Appending needs neither shared memory nor locks over ranges, as SQLite's WAL does,
so the results may lie on a network file system.

A stage is what a task asks: all its requests, in order, known by the hash of their keys. Its records hold outputs by
the index of their request, and what each cost, so that the totals of a run that was cut off are those of one that
was not.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import socket
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from lmeval.engine.base import Usage
from lmeval.errors import StoreError
from lmeval.locks import HeldElsewhere, lock
from lmeval.records import GenerationOutput, HeadOutput, ScoreOutput, TokenScore
from lmeval.store import Output, sync_folder, write_all

VERSION = 1
SYNC_SHARE = 1000  # a sync may cost one such part of the time between two
SYNC_SECONDS = 0.1  # at the least between two
ADDED_UP = (
    "tokens_requested",
    "tokens_distinct",
    "tokens_computed",
    "tokens_generated",
    "slot_steps",
    "seconds_model",
    "seconds_generating",
)
_costs = attrgetter(*ADDED_UP)

_KINDS: dict[str, type[Any]] = {"s": ScoreOutput, "g": GenerationOutput, "h": HeadOutput}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}
_VALUES = {kind: attrgetter(*(f.name for f in fields(kind))) for kind in (*_LETTERS, TokenScore)}
_encode = json.JSONEncoder(separators=(",", ":"), default=lambda token: _VALUES[TokenScore](token)).encode


def _packed(output: Output) -> list[Any]:
    return [_LETTERS[type(output)], *_VALUES[type(output)](output)]


def _unpacked(values: Sequence[Any]) -> Output:
    kind = _KINDS[values[0]]
    output = dict(zip((f.name for f in fields(kind)), values[1:], strict=True))
    if kind is HeadOutput:
        output["logits"] = tuple(output["logits"])
    if output.get("tokens") is not None:
        output["tokens"] = tuple(
            TokenScore(text, logprob, rank, tuple(map(tuple, top)))
            for text, logprob, rank, top in output["tokens"]
        )
    found: Output = kind(**output)
    return found


@dataclass(slots=True)
class _Before:
    """What earlier processes left of a stage."""

    given: dict[int, Output] | None = None  # from the cache; None: not known whether it was asked
    outputs: dict[int, Output] = field(default_factory=dict)
    costs: list[float] = field(default_factory=lambda: [0] * len(ADDED_UP))
    planned: int = 0
    path: tuple[str, str | None] | None = None  # of the engine, and its note


class Stage:
    """The outputs of one task's requests."""

    def __init__(
        self, journal: Journal, name: str, keys: Sequence[str], before: _Before, usage: Usage
    ) -> None:
        self._journal, self._name, self._keys, self._before = journal, name, keys, before
        self._first = self._last = _costs(usage)
        self._planned_before = usage.tokens_planned
        self._path: tuple[str, str | None] | None = None
        # of earlier stages only: an equal request of this stage is asked and counted by itself
        known = {index: journal.known[key] for index, key in enumerate(keys) if key in journal.known}
        self.done: dict[int, Output] = known | (before.given or {}) | before.outputs
        for index, output in self.done.items():
            journal.known[keys[index]] = output

    @property
    def has_begun(self) -> bool:
        """Whether an earlier process asked the cache, so that this one need not."""
        return self._before.given is not None

    @property
    def num_given(self) -> int:
        """Outputs that the cache gave."""
        return len(self._before.given or {})

    def give(self, outputs: Mapping[int, Output]) -> None:
        """Keep what the cache gave, before anything is asked."""
        self._before.given = dict(outputs)
        self.done |= outputs
        for index, output in outputs.items():
            self._journal.known[self._keys[index]] = output
        packed = [[index, _packed(output)] for index, output in outputs.items()]
        self._journal.write({"stage": self._name, "given": packed})

    def put(self, index: int, output: Output, usage: Usage) -> None:
        """Keep an output, and what the engine's usage grew by since the last."""
        now = _costs(usage)
        costs = [round(a - b, 6) for a, b in zip(now, self._last, strict=True)]
        self._last = now
        planned = self._before.planned or usage.tokens_planned - self._planned_before
        record = [self._name, index, _packed(output), costs, planned, self._journal.lap()]
        if self._path != (usage.path, usage.note):
            self._path = (usage.path, usage.note)
            record.append(self._path)
        self._journal.write(record)
        self.done[index] = self._journal.known[self._keys[index]] = output

    def end(self, usage: Usage) -> None:
        """Add what earlier processes spent on this stage to the journal's totals."""
        before = self._before
        if not before.outputs:
            return
        if _costs(usage) == self._first and before.path is not None:
            # the engine was not asked again: what it would have found out about itself is known from before
            usage.path, usage.note = before.path
        spent = dict(zip(ADDED_UP, before.costs, strict=True))
        if before.planned and not any(isinstance(o, GenerationOutput) for o in before.outputs.values()):
            # a batch that was cut off is computed again, and counts once
            computed = usage.tokens_computed - self._first[ADDED_UP.index("tokens_computed")]
            spent["tokens_computed"] = before.planned - computed
        self._journal.spent_before(spent)


class Journal:
    """An open journal; no other process may open it meanwhile.

    Args:
        path: Made where it is not there.
        run: The fingerprint of the run.
        begin: The `time.perf_counter` at which the run began in this process.

    Raises:
        StoreError: Another process has it, or it cannot be read or written.
    """

    def __init__(self, path: Path, run: str = "", begin: float | None = None) -> None:
        self.path, self.run = path, run
        self.known: dict[str, Output] = {}
        self.num_damaged = 0
        self.seconds_before = 0.0
        self._earlier = dict.fromkeys(ADDED_UP, 0.0)
        self._before: dict[str, _Before] = {}
        self._begin = self._lapped = time.perf_counter() if begin is None else begin
        self._synced, self._sync_seconds, self._is_synced = time.monotonic(), 0.0, True
        self._descriptor = -1
        self._lock_file: Path | None = None
        try:
            self._open()
            self._load()
            self.write(self._header())
            self.sync()
            sync_folder(path.parent)
        except HeldElsewhere as held:
            self._let_go()
            raise self._is_held(held) from None
        except OSError as error:
            self._let_go()
            raise StoreError(
                f"the journal {path} cannot be used: {error.strerror or error}",
                fix="check the folder; or begin anew with --no-resume",
            ) from error
        except BaseException:
            self._let_go()
            raise

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._lock_file = lock(self._descriptor, self.path)
            # whoever had it before may have replaced or removed the file
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self.path)):
                    return
            self._let_go()

    def _header(self) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return {
            "journal": VERSION,
            "run": self.run,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "at": now,
        }

    # ---- reading ----

    def _load(self) -> None:
        content = _read(self._descriptor)
        good: list[bytes] = []
        for line in content.split(b"\n"):
            if not line:
                continue
            try:
                self._take(_checked(line))
                good.append(line)
            except (ValueError, TypeError, KeyError, IndexError):
                self.num_damaged += 1
        if self.num_damaged or not content.endswith(b"\n"):
            self._replace(good)

    def _take(self, record: Any) -> None:
        """Take a record in.

        Raises:
            ValueError, TypeError, KeyError, IndexError: It is none of ours.
        """
        if isinstance(record, list):
            name, index, packed, costs, planned, seconds, *path = record
            own = self._before.setdefault(name, _Before())
            output = _unpacked(packed)
            own.costs = [a + b for a, b in zip(own.costs, costs, strict=True)]
            own.outputs[index] = output
            own.planned = max(own.planned, planned)
            own.path = (path[0][0], path[0][1]) if path else own.path
            self.seconds_before += seconds
        elif "given" in record:
            own = self._before.setdefault(record["stage"], _Before())
            own.given = {index: _unpacked(packed) for index, packed in record["given"]}
        elif record["run"] != self.run and self.run:
            raise StoreError(
                f"the journal {self.path} is of another run",
                fix="remove the folder, or give another --output",
            )

    def _replace(self, lines: Iterable[bytes]) -> None:
        """Begin the file anew with what of it is whole."""
        if not os.fstat(self._descriptor).st_size:
            return
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        fresh = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        try:
            if self._lock_file is None:
                lock(fresh, aside)
            write_all(fresh, b"".join(line + b"\n" for line in lines))
            os.fsync(fresh)
            os.replace(aside, self.path)
        except BaseException:
            os.close(fresh)
            with suppress(OSError):
                aside.unlink()
            raise
        os.close(self._descriptor)
        self._descriptor = fresh
        sync_folder(self.path.parent)

    # ---- stages ----

    def begin(self, keys: Sequence[str], usage: Usage) -> Stage:
        """The stage of requests with these keys, with what is known of it."""
        name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]
        before = self._before.pop(name, _Before())
        size = len(keys)
        before.outputs = {i: output for i, output in before.outputs.items() if 0 <= i < size}
        return Stage(self, name, keys, before, usage)

    def spent_before(self, costs: Mapping[str, float]) -> None:
        """Count what earlier processes spent."""
        for name, value in costs.items():
            self._earlier[name] += value

    def total(self, usage: Usage) -> Usage:
        """What the run cost in all processes, if `usage` is what it cost in this one."""
        summed = {name: getattr(usage, name) + value for name, value in self._earlier.items()}
        whole = {
            name: value if name.startswith("seconds") else round(value) for name, value in summed.items()
        }
        return Usage(path=usage.path, note=usage.note, tokens_planned=usage.tokens_planned, **whole)

    def seconds(self) -> float:
        """Wall seconds of the run in all processes; what came after an earlier one's last output is not known."""
        return self.seconds_before + time.perf_counter() - self._begin

    def lap(self) -> float:
        """Seconds since the last record, or since the run began."""
        now = time.perf_counter()
        seconds, self._lapped = round(max(0.0, now - self._lapped), 4), now
        return seconds

    # ---- writing ----

    def write(self, record: Any) -> None:
        """Append a record.

        Raises:
            StoreError: It cannot be written; what was written before stays.
        """
        text = _encode(record).encode()
        try:
            write_all(self._descriptor, b"%08x %s\n" % (zlib.crc32(text), text))
            self._is_synced = False
            now = time.monotonic()
            if now - self._synced >= max(SYNC_SECONDS, SYNC_SHARE * self._sync_seconds):
                self.sync()
        except OSError as error:
            raise self._failed(error) from error

    def sync(self) -> None:
        """Wait until all of it would survive a loss of power."""
        if self._is_synced:
            return
        begin = time.monotonic()
        os.fsync(self._descriptor)
        self._synced = time.monotonic()
        self._sync_seconds, self._is_synced = self._synced - begin, True

    def commit(self) -> None:
        """As `sync`.

        Raises:
            StoreError: It cannot be written.
        """
        try:
            self.sync()
        except OSError as error:
            raise self._failed(error) from error

    def is_done(self) -> None:
        """The run is finished: the journal has served, and need not be synced any more."""
        self._is_synced = True

    def put(self, key: str, output: Output) -> None:
        """Know an output by its key in this process; a stage is what keeps outputs."""
        self.known[key] = output

    def close(self) -> None:
        """Commit, and let other processes have it."""
        try:
            if self._descriptor >= 0:
                self.commit()
        finally:
            self._let_go()

    def get(self, keys: Iterable[str]) -> dict[str, Output]:
        """The outputs of this run that are there, by key."""
        return {key: self.known[key] for key in keys if key in self.known}

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        if self._lock_file is not None:
            with suppress(OSError):
                self._lock_file.unlink()
        self._descriptor, self._lock_file = -1, None

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(
            f"the journal {self.path} cannot be written: {error.strerror or error}",
            fix="make room, then run the same command again: what was scored before is kept",
        )

    def _is_held(self, held: HeldElsewhere) -> StoreError:
        pid, host = (held.pid, held.host) if held.pid is not None else _owner(self.path)
        who = "another process" if pid is None else f"process {pid}"
        on = f" on {host}" if host not in (None, socket.gethostname()) else ""
        return StoreError(
            f"{who}{on} is doing this run now",
            where=str(self.path.parent),
            fix="wait for it; or end it and run the same command again; or begin another with --no-resume",
        )


def _checked(line: bytes) -> Any:
    """A line's record.

    Raises:
        ValueError: It is not what was written.
    """
    if line[8:9] != b" " or int(line[:8], 16) != zlib.crc32(line[9:]):
        raise ValueError("the checksum does not match")
    return json.loads(line[9:])


def _read(descriptor: int) -> bytes:
    parts = []
    os.lseek(descriptor, 0, os.SEEK_SET)
    while part := os.read(descriptor, 2**20):
        parts.append(part)
    return b"".join(parts)


def _owner(path: Path) -> tuple[int | None, str | None]:
    """The process that opened a journal last."""
    pid, host = None, None
    with suppress(OSError):
        for record in _records(path.read_bytes()):
            if isinstance(record, dict) and "pid" in record:
                pid, host = record["pid"], record["host"]
    return pid, host


def _records(content: bytes) -> Iterator[Any]:
    for line in content.split(b"\n"):
        with suppress(ValueError):
            yield _checked(line)
