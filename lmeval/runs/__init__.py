"""Finished runs, read back: `load_run` for one, `finished_runs` for all below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lmeval.errors import StoreError
from lmeval.runs.compact import MARK, read_baseline
from lmeval.runs.folder import read_folder, run_in
from lmeval.runs.reading import read_json
from lmeval.runs.stored import MetricScores, ScoredDocuments, Source, StoredRun, TaskScores
from lmeval.store import JOURNAL

__all__ = [
    "MetricScores",
    "ScoredDocuments",
    "Source",
    "StoredRun",
    "TaskScores",
    "finished_runs",
    "load_run",
]

_LISTED = 5  # runs that an error names


def load_run(path: Path | str) -> StoredRun:
    """The finished run that a path means.

    Args:
        path: A run folder; its run.json; a folder above exactly one finished run; one model's folder, which
            means its newest run; or a baseline file.

    Raises:
        StoreError: There is none, it is not finished, or its record is damaged or of a newer schema. Damaged
            samples are found when they are asked for.
    """
    path = Path(path)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:  # such as a name too long for the file system
        raise StoreError(f"There can be no such run: {error.strerror}.", where=f"{path!s:.80}") from None
    if is_file:
        return _load_file(path)
    if not is_folder:
        raise StoreError(
            "There is no such run.", where=str(path), fix="give a run folder, such as results/MODEL/RUN"
        )
    if (path / "run.json").is_file():
        return read_folder(path / "run.json")
    folders = list(_run_folders(path))
    finished = [folder for folder in folders if (folder / "run.json").is_file()]
    if not finished:
        raise _none_finished(path, folders)
    if len(finished) == 1:
        return read_folder(finished[0] / "run.json")
    if all(folder.parent == path for folder in finished):
        return _by_age(finished)[-1]
    listed = "\n".join(f"  {folder}" for folder in finished[:_LISTED])
    more = f"\n  and {len(finished) - _LISTED} more" if len(finished) > _LISTED else ""
    raise StoreError(
        f"There are {len(finished)} finished runs below {path}; which one is meant?\n{listed}{more}",
        fix="name the run folder, or one model's folder for its newest run",
    )


def finished_runs(folder: Path | str) -> list[StoredRun]:
    """Every finished run below a folder (or that it is), the oldest first; unfinished ones are skipped.

    Raises:
        StoreError: The folder is not there, or a finished run in it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StoreError("There is no such folder of runs.", where=str(folder))
    return _by_age([found for found in _run_folders(folder) if (found / "run.json").is_file()])


def _load_file(path: Path) -> StoredRun:
    value = read_json(path)
    if isinstance(value, dict) and MARK in value:
        return read_baseline(value, path)
    return run_in(path, value)


def _by_age(folders: list[Path]) -> list[StoredRun]:
    runs = [read_folder(folder / "run.json") for folder in folders]
    return sorted(runs, key=lambda run: (run.record.created, run.record.run_id))


def _run_folders(folder: Path) -> Iterator[Path]:
    """Folders with a run.json or a journal, not looking into them."""
    for place, folders, files in os.walk(folder):
        if "run.json" in files or JOURNAL in files:
            folders.clear()
            yield Path(place)
        folders.sort()


def _none_finished(path: Path, unfinished: list[Path]) -> StoreError:
    if not unfinished:
        return StoreError(
            "There is no run.", where=str(path), fix="give a run folder, such as results/MODEL/RUN"
        )
    return StoreError(
        "This run is not finished: it has a journal and no run.json.",
        where=str(unfinished[0]),
        fix="run the same `lmeval run` again: it goes on where it stopped",
    )
