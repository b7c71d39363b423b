"""`lmeval run`: check everything that needs no weights, load the model, score, print, and keep the run."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lmeval.cli.job import make_job
from lmeval.cli.options import MODEL_PANEL, TASKS_PANEL, JobFlags, with_flags
from lmeval.errors import UsageError

MOST_WORKERS = 10_000


@with_flags(JobFlags)
def run(
    model: Annotated[
        str,
        typer.Option(
            help="Hub id, local folder, .gguf file, demo, demo-masked, demo-seq2seq; or a quoted glob: a series."
        ),
    ],
    tasks: Annotated[str, typer.Option(help="Names, globs, tag:NAME or YAML files, separated by commas.")],
    flags: JobFlags,
    revisions: Annotated[
        str | None,
        typer.Option(
            help="Several revisions of a hub id, separated by commas: a series.", rich_help_panel=MODEL_PANEL
        ),
    ] = None,
    device_map: Annotated[
        str | None,
        typer.Option(
            help="auto: spread the model over all devices, the host and the disk.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    perturb: Annotated[
        str | None,
        typer.Option(
            help="Score each task under these, too: typos, case, whitespace, punctuation, shuffle_choices, "
            "reorder_shots.",
            rich_help_panel=TASKS_PANEL,
        ),
    ] = None,
    perturb_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of the perturbations; --seed if left out.", rich_help_panel=TASKS_PANEL),
    ] = None,
    output: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
    resume: Annotated[bool, typer.Option(help="Go on with an unfinished run of the same command.")] = True,
    cache: Annotated[
        bool, typer.Option(help="Reuse what earlier runs computed, and keep what this one does.")
    ] = True,
    workers: Annotated[
        str | None,
        typer.Option(help="Share the work among so many processes, or auto: one a GPU. Needs Ray."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="With --workers: the Ray cluster that they run on, HOST:PORT or auto.")
    ] = None,
    save_tokens: Annotated[
        bool, typer.Option("--save-tokens", help="Keep each scored token: its score, rank and alternatives.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print run.json in place of the table.")] = False,
) -> None:
    """Evaluate a model on tasks."""
    job = make_job(
        model,
        tasks,
        flags,
        device_map=device_map,
        perturb=perturb,
        perturb_seed=perturb_seed,
        save_tokens=save_tokens,
    )
    count = parse_workers(workers, ray_address)
    job = replace(job, options=replace(job.options, workers=count, ray_address=ray_address))
    from lmeval.cli.progress import make_listener
    from lmeval.cli.table import print_run
    from lmeval.run import Keep, run_job
    from lmeval.series import is_glob
    from lmeval.store import run_text

    keep = Keep(output, resume=resume, cache=cache, command=shlex.join(["lmeval", *sys.argv[1:]]))
    if revisions is not None or is_glob(model):
        from lmeval.cli.series import evaluate_series

        evaluate_series(job, keep, revisions, quiet=quiet, as_json=as_json)
        return
    with make_listener(quiet=quiet) as listener:
        record, folder = run_job(job, keep, listener)
    if as_json:
        typer.echo(run_text(record), nl=False)
    else:
        print_run(record, folder)


def parse_workers(text: str | None, ray_address: str | None) -> int | None:
    """The value of --workers; 0 for auto.

    Raises:
        UsageError: It is neither auto nor a number of at least 1, or --ray-address stands without it.
    """
    if text is None:
        if ray_address is not None:
            raise UsageError(
                "--ray-address says where workers run, and none are asked for", fix="add --workers auto"
            )
        return None
    if text == "auto":
        return 0
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= MOST_WORKERS:
        raise UsageError(
            f'--workers "{text}" is neither auto nor a number from 1 to {MOST_WORKERS:,}',
            fix="auto: one a GPU, and without GPUs one a machine",
        )
    return int(text)
