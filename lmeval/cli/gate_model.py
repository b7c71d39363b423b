"""`lmeval gate --model`: run the model, in rounds if asked, and judge its run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lmeval.cli.gate import BaselinePaths, judge_stored, require_there
from lmeval.cli.progress import make_listener
from lmeval.errors import UsageError
from lmeval.gate.config import GateConfig
from lmeval.gate.running import Opponents, run_and_judge
from lmeval.run import Job, Keep, run_job
from lmeval.runs import load_run

if TYPE_CHECKING:
    from lmeval.gate.suite import GateReport


def judge_model(
    job: Job,
    paths: BaselinePaths,
    config: GateConfig,
    steps: int,
    *,
    output: Path,
    resume: bool,
    cache: bool,
    quiet: bool,
) -> GateReport:
    """Run a model and judge its run; a baseline that is not there is found before anything is read.

    Args:
        steps: With a history: how many of the last checkpoints.

    Raises:
        UsageError: Rounds are asked for together with a history.
        LmevalError: Whatever is wrong with model, tasks, documents or baseline.
    """
    require_there(paths)
    keep = Keep(output, resume=resume, cache=cache, command=shlex.join(["lmeval", *sys.argv[1:]]))
    if paths.history is not None:
        if config.sequential.enabled:
            raise UsageError(
                "--history adds step noise to standard errors, and bets have none",
                fix="leave out --sequential (or give --no-sequential), or leave out --history",
            )
        with make_listener(quiet=quiet) as listener:
            _, folder = run_job(job, keep, listener)
        _say_where(folder)
        return judge_stored(str(folder), paths, config, steps)
    baseline = load_run(paths.baseline) if paths.baseline else None
    anchor = load_run(paths.anchor) if paths.anchor else baseline.anchor if baseline else None
    with make_listener(quiet=quiet) as listener:
        report, kept = run_and_judge(job, keep, Opponents(baseline, anchor), config, listener)
    if kept is not None:
        _say_where(kept)
    return report


def _say_where(folder: Path) -> None:
    typer.echo(f"kept in {folder}", err=True)
