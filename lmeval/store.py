"""Run folders: `<output>/<model slug>/<run id>/` with run.json and samples/<task>.jsonl.

A run that is under way has a journal in its folder (see `journal`); the same command finds the folder again and goes
on. run.json is written last and whole: a folder that has one is a finished run.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from lmeval.errors import StoreError
from lmeval.records import GenerationOutput, HeadOutput, RunRecord, Sample, ScoreOutput
from lmeval.secrets import redact

JOURNAL = "journal.jsonl"
Output = ScoreOutput | GenerationOutput | HeadOutput


class Outputs(Protocol):
    """Where outputs are kept under their keys: the journal of a run, or the cache across runs."""

    def get(self, keys: Iterable[str]) -> dict[str, Output]:
        """Those that are there."""
        ...

    def put(self, key: str, output: Output) -> None:
        """Keep one."""
        ...

    def commit(self) -> None:
        """Put everything on disk."""
        ...

    def close(self) -> None:
        """Commit and close."""
        ...


def slug(model: str) -> str:
    """A model's name as one folder name, without secrets: a local path's last part, a hub id with `__` for `/`."""
    name = Path(model).expanduser().resolve().name if _is_local(model) else model
    return re.sub(r"[^\w.-]+", "__", redact(name)).strip(".")[-100:] or "model"


def _is_local(model: str) -> bool:
    return model.startswith((".", "/", "~")) or Path(model).exists()


def check_writable(output: Path) -> None:
    """Make the results folder and try it, so that a run cannot fail on it at its end.

    Raises:
        StoreError: It cannot be made or written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):  # it has no name wherever the system can do without
            pass
    except OSError as error:
        raise StoreError(
            f"the results folder {output} cannot be written: {error.strerror}", fix="give another --output"
        ) from error


def finish_run(folder: Path, record: RunRecord, samples: Mapping[str, Sequence[Sample]]) -> None:
    """Write the samples, then run.json; then the journal has served.

    Raises:
        StoreError: They cannot be written; there is no run.json then, and the journal is still there.
    """
    try:
        place = folder / "samples"
        place.mkdir(exist_ok=True)
        for leftover in (*folder.glob(".*.part"), *place.glob(".*.part")):  # of a process that was killed
            leftover.unlink()
        for task, lines in samples.items():
            text = "".join(to_json_text(line.to_json()) + "\n" for line in lines)
            write_whole(place / f"{task}.jsonl", text)
        sync_folder(place)
        write_whole(folder / "run.json", run_text(record))
        sync_folder(folder)
    except OSError as error:
        raise StoreError(
            f"the run could not be written to {folder}: {error.strerror}",
            fix="make room, then run the same command again: what was scored is kept",
        ) from error
    with suppress(OSError):  # the run is there, and a journal beside a run.json is passed over
        (folder / JOURNAL).unlink(missing_ok=True)
        sync_folder(folder)


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
        aside.unlink(missing_ok=True)  # of a killed process, or a link that somebody laid there
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            write_all(descriptor, text.encode("utf-8"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it; the system may take less at once.

    Raises:
        OSError: It takes no more.
    """
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder would survive a loss of power, on systems that can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise
    finally:
        os.close(descriptor)
