"""The folder of a run: the unfinished one that the same command left, or a new one."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lmeval.errors import StoreError
from lmeval.journal import Journal
from lmeval.locks import one_at_a_time
from lmeval.store import JOURNAL, slug, sync_folder

DIGITS = 10  # of the fingerprint, in a folder's name
STAMP = "%Y%m%d-%H%M%S"
RUN_ID = re.compile(r"(\d{8}-\d{6})(?:\.(\d{1,6}))?-([0-9a-f]+)")


def open_run(
    output: Path, model: str, fingerprint: str, *, resume: bool, begin: float | None = None
) -> Journal:
    """The journal of a run, in the run's folder: of an unfinished run of the same fingerprint, or of a new one.

    Args:
        output: The results folder.
        model: The model's name.
        fingerprint: Of everything that decides the run's scores.
        resume: Go on with an unfinished run.
        begin: See Journal.

    Raises:
        StoreError: Another process is doing this run, or the folder cannot be made or read.
    """
    parent = output / slug(model)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(parent):  # or two commands begun at once would find the same folder, or none
            if resume and (found := next(_unfinished(parent, fingerprint), None)) is not None:
                return Journal(found / JOURNAL, fingerprint, begin)
            folder = _new_folder(parent, fingerprint)
            try:
                sync_folder(parent)
                return Journal(folder / JOURNAL, fingerprint, begin)
            except (StoreError, OSError):
                with suppress(OSError):  # what is left in it would never be looked at again
                    (folder / JOURNAL).unlink(missing_ok=True)
                    folder.rmdir()
                raise
    except OSError as error:
        raise StoreError(
            f"no run folder can be made in {parent}: {error.strerror}", fix="give another --output"
        ) from error


def _unfinished(parent: Path, fingerprint: str) -> Iterator[Path]:
    """Folders of runs of this fingerprint that were cut off, the newest first."""
    for folder in sorted(parent.iterdir(), reverse=True):
        if folder.name.rpartition("-")[2] != fingerprint[:DIGITS] or not folder.is_dir():
            continue
        names = {path.name for path in folder.iterdir()}
        # an empty one was made just before its process was killed: whoever makes one has the lock of the parent
        if "run.json" not in names and (JOURNAL in names or not names):
            yield folder


def _new_folder(parent: Path, fingerprint: str) -> Path:
    """A folder whose name comes behind those of all runs that are there, even where the clock went back."""
    now = datetime.datetime.now(datetime.UTC).strftime(STAMP)
    stamp, number = now, 0
    for folder in parent.iterdir():
        if found := RUN_ID.fullmatch(folder.name):
            other = (found[1], int(found[2] or 0) + 1)
            if other > (stamp, number):
                stamp, number = other
    for attempt in range(number, number + 1000):
        folder = parent / f"{stamp}{f'.{attempt:03}' if attempt else ''}-{fingerprint[:DIGITS]}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise StoreError(f"no run folder can be made in {parent}: too many runs began at once")


def began(run_id: str) -> str | None:
    """When a run began by its id, ISO 8601 in UTC."""
    found = RUN_ID.fullmatch(run_id)
    if found is None:
        return None
    moment = datetime.datetime.strptime(found[1], STAMP).replace(tzinfo=datetime.UTC)
    return moment.isoformat(timespec="seconds")
