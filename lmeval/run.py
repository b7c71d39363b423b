"""A run from end to end: check what needs no weights, load the model, score, and keep the record.

Every command that has a model score tasks comes through here: `open_job` for those that ask it in parts of their
own, `run_job` for a whole run.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmeval import stopping
from lmeval.cache import ScoreCache, cached_engine, open_cache
from lmeval.engine.base import Engine
from lmeval.engine.chat import chat_template
from lmeval.engine.devices import check_device_map, choose_device
from lmeval.engine.kinds import check_type, head_of, load_config
from lmeval.engine.loading import load_encoder, load_engine
from lmeval.engine.sources import ModelOptions, ModelSource, convert_gguf, find_model
from lmeval.errors import ModelError, UsageError
from lmeval.evaluate import run_fingerprint
from lmeval.heads import check_head
from lmeval.listener import Listener
from lmeval.perturb import perturbed_name
from lmeval.perturb.drops import evaluate_perturbed
from lmeval.perturb.prompts import why_not
from lmeval.prepare import PreparedTask, Settings, num_shots, prepare
from lmeval.records import HeadRecord, RunRecord, Sample, TaskRecord
from lmeval.requests import check_can_do
from lmeval.resume import began, open_run
from lmeval.run_record import run_record
from lmeval.specs import TaskSpec
from lmeval.store import Outputs, check_writable, finish_run
from lmeval.workers.cluster import check_ray
from lmeval.workers.engine import WorkersEngine

# Every task's record, and its samples by the name of their file
Scored = Mapping[str, tuple[TaskRecord, Mapping[str, Sequence[Sample]]]]

DAMAGED = "note: {journal.num_damaged} records of {journal.path} are damaged or cut off; what they held is scored again"
MOST_SHOWN = 3  # tasks that an error names


@dataclass(frozen=True, slots=True)
class Job:
    """A model and what it is asked."""

    specs: tuple[TaskSpec, ...]
    named: frozenset[str]  # selectors as the user gave them: a task named so must fit the model
    options: ModelOptions
    settings: Settings
    chat: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """Where and how a run is kept."""

    output: Path
    resume: bool = True
    cache: bool = False
    command: str = ""
    name: str | None = None  # of the model's folder; None: from the model's own name
    inputs_sha256: str = ""  # see RunRecord


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A loaded model beside its prepared tasks."""

    engine: Engine
    tasks: list[PreparedTask]
    skipped: dict[str, str]  # task: why the model cannot do it
    cache: ScoreCache | None = None  # that serves the engine


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that is there and of a known type; its weights are not read yet."""

    options: ModelOptions
    source: ModelSource
    config: Any | None
    kind: str
    head: HeadRecord | None = None  # of a classifier


@dataclass(frozen=True, slots=True)
class Prepared:
    """The tasks that a model can do, with documents and prompts; models of one type and template share them."""

    tasks: list[PreparedTask]
    skipped: dict[str, str]  # task: why the model cannot do it


def find(options: ModelOptions) -> FoundModel:
    """Find a model and check what needs no weights.

    Raises:
        LmevalError: It is not there, not of the type asked for, or an option does not apply to it.
    """
    source = find_model(options)
    _check_parts(options, source)
    config = load_config(source, options)
    kind = check_type(config, options)
    check_device_map(options.device_map, options.device)
    if options.workers is None:
        choose_device(options.device)
    else:
        check_ray(options.ray_address)
    head = head_of(config, options) if kind == "classifier" else None
    return FoundModel(options, source, config, kind, head)


def prepare_tasks(job: Job, found: FoundModel, listener: Listener) -> Prepared:
    """Read the documents and render the prompts of the tasks that the model can do.

    Raises:
        LmevalError: Whatever is wrong with tasks, documents or the chat template.
    """
    specs, skipped = tasks_that_fit(job, found.kind, found.head)
    left_out = _not_perturbed(specs, job.settings, for_head=found.head is not None)
    if found.head is not None:
        _refuse_prompting(job)
    template = None
    if job.chat:
        template = chat_template(load_encoder(found.source, found.options).hf, found.options.model)
    elif job.settings.system is not None:
        raise UsageError("--system is a message of a chat", fix="add --chat, or leave out --system")
    listener.begin("documents", len(specs))
    tasks = []
    for spec in specs:
        try:
            task = prepare(spec, job.settings, template, for_head=found.head is not None)
            if found.head is not None:
                check_head(spec, found.head, task.prompts)
            tasks.append(task)
        except ModelError as error:
            if _is_named(spec, job):
                raise
            skipped[spec.name] = error.what
        listener.advance()
    if not tasks:
        raise _fits_none(job, found.kind, skipped)
    return Prepared(tasks, skipped | left_out)


def load(found: FoundModel, listener: Listener, cache: ScoreCache | None = None) -> Engine:
    """The engine of a model, served by the cache, if any; then its weights are loaded only once they are asked.

    Raises:
        ModelError: Tokenizer or weights do not load.
    """
    source, options, config = found.source, found.options, found.config
    if source.folder is None:
        listener.begin("conversion", 1)
        source = convert_gguf(source)
        listener.advance()
    encoder = load_encoder(source, options)

    def load_weights() -> Engine:
        listener.begin("model" if options.workers is None else "workers", 1)
        engine: Engine
        with stopping.at_once():
            if options.workers is None:
                engine = load_engine(source, config, encoder, options)
            else:
                engine = WorkersEngine(options, options.workers or None, options.ray_address)
        listener.advance()
        return engine

    return load_weights() if cache is None else cached_engine(cache, source, options, encoder, load_weights)


def open_job(job: Job, listener: Listener, cache: ScoreCache | None = None) -> OpenJob:
    """Check and prepare everything, then load the model, which the cache serves, if any.

    Raises:
        LmevalError: Whatever is wrong with model, tasks or documents; before weights are read wherever it can be seen.
    """
    found = find(job.options)
    prepared = prepare_tasks(job, found, listener)
    return OpenJob(load(found, listener, cache), prepared.tasks, prepared.skipped, cache)


def run_job(job: Job, keep: Keep, listener: Listener) -> tuple[RunRecord, Path]:
    """A whole run, resumed where an unfinished one of the same inputs is there; its record and folder.

    Raises:
        LmevalError: As `open_job`; StoreError where the results cannot be written.
    """
    begin = time.perf_counter()
    check_writable(keep.output)
    with open_cache(keep.cache) as cache:
        return run_opened(open_job(job, listener, cache), job, keep, listener, begin)


def run_opened(
    opened: OpenJob, job: Job, keep: Keep, listener: Listener, begin: float
) -> tuple[RunRecord, Path]:
    """As `run_job`, for a model that is loaded; `begin` is the `time.perf_counter` at which the run began."""
    fingerprint = run_fingerprint(opened.engine, opened.tasks)

    def score(stores: Sequence[Outputs]) -> Scored:
        return {
            task.spec.name: evaluate_perturbed(
                task, opened.engine, seed=job.settings.seed, stores=stores, listener=listener
            )
            for task in opened.tasks
        }

    return keep_run(opened, job, keep, fingerprint, begin, score)


def keep_run(
    opened: OpenJob,
    job: Job,
    keep: Keep,
    fingerprint: str,
    begin: float,
    score: Callable[[Sequence[Outputs]], Scored],
) -> tuple[RunRecord, Path]:
    """Score by `score`, which is given the run's journal and the cache, if any, and keep the run.

    Args:
        fingerprint: An unfinished run of the same one is gone on with.
        begin: The `time.perf_counter` at which the run began.
        score: Gives every task's record and samples.
    """
    journal = open_run(
        keep.output, keep.name or job.options.model, fingerprint, resume=keep.resume, begin=begin
    )
    folder = journal.path.parent
    with contextlib.ExitStack() as closing:
        closing.enter_context(contextlib.closing(journal))
        if journal.num_damaged:
            print(DAMAGED.format(journal=journal), file=sys.stderr)
        stores: list[Outputs] = [journal]
        if opened.cache is not None:
            stores.append(opened.cache)
        stopping.remember(_going_on(keep.command))
        scored = score(stores)
        record = run_record(
            opened.engine,
            {name: task for name, (task, _) in scored.items()},
            run_id=folder.name,
            command=keep.command,
            seed=job.settings.seed,
            seconds_total=journal.seconds(),
            usage=journal.total(opened.engine.usage),
            skipped=opened.skipped,
            chat_template_sha256=opened.tasks[0].chat_template_sha256,
            system_prompt=job.settings.system,
        )
        # a clock that went back must not make a run end before it began
        created = max(record.created, began(folder.name) or record.created)
        record = replace(record, created=created, inputs_sha256=keep.inputs_sha256)
        files = {name: samples for _, by_file in scored.values() for name, samples in by_file.items()}
        finish_run(folder, record, files)
        journal.is_done()
    stopping.remember(None)
    return record, folder


def _going_on(command: str) -> str | None:
    """The command that goes on with a run."""
    words = [word for word in shlex.split(command) if word != "--no-resume"]
    return shlex.join(words) or None


def _check_parts(options: ModelOptions, source: ModelSource) -> None:
    """Refuse a revision of what has none, and an adapter that is not there."""
    if options.revision is not None and source.revision is None:
        raise UsageError(
            f"--revision {options.revision} is for models on the hub, and {options.model} is none",
            fix="leave out --revision, or give a hub id",
        )
    if options.adapter is not None and not (Path(options.adapter) / "adapter_config.json").is_file():
        raise ModelError(
            f"the adapter {options.adapter} is no folder that holds adapter_config.json",
            fix="give the folder that PEFT's save_pretrained wrote",
        )


def _refuse_prompting(job: Job) -> None:
    """Refuse what a fine-tuned head, which reads the text alone, would pass over."""
    settings = job.settings
    asked = {"--num-fewshot": bool(settings.num_fewshot), "--chat": job.chat, "--system": settings.system}
    for option in (name for name, given in asked.items() if given):
        raise UsageError(
            f"{option} is for models that are prompted, and {job.options.model} is a classifier: its head reads the "
            "text alone",
            fix=f"leave out {option}",
        )


def _not_perturbed(specs: Sequence[TaskSpec], settings: Settings, *, for_head: bool) -> dict[str, str]:
    """Task+perturbation: why the one does not apply to the other.

    Raises:
        UsageError: A perturbation that was asked for applies to no task.
    """
    left_out: dict[str, str] = {}
    for perturbation in settings.perturb:
        whys = {
            spec.name: why_not(
                spec, num_shots(spec, settings, for_head=for_head), perturbation, for_head=for_head
            )
            for spec in specs
        }
        if all(whys.values()):
            shown = [f"{name}: {why}" for name, why in whys.items()][:MOST_SHOWN]
            more = [f"and {len(whys) - MOST_SHOWN} more"] if len(whys) > MOST_SHOWN else []
            raise UsageError(
                f"--perturb {perturbation} applies to none of the tasks.",
                where="; ".join([*shown, *more]),
                fix="leave it out, or choose tasks that have what it changes",
            )
        left_out |= {perturbed_name(name, perturbation): why for name, why in whys.items() if why}
    return left_out


def tasks_that_fit(
    job: Job, kind: str, head: HeadRecord | None = None
) -> tuple[tuple[TaskSpec, ...], dict[str, str]]:
    """The tasks that a model of this type, with this head, can do, and why it cannot do the others.

    A task asked for by name or file must fit; those that a glob or a tag brought in are left out, and the
    record says so.

    Raises:
        ModelError: One asked for does not fit, or none does.
    """
    fit, skipped = [], {}
    for spec in job.specs:
        try:
            check_can_do(kind, spec)
            if head is not None:
                check_head(spec, head)
            fit.append(spec)
        except ModelError as error:
            if _is_named(spec, job):
                raise
            skipped[spec.name] = error.what
    if not fit:
        raise _fits_none(job, kind, skipped)
    return tuple(fit), skipped


def _is_named(spec: TaskSpec, job: Job) -> bool:
    """Whether the user asked for the task by its name or file."""
    return spec.name in job.named or spec.file in map(Path, job.named)


def _fits_none(job: Job, kind: str, skipped: Mapping[str, str]) -> ModelError:
    return ModelError(
        f"{job.options.model} is a {kind} model and can do none of the tasks chosen: {', '.join(skipped)}",
        where=next(iter(skipped.values())),
        fix="`lmeval tasks list` shows the tasks and their types",
    )
