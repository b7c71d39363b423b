"""`lmeval run`: check everything that needs no weights, load the model, score, print, and keep the run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmeval.cli.options import Offline
from lmeval.errors import UsageError
from lmeval.perturb import parse_perturbations
from lmeval.task import find_tasks

if TYPE_CHECKING:
    from lmeval.run import Job

MOST_WORKERS = 10_000


class ModelType(StrEnum):
    """What a model is."""

    auto = "auto"
    causal = "causal"
    masked = "masked"
    seq2seq = "seq2seq"
    classifier = "classifier"


class DType(StrEnum):
    """The weights' number format."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Pll(StrEnum):
    """Pseudo-log-likelihood variants."""

    within_word_l2r = "within_word_l2r"
    original = "original"
    whole_word = "whole_word"


def run(
    model: Annotated[
        str,
        typer.Option(
            help="Hub id, local folder, .gguf file, demo, demo-masked, demo-seq2seq; or a quoted glob: a series."
        ),
    ],
    tasks: Annotated[str, typer.Option(help="Names, globs, tag:NAME or YAML files, separated by commas.")],
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub.")] = None,
    revisions: Annotated[
        str | None, typer.Option(help="Several revisions of a hub id, separated by commas: a series.")
    ] = None,
    model_type: Annotated[ModelType, typer.Option(help="Refuse a model of another type.")] = ModelType.auto,
    dtype: Annotated[DType, typer.Option(help="auto: the checkpoint's own.")] = DType.auto,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    device_map: Annotated[
        str | None, typer.Option(help="auto: spread the model over all devices, the host and the disk.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="Folder of a PEFT adapter to merge in.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="Shots, in place of each task's.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N documents: a partial score.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random shots and bootstrap intervals.")] = 0,
    max_length: Annotated[int | None, typer.Option(min=2, help="Window in tokens, if not all.")] = None,
    batch_tokens: Annotated[str, typer.Option(help="Tokens run at once: auto or a number.")] = "auto",
    chat: Annotated[bool, typer.Option("--chat", help="Apply the model's chat template.")] = False,
    system: Annotated[
        str | None, typer.Option(help="With --chat: the system message, in place of the tasks' own.")
    ] = None,
    pll: Annotated[
        Pll | None, typer.Option(help="How masked models score texts, in place of each task's.")
    ] = None,
    perturb: Annotated[
        str | None,
        typer.Option(
            help="Score each task under these, too: typos, case, whitespace, punctuation, shuffle_choices, "
            "reorder_shots."
        ),
    ] = None,
    perturb_seed: Annotated[
        int | None, typer.Option(min=0, help="Of the perturbations; --seed if left out.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="What a classifier's outputs stand for, in order, separated by commas."),
    ] = None,
    tasks_dir: Annotated[list[Path] | None, typer.Option(help="A further folder of task files.")] = None,
    data_root: Annotated[
        Path | None, typer.Option(envvar="LMEVAL_DATA", help="A mirror of hub data sets, read first.")
    ] = None,
    allow_path: Annotated[
        list[Path] | None, typer.Option(help="A further folder that task files may read data in.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
    resume: Annotated[bool, typer.Option(help="Go on with an unfinished run of the same command.")] = True,
    cache: Annotated[
        bool, typer.Option(help="Reuse what earlier runs computed, and keep what this one does.")
    ] = True,
    offline: Offline = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="Let code of the model's folder and of evaluate: metrics run."
        ),
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights, their tensors alone.")
    ] = False,
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
        tasks_dir=tasks_dir,
        revision=revision,
        model_type=model_type,
        dtype=dtype,
        device=device,
        device_map=device_map,
        adapter=adapter,
        num_fewshot=num_fewshot,
        limit=limit,
        seed=seed,
        max_length=max_length,
        batch_tokens=batch_tokens,
        chat=chat,
        system=system,
        pll=pll,
        labels=labels,
        perturb=perturb,
        perturb_seed=perturb_seed,
        data_root=data_root,
        allow_path=allow_path,
        offline=offline,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
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


def make_job(
    model: str,
    tasks: str,
    *,
    tasks_dir: Sequence[Path] | None = None,
    revision: str | None = None,
    model_type: ModelType = ModelType.auto,
    dtype: DType = DType.auto,
    device: str = "auto",
    device_map: str | None = None,
    adapter: str | None = None,
    num_fewshot: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    max_length: int | None = None,
    batch_tokens: str = "auto",
    chat: bool = False,
    system: str | None = None,
    pll: Pll | None = None,
    labels: str | None = None,
    perturb: str | None = None,
    perturb_seed: int | None = None,
    data_root: Path | None = None,
    allow_path: Sequence[Path] | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    save_tokens: bool = False,
) -> Job:
    """The job that a command's options ask for.

    Raises:
        UsageError, TaskError: An option makes no sense, or there is no such task.
    """
    if limit is not None and limit < 1:
        raise UsageError(
            f"--limit {limit} leaves no documents", fix="give 1 or more, or leave it out for all"
        )
    perturbations = parse_perturbations(perturb)
    selectors = [name.strip() for name in tasks.split(",") if name.strip()]
    specs = find_tasks(selectors, tasks_dir or ())
    from lmeval.engine.sources import ModelOptions
    from lmeval.evaluate import Settings
    from lmeval.run import Job

    options = ModelOptions(
        model=model,
        revision=revision,
        model_type=model_type.value,
        dtype=dtype.value,
        device=device,
        device_map=device_map,
        adapter=adapter,
        max_length=max_length,
        batch_tokens=parse_batch_tokens(batch_tokens),
        pll=None if pll is None else pll.value,
        labels=parse_labels(labels),
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        offline=offline,
    )
    settings = Settings(
        num_fewshot=num_fewshot,
        limit=limit,
        seed=seed,
        system=system,
        pll=options.pll,
        perturb=perturbations,
        perturb_seed=perturb_seed,
        data_root=data_root,
        offline=offline,
        allowed_paths=(*(tasks_dir or ()), *(allow_path or ())),
        trust_remote_code=trust_remote_code,
        save_tokens=save_tokens,
    )
    return Job(specs, frozenset(selectors), options, settings, chat=chat)


def parse_labels(text: str | None) -> tuple[str, ...] | None:
    """The names in --labels.

    Raises:
        UsageError: One is empty, or there twice.
    """
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(
            f'--labels "{text}" has an empty name, or one twice', fix="name each output once: --labels no,yes"
        )
    return names


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


def parse_batch_tokens(text: str) -> int | None:
    """The value of --batch-tokens; None for auto.

    Raises:
        UsageError: It is neither auto nor a number of at least 1.
    """
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(
            f'--batch-tokens "{text}" is neither auto nor a number of at least 1',
            fix="leave it out: auto fits the device",
        )
    return int(text)
