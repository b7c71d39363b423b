"""Committed baselines: a run saved as one file, and replaced only by a run that has passed the gate against it.

What a file holds is in runs/compact.py. The first run that is replaced becomes the file's anchor and stays so: a model
that loses a little at every promotion must still pass against it, and no promotion takes it away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmeval.compare import task_differences
from lmeval.errors import NotComparableError, StoreError, UsageError
from lmeval.gate.config import GateConfig
from lmeval.gate.suite import EXIT_CODES, GateReport, judge_suite
from lmeval.runs import StoredRun, load_run
from lmeval.runs.compact import compact, with_checksum
from lmeval.runs.reading import read_json
from lmeval.store import to_json_text, write_whole


@dataclass(frozen=True, slots=True)
class Promotion:
    """What came of it."""

    verdict: str
    exit_code: int  # the gate's; 0 where the file was replaced by force
    promoted: bool
    report: GateReport | None  # None where an earlier gate's report was given


def save_baseline(run: StoredRun, file: Path, anchor: StoredRun | None = None) -> None:
    """Write a run as a new baseline file.

    Raises:
        StoreError: The file is there already or cannot be written, or samples are damaged.
    """
    if file.exists():
        raise StoreError(
            f"{file} exists and is not overwritten: it may hold an anchor and a history.",
            fix="`lmeval baseline promote` replaces a baseline after a gate; or take another name",
        )
    _write(file, {**compact(run), "history": list(run.history), "anchor": _anchor(anchor or run.anchor)})


def load_baseline(file: Path) -> StoredRun:
    """The run of a baseline file.

    Raises:
        StoreError: It is something else, or damaged.
    """
    if file.is_dir():
        raise StoreError(
            f"{file} is a folder, no baseline file.", fix="`lmeval baseline save RUN FILE` writes one"
        )
    run = load_run(file)
    if run.path != file:  # a run.json stands for its folder
        raise StoreError(f"{file} is no baseline file.", fix="`lmeval baseline save RUN FILE` writes one")
    return run


def promote(
    candidate: StoredRun,
    file: Path,
    config: GateConfig,
    *,
    gate_report: Path | None = None,
    force: bool = False,
) -> Promotion:
    """Replace a baseline by a candidate that passes the gate against it and against its anchor.

    Args:
        candidate: The run to take its place.
        file: The baseline file.
        config: The gate's rules; an empty one makes default rules.
        gate_report: The JSON report of a gate of these two that was run before, in place of judging again.
        force: Replace it whatever the verdict; the history says so.

    Raises:
        StoreError: A file is damaged, or cannot be written.
        UsageError: The candidate is the baseline already.
        NotComparableError: The report is of other runs, or the candidate was asked other questions.
    """
    current = load_baseline(file)
    if current.identity == candidate.identity:
        raise UsageError(f"{candidate.path} is the run that {file} holds already.")
    report = None
    if gate_report is None:
        report = judge_suite(candidate, current, config, anchor=current.anchor)
        verdict = str(report.verdict)
    else:
        verdict = _reported_verdict(gate_report, candidate, current)
    if verdict == "PASS" and not force:
        _require_same_questions(candidate, current)
    if verdict != "PASS" and not force:
        return Promotion(verdict, _exit_code(verdict), promoted=False, report=report)
    entry = {
        **current.identity,
        "file_sha256": read_json(file)["sha256"],
        "replaced_by": candidate.identity["run_id"],
        "verdict": verdict,
        "forced": force and verdict != "PASS",
    }
    anchor = current.anchor or current
    content = {"history": [entry, *current.history], "anchor": _anchor(anchor)}
    _write(file, {**compact(candidate), **content})
    return Promotion(verdict, 0, promoted=True, report=report)


def _anchor(run: StoredRun | None) -> dict[str, Any] | None:
    """An anchor has no history and no anchor of its own."""
    return None if run is None else {**compact(run), "history": [], "anchor": None}


def _require_same_questions(candidate: StoredRun, current: StoredRun) -> None:
    """What the rules did not look at must not be lost by a promotion either."""
    found = [
        f"{name}: the candidate does not have it" for name in current.tasks if name not in candidate.tasks
    ]
    for name, task in current.tasks.items():
        if name in candidate.tasks:
            found += [f"{name}: {line}" for line in task_differences(task, candidate.tasks[name])]
    if found:
        listed = "".join(f"\n  {line}" for line in found)
        raise NotComparableError(
            f"The candidate has passed, but it was not asked all that the baseline was:{listed}",
            fix="run the missing, or promote with --force",
        )


def _reported_verdict(file: Path, candidate: StoredRun, current: StoredRun) -> str:
    """The verdict of a report, which must be of these runs."""
    report = read_json(file)
    runs = report.get("runs") if isinstance(report, Mapping) else None
    if not isinstance(runs, Mapping) or str(report.get("verdict")) not in EXIT_CODES:
        raise StoreError(f"{file} is no report of the gate.", fix="`lmeval gate --json FILE` writes one")
    wanted = {"candidate": candidate, "baseline": current}
    if current.anchor is not None:
        wanted["anchor"] = current.anchor
    for name, run in wanted.items():
        reported = runs.get(name)
        if (
            not isinstance(reported, Mapping)
            or {key: reported.get(key) for key in run.identity} != run.identity
        ):
            said = reported.get("run_id") if isinstance(reported, Mapping) else "none"
            raise NotComparableError(
                f"The report is of another {name}: {said}; this one is {run.identity['run_id']}.",
                where=str(file),
                fix="run `lmeval gate` again, or leave out --gate-report",
            )
    return str(report["verdict"])


def _exit_code(verdict: str) -> int:
    return next(code for name, code in EXIT_CODES.items() if name == verdict)


def _write(file: Path, content: Mapping[str, Any]) -> None:
    text = to_json_text(with_checksum(content), indent=1) + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    except OSError as error:
        raise StoreError(
            f"{file} cannot be written: {error.strerror}.", fix="give another file name"
        ) from None
