"""Where a gate's report goes: files, standard output, GitHub. Files are written before any verdict is printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from lmeval.cli.gate_table import print_report
from lmeval.errors import UsageError
from lmeval.gate.formats import json_text, junit_text
from lmeval.gate.suite import GateReport
from lmeval.gate.summary import SUMMARY_BYTES, annotation_lines, github_summary, markdown_text
from lmeval.store import write_whole

STDOUT = Path("-")
_WRITERS: Mapping[str, Callable[[GateReport], str]] = {
    "json": json_text,
    "junit": junit_text,
    "markdown": markdown_text,
}


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where a report goes; a path of "-" is standard output, which then carries nothing else."""

    json: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None
    github: bool = False

    def __post_init__(self) -> None:
        to_stdout = [name for name, path in self.paths.items() if path == STDOUT]
        if len(to_stdout) > 1 or (to_stdout and self.github):
            both = " and ".join([f"--{name} -" for name in to_stdout] + ["--github"] * self.github)
            raise UsageError(f"{both} would both write to standard output", fix="give a file name for one")

    @property
    def paths(self) -> dict[str, Path]:
        """The formats that are wanted, and where."""
        wanted = {name: getattr(self, name) for name in _WRITERS}
        return {name: path for name, path in wanted.items() if path is not None}


def emit(report: GateReport, outputs: Outputs) -> None:
    """Write what was asked for, whatever the verdict, then print.

    Raises:
        UsageError: A file cannot be written; then no verdict is printed that the exit code would not be.
    """
    for name, path in outputs.paths.items():
        if path != STDOUT:
            write_file(path, _WRITERS[name](report))
    if outputs.github:
        _append_summary(report)
    to_stdout = [name for name, path in outputs.paths.items() if path == STDOUT]
    print_report(report, sys.stderr if to_stdout else sys.stdout)
    for name in to_stdout:
        sys.stdout.write(_WRITERS[name](report))
    if outputs.github:
        typer.echo("\n".join(annotation_lines(report)))


def write_file(path: Path, text: str) -> None:
    """Write a file whole.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        write_whole(path, text)
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}."
        raise UsageError(what, fix="give another file name") from None


def _append_summary(report: GateReport) -> None:
    """Append to GitHub's job summary, as much as there is room for."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        typer.echo("--github: no job summary is written, since GITHUB_STEP_SUMMARY is not set", err=True)
        return
    try:
        with Path(name).open("ab") as stream:
            room = SUMMARY_BYTES - stream.tell()  # what the step wrote before counts too
            stream.write(github_summary(report, room).encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"The job summary {name} cannot be written: {error.strerror}.") from None
