"""Finished runs, read back: `load_run` for one, `finished_runs` for all below a folder."""

from __future__ import annotations

from pathlib import Path

from lmeval.runs.stored import MetricScores, ScoredDocuments, Source, StoredRun, TaskScores

__all__ = [
    "MetricScores",
    "ScoredDocuments",
    "Source",
    "StoredRun",
    "TaskScores",
    "finished_runs",
    "load_run",
]


def load_run(path: Path | str) -> StoredRun:
    """The finished run that a path means.

    Args:
        path: A run folder; its run.json; a folder above exactly one finished run; one model's folder, which
            means its newest run; or a baseline file.

    Raises:
        StoreError: There is none, it is not finished, or its record is damaged or of a newer schema. Damaged
            samples are found when they are asked for.
    """
    raise NotImplementedError


def finished_runs(folder: Path | str) -> list[StoredRun]:
    """Every finished run below a folder, the oldest first; folders with a journal only are skipped.

    Raises:
        StoreError: The folder is not there, or a finished run in it is damaged.
    """
    raise NotImplementedError
