"""`lmeval run`: check everything that needs no weights, load the model, score, print, and keep the run."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmeval.errors import ModelError, UsageError
from lmeval.task import find_tasks

if TYPE_CHECKING:
    from lmeval.engine.base import Engine
    from lmeval.engine.sources import ModelOptions, ModelSource
    from lmeval.evaluate import Listener, PreparedTask, Settings
    from lmeval.prompts import Chat
    from lmeval.records import Sample, TaskRecord
    from lmeval.specs import TaskSpec


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


@dataclass(frozen=True, slots=True)
class RunFlags:
    """How a run is kept and shown."""

    output: Path
    resume: bool
    cache: bool
    quiet: bool
    as_json: bool
    command: str


def run(
    model: Annotated[str, typer.Option(help="Hub id, local folder, .gguf file, demo or demo-masked.")],
    tasks: Annotated[str, typer.Option(help="Names, globs, tag:NAME or YAML files, separated by commas.")],
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub.")] = None,
    model_type: Annotated[ModelType, typer.Option(help="Refuse a model of another type.")] = ModelType.auto,
    dtype: Annotated[DType, typer.Option(help="auto: the checkpoint's own.")] = DType.auto,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    adapter: Annotated[str | None, typer.Option(help="Folder of a PEFT adapter to merge in.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="Shots, in place of each task's.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N documents: a partial score.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random shots and bootstrap intervals.")] = 0,
    max_length: Annotated[int | None, typer.Option(min=2, help="Window in tokens, if not all.")] = None,
    batch_tokens: Annotated[str, typer.Option(help="Tokens run at once: auto or a number.")] = "auto",
    chat: Annotated[bool, typer.Option("--chat", help="Apply the model's chat template.")] = False,
    pll: Annotated[Pll, typer.Option(help="How masked models score a text.")] = Pll.within_word_l2r,
    tasks_dir: Annotated[list[Path] | None, typer.Option(help="A further folder of task files.")] = None,
    data_root: Annotated[
        Path | None, typer.Option(envvar="LMEVAL_DATA", help="A mirror of hub data sets, read first.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
    resume: Annotated[bool, typer.Option(help="Go on with an unfinished run of the same command.")] = True,
    cache: Annotated[bool, typer.Option(help="Reuse outputs that an earlier run kept with --cache.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the hub.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let the model's folder run code.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print run.json in place of the table.")] = False,
) -> None:
    """Evaluate a model on tasks."""
    if limit is not None and limit < 1:
        raise UsageError(
            f"--limit {limit} leaves no documents", fix="give 1 or more, or leave it out for all"
        )
    selectors = [name.strip() for name in tasks.split(",") if name.strip()]
    specs = find_tasks(selectors, tasks_dir or ())
    from lmeval.engine.sources import ModelOptions
    from lmeval.evaluate import Settings

    options = ModelOptions(
        model=model,
        revision=revision,
        model_type=model_type.value,
        dtype=dtype.value,
        device=device,
        adapter=adapter,
        max_length=max_length,
        batch_tokens=_parse_batch_tokens(batch_tokens),
        pll=pll.value,
        trust_remote_code=trust_remote_code,
        offline=offline,
    )
    settings = Settings(num_fewshot=num_fewshot, limit=limit, seed=seed, data_root=data_root, offline=offline)
    command = shlex.join(["lmeval", *sys.argv[1:]])
    flags = RunFlags(output, resume, cache, quiet, as_json, command)
    _run(specs, selectors, options, settings, flags, chat=chat)


def _parse_batch_tokens(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(
            f'--batch-tokens "{text}" is neither auto nor a number of at least 1',
            fix="leave it out: auto fits the device",
        )
    return int(text)


def _run(
    specs: tuple[TaskSpec, ...],
    selectors: list[str],
    options: ModelOptions,
    settings: Settings,
    flags: RunFlags,
    *,
    chat: bool,
) -> None:
    begin = time.perf_counter()
    from lmeval.cli.progress import make_listener
    from lmeval.cli.table import print_run
    from lmeval.engine.loading import check_type, choose_device, load_config, load_encoder, load_engine
    from lmeval.engine.sources import find_model
    from lmeval.evaluate import run_fingerprint, run_record
    from lmeval.store import begin_run, check_writable, finish_run, run_text

    check_writable(flags.output)
    source = find_model(options)
    _check_parts(options, source)
    config = load_config(source, options)
    specs, skipped = _that_fit(specs, check_type(config, options), options, selectors)
    choose_device(options.device)
    template = _chat_template(load_encoder(source, options).hf, options.model) if chat else None
    with make_listener(quiet=flags.quiet) as listener:
        prepared = _prepare(specs, settings, template, listener)
        listener.begin("model", 1)
        engine = load_engine(source, config, load_encoder(source, options), options)
        listener.advance()
        fingerprint = run_fingerprint(engine, prepared)
        folder = begin_run(flags.output, options.model, fingerprint, resume=flags.resume)
        records, samples = _evaluate(prepared, engine, settings.seed, folder, listener, cache=flags.cache)
    record = run_record(
        engine,
        records,
        run_id=folder.name,
        command=flags.command,
        seed=settings.seed,
        seconds_total=time.perf_counter() - begin,
        skipped=skipped,
    )
    finish_run(folder, record, samples)
    if flags.as_json:
        typer.echo(run_text(record), nl=False)
    else:
        print_run(record, folder)


def _prepare(
    specs: tuple[TaskSpec, ...], settings: Settings, template: Chat | None, listener: Listener
) -> list[PreparedTask]:
    from lmeval.evaluate import prepare

    listener.begin("documents", len(specs))
    prepared = []
    for spec in specs:
        prepared.append(prepare(spec, settings, template))
        listener.advance()
    return prepared


def _evaluate(
    prepared: list[PreparedTask], engine: Engine, seed: int, folder: Path, listener: Listener, *, cache: bool
) -> tuple[dict[str, TaskRecord], dict[str, list[Sample]]]:
    """Every task's record and samples, the outputs kept in the run's journal and, if wanted, in the cache."""
    from lmeval.engine.sources import cache_dir
    from lmeval.evaluate import evaluate
    from lmeval.store import JOURNAL, OutputStore

    records, samples = {}, {}
    with contextlib.ExitStack() as closing:
        stores = [closing.enter_context(contextlib.closing(OutputStore(folder / JOURNAL)))]
        if cache:
            shared = OutputStore(cache_dir() / "outputs.sqlite")
            stores.append(closing.enter_context(contextlib.closing(shared)))
        for task in prepared:
            records[task.spec.name], samples[task.spec.name] = evaluate(
                task, engine, seed=seed, stores=stores, listener=listener
            )
    return records, samples


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


def _that_fit(
    specs: tuple[TaskSpec, ...], kind: str, options: ModelOptions, selectors: list[str]
) -> tuple[tuple[TaskSpec, ...], dict[str, str]]:
    """The tasks that a model of this type can do, and why it cannot do the others.

    A task asked for by name or file must fit; those that a glob or a tag brought in are left out, and the
    record says so.
    """
    from lmeval.requests import check_can_do

    fit, skipped = [], {}
    for spec in specs:
        try:
            check_can_do(kind, spec)
            fit.append(spec)
        except ModelError as error:
            if spec.name in selectors or spec.file in map(Path, selectors):
                raise
            skipped[spec.name] = error.what
    if not fit:
        raise ModelError(
            f"{options.model} is a {kind} model and can do none of the tasks chosen: {', '.join(skipped)}",
            fix="`lmeval tasks list` shows the tasks and their types",
        )
    return tuple(fit), skipped


def _chat_template(tokenizer: object, model: str) -> Chat:
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"{model} has no chat template",
            fix="leave out --chat, or use a model whose tokenizer has a template",
        )

    def apply(messages: list[dict[str, str]]) -> str:
        text = tokenizer.apply_chat_template(  # type: ignore[attr-defined]
            messages, tokenize=False, add_generation_prompt=True
        )
        return str(text)

    return apply
