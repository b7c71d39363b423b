"""`lmeval gate`: compare with a baseline by the rules of a gate file, print, write reports, exit with the verdict."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmeval.cli.job import make_job
from lmeval.cli.options import JobFlags, with_flags
from lmeval.errors import NotComparableError, UsageError
from lmeval.gate.config import GateConfig, load_gate_file

if TYPE_CHECKING:
    from lmeval.gate.suite import GateReport
    from lmeval.run import Job

_RUN = "With --model, as in `lmeval run`"


@with_flags(JobFlags, panel=_RUN)
def gate(
    candidate: Annotated[
        str | None, typer.Argument(help="The run to judge: its folder, or a baseline file.")
    ] = None,
    *,
    baseline: Annotated[str | None, typer.Option(help="The run to compare with.")] = None,
    anchor: Annotated[str | None, typer.Option(help="A second baseline that stays fixed.")] = None,
    config: Annotated[Path | None, typer.Option(help="Gate file; without it default rules are made.")] = None,
    history: Annotated[
        Path | None, typer.Option(help="Folder of a training run's checkpoints: their step noise is added.")
    ] = None,
    steps: Annotated[int, typer.Option(help="With --history: how many of the last checkpoints.")] = 5,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write canonical JSON to this file; - is stdout.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown to this file.")] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Write the job summary and annotations of GitHub.")
    ] = False,
    write_config: Annotated[
        Path | None, typer.Option(help="Write the default rules to a gate file, and stop.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="In place of CANDIDATE: run this model, then judge.", rich_help_panel=_RUN),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="With --model: names, globs, tag:NAME or files.", rich_help_panel=_RUN)
    ] = None,
    sequential: Annotated[
        bool | None,
        typer.Option(
            "--sequential/--no-sequential",
            help="With --model: score in rounds and stop as soon as every rule is decided.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    flags: JobFlags,
    output: Annotated[Path, typer.Option(rich_help_panel=_RUN)] = Path("results"),
    resume: Annotated[bool, typer.Option(rich_help_panel=_RUN)] = True,
    cache: Annotated[bool, typer.Option(rich_help_panel=_RUN)] = True,
    quiet: Annotated[bool, typer.Option("--quiet", rich_help_panel=_RUN)] = False,
) -> None:
    """Judge a run by a baseline: exit code 0 PASS, 10 FAIL, 11 INCONCLUSIVE, 12 NOT COMPARABLE."""
    from lmeval.cli.gate_output import Outputs, emit

    outputs = Outputs(json_file, junit, markdown, github)
    settings = load_gate_file(config) if config else GateConfig()
    check_candidate(
        candidate, model, tasks, sequential=bool(sequential), write_config=write_config is not None
    )
    paths = baseline_paths(settings, baseline, anchor, None if write_config else history)
    if model is not None and tasks is not None:
        job = make_job(model, tasks, flags)
        settings = with_rounds(settings, sequential)
        report = judge_model(
            job, paths, settings, steps, output=output, resume=resume, cache=cache, quiet=quiet
        )
        emit(report, outputs)
        raise typer.Exit(report.exit_code)
    assert candidate is not None
    if write_config is not None:
        write_default_config(write_config, candidate, paths)
        return
    report = judge_stored(candidate, paths, settings, steps)
    emit(report, outputs)
    raise typer.Exit(report.exit_code)


def check_candidate(
    candidate: str | None, model: str | None, tasks: str | None, *, sequential: bool, write_config: bool
) -> None:
    """Refuse anything but a run to judge, or a model to run and its tasks."""
    if candidate is not None and model is not None:
        raise UsageError("CANDIDATE and --model are both given", fix="give the run, or the model to run")
    if candidate is None and model is None:
        raise UsageError(
            "lmeval gate needs a CANDIDATE",
            fix="give the folder of the run to judge, or --model and --tasks to run a model",
        )
    if (model is None) != (tasks is None):
        raise UsageError("--model and --tasks belong together", fix="give both, or a CANDIDATE alone")
    if model is not None and write_config:
        raise UsageError("--write-config is for a run that is finished", fix="give a CANDIDATE, not --model")
    if sequential and model is None:
        raise UsageError(
            "--sequential is for a model that is run: a finished run has all its documents",
            fix="give --model and --tasks in place of CANDIDATE",
        )


@dataclass(frozen=True, slots=True)
class BaselinePaths:
    """The runs that a candidate is compared with."""

    baseline: Path | None  # None with a history: its last checkpoint before the candidate
    anchor: Path | None
    history: Path | None = None


def with_rounds(config: GateConfig, sequential: bool | None) -> GateConfig:
    """The config with --sequential or --no-sequential in place of what it says; None: as it says."""
    if sequential is None:
        return config
    return replace(config, sequential=config.sequential.model_copy(update={"enabled": sequential}))


def baseline_paths(
    config: GateConfig, baseline: str | None, anchor: str | None, history: Path | None = None
) -> BaselinePaths:
    """What the command line names, else what the gate file does.

    Raises:
        UsageError: Neither names a baseline, some rule needs one, and there is no history to take it from.
    """
    spec = config.baseline
    path = Path(baseline) if baseline else config.resolve(spec.path) if spec else None
    fixed = Path(anchor) if anchor else config.resolve(spec.anchor) if spec and spec.anchor else None
    needed = history is None and (not config.rules or any(rule.needs_baseline for rule in config.rules))
    if path is None and needed:
        raise UsageError(
            "lmeval gate needs a baseline", fix="give --baseline RUN, or `baseline` in the gate file"
        )
    return BaselinePaths(path, fixed, history)


def judge_stored(candidate: str, paths: BaselinePaths, config: GateConfig, steps: int = 5) -> GateReport:
    """Judge a finished run; a baseline that is not there gives a report that says so."""
    from lmeval.gate.suite import judge_suite, refusal
    from lmeval.runs import load_run

    judged = load_run(candidate)
    try:
        _require_there(paths)
    except NotComparableError as error:
        return refusal(config, str(error), candidate=judged)
    baseline = load_run(paths.baseline) if paths.baseline else None
    anchor = load_run(paths.anchor) if paths.anchor else baseline.anchor if baseline else None
    if paths.history is not None:
        from lmeval.gate.noise import judge_with_history
        from lmeval.trends import read_history

        try:
            history = read_history(paths.history)
            return judge_with_history(judged, history, config, baseline=baseline, anchor=anchor, m=steps)
        except NotComparableError as error:
            return refusal(config, str(error), candidate=judged)
    return judge_suite(judged, baseline, config, anchor=anchor)


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
    from lmeval.cli.progress import make_listener
    from lmeval.gate.running import Opponents, run_and_judge
    from lmeval.run import Keep, run_job
    from lmeval.runs import load_run

    _require_there(paths)
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


def _require_there(paths: BaselinePaths) -> None:
    for name, path in (("baseline", paths.baseline), ("anchor", paths.anchor)):
        if path is not None and not path.exists():
            raise NotComparableError(
                f"There is no {name} at {path}.",
                fix=f"`lmeval baseline save RUN {path}` keeps a run as one",
            )


def write_default_config(file: Path, candidate: str, paths: BaselinePaths) -> None:
    """Write the default rules of these runs as a gate file.

    Raises:
        UsageError: The file is there already or cannot be written, or there is no baseline.
    """
    from lmeval.cli.gate_output import write_file
    from lmeval.gate.starter import gate_file_text
    from lmeval.runs import load_run

    if paths.baseline is None:
        raise UsageError("--write-config makes rules for the tasks of a baseline", fix="give --baseline RUN")
    if file.exists():
        raise UsageError(f"{file} exists and is not overwritten.", fix="take another name")
    base = os.path.relpath(paths.baseline, file.parent)
    text = gate_file_text(load_run(candidate), load_run(paths.baseline), base)
    write_file(file, text)
    typer.echo(f"wrote {file}; next: lmeval gate {candidate} --config {file}")
