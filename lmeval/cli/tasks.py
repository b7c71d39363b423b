"""`lmeval tasks`: list, show, validate and write task files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmeval.cli.options import Offline
from lmeval.cli.task_templates import example_documents, new_task_file
from lmeval.errors import LmevalError, TaskError, UsageError, did_you_mean
from lmeval.printable import printable, printable_lines
from lmeval.records import Prompt
from lmeval.requests import WRITTEN
from lmeval.specs import TASK_TYPES, ClassificationTask, TaskSpec
from lmeval.task import all_tasks, find_tasks, json_schema, load_task_file

tasks_app = typer.Typer(no_args_is_help=True, help="List, show, check and write task files.")

TasksDirs = Annotated[list[Path] | None, typer.Option(help="A further folder of task files.")]
CountTokens = Callable[[str], int]
SCORED = "bold green"


@tasks_app.command("list")
def list_tasks(tasks_dir: TasksDirs = None) -> None:
    """List the tasks; tab-separated where the output is no terminal."""
    columns = ("name", "type", "version", "shots", "tags", "description")
    rows = [
        (s.name, s.type, str(s.version), str(s.num_fewshot), " ".join(s.tags), s.description)
        for s in all_tasks(tasks_dir or ())
    ]
    if not sys.stdout.isatty():
        typer.echo("\n".join("\t".join(map(printable, row)) for row in (columns, *rows)))
        return
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)


@tasks_app.command()
def show(
    name: Annotated[str, typer.Argument(help="A task's name, or a task file.")],
    model: Annotated[str | None, typer.Option(help="Count tokens as this model's tokenizer does.")] = None,
    data_root: Annotated[
        Path | None, typer.Option(envvar="LMEVAL_DATA", help="A mirror to read before the hub.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="Documents to show.")] = 1,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="Shots, in place of the task's.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of random shots.")] = 0,
    tasks_dir: TasksDirs = None,
    allow_path: Annotated[
        list[Path] | None, typer.Option(help="A further folder that task files may read data in.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Show a task's facts and its first documents as a model reads them; ⟦the scored part⟧ is marked."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for spec in find_tasks([name], tasks_dir or ()):
        if num_fewshot is not None and spec.takes_shots:
            spec = spec.model_copy(update={"num_fewshot": num_fewshot})
        for line in _facts(spec):
            console.print(printable_lines(line))
        where = {
            "data_root": data_root,
            "offline": offline,
            "allowed": (*(tasks_dir or ()), *(allow_path or ())),
        }
        prompts = _first_prompts(spec, where, num, seed)
        heads = _first_prompts(spec, where, num, seed, for_head=True) if _is_for_both(spec) else prompts
        count_tokens = _token_counter(model)
        for prompt, head in zip(prompts, heads, strict=True):
            console.print(f"\n─── document {prompt.document.doc_id} ───")
            if prompt.text is None:
                for text in _marked(spec, prompt, count_tokens):
                    console.print(text)
            for line in _read_by_head(head):
                console.print(printable_lines(line))
        console.print()


@tasks_app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="Task files.")]) -> None:
    """Check task files and their templates; every problem is named with file, line and key."""
    from lmeval.rendering import TaskTemplates

    errors: list[LmevalError] = []
    for file in files:
        try:
            specs = load_task_file(file)
            for spec in specs:
                TaskTemplates(spec)
        except LmevalError as error:
            errors.append(error)
        else:
            typer.echo(f"{file}: ok, {len(specs)} task{'s' if len(specs) > 1 else ''}")
    if len(errors) == 1:
        raise errors[0]
    if errors:
        for found in errors:
            typer.echo(f"error: {found}\n", err=True)
        raise TaskError(f"{len(errors)} of {len(files)} task files are not valid.")


@tasks_app.command()
def new(
    name: Annotated[str, typer.Argument(help="The task's name: lower_snake_case.")],
    type_name: Annotated[str, typer.Option("--type", help=f"One of: {', '.join(TASK_TYPES)}.")],
) -> None:
    """Write NAME.yaml to start from, and NAME.jsonl with example documents."""
    if type_name not in TASK_TYPES:
        allowed = f"one of: {', '.join(TASK_TYPES)}"
        raise UsageError(f'There is no type "{type_name}".{did_you_mean(type_name, TASK_TYPES)}', fix=allowed)
    if not (name.isascii() and name.isidentifier() and name == name.lower() and name[0] != "_"):
        raise UsageError(f'"{name}" is no name for a task: it is lower_snake_case, a letter first.')
    contents = {
        Path(f"{name}.yaml"): new_task_file(name, type_name),
        Path(f"{name}.jsonl"): example_documents(type_name),
    }
    for file in contents:
        if file.exists():
            raise UsageError(
                "The file exists and is not overwritten.", where=str(file), fix="Take another name."
            )
    for file, content in contents.items():
        try:
            file.write_text(content, encoding="utf-8", newline="\n")
        except OSError as error:
            raise UsageError(f"The file cannot be written: {error.strerror}.", where=str(file)) from None
        typer.echo(f"wrote {file}")
    typer.echo(f"next: lmeval tasks show {name}.yaml")


@tasks_app.command()
def schema() -> None:
    """Print the JSON Schema of task files, for editors."""
    typer.echo(json.dumps(json_schema(), indent=2))


# ---- show ----


def _facts(spec: TaskSpec) -> Iterator[str]:
    dataset = spec.dataset
    parts = (dataset.path, dataset.label, dataset.split, dataset.revision)
    yield f"{spec.name}  {spec.type}, version {spec.version}"
    if spec.description:
        yield spec.description
    yield f"file      {spec.file}"
    yield f"hash      {spec.sha256}"
    yield f"data      {', '.join(part for part in parts if part)}"
    if spec.takes_shots:
        source = dataset.fewshot_path or dataset.fewshot_split or "the same split"
        yield f"shots     {spec.num_fewshot} ({spec.fewshot}, from {source})"
    if isinstance(spec, WRITTEN):
        decoding = spec.decoding.model_dump(exclude_none=True)
        yield f"writes    {', '.join(str(v) if k == 'strategy' else f'{k} {v}' for k, v in decoding.items())}"
    yield f"metrics   {', '.join(spec.metrics)}"
    if spec.group_by:
        yield f"group by  {spec.group_by}"
    if spec.cluster:
        yield f"cluster   {spec.cluster}"
    if spec.tags:
        yield f"tags      {', '.join(spec.tags)}"


def _is_for_both(spec: TaskSpec) -> bool:
    """Whether the task says what a fine-tuned head reads, beside what a model is prompted with."""
    return isinstance(spec, ClassificationTask) and spec.text is not None


def _first_prompts(
    spec: TaskSpec, where: Mapping[str, Any], num: int, seed: int, *, for_head: bool = False
) -> list[Prompt]:
    from lmeval.documents import load_documents, load_shots
    from lmeval.prompts import build_prompts

    documents = load_documents(spec.dataset, spec.base_dir, **where)
    num_fewshot = 0 if for_head else spec.num_fewshot
    shots = load_shots(spec, documents, **where) if num_fewshot else None
    return build_prompts(
        spec, documents, shots, num_fewshot=num_fewshot, seed=seed, limit=num, for_head=for_head
    )


def _token_counter(model: str | None) -> CountTokens | None:
    if model is None:
        return None
    from lmeval.engine.loading import load_tokenizer

    tokenizer = load_tokenizer(model)
    return lambda text: len(tokenizer.encode(text))


def _read_by_head(prompt: Prompt) -> Iterator[str]:
    """What a fine-tuned head reads, and what is right."""
    if prompt.text is None:
        return
    yield "a fine-tuned head reads"
    yield f"  text       {prompt.text!r}"
    if prompt.text_pair is not None:
        yield f"  text_pair  {prompt.text_pair!r}"
    if prompt.value is not None:
        yield f"  right      {prompt.value:g}"
    elif prompt.choices is not None and prompt.label is not None:
        names = prompt.labels or tuple(choice.strip() for choice in prompt.choices)
        yield f"  right      {names[prompt.label]!r} of {', '.join(map(repr, names))}"


def _marked(spec: TaskSpec, prompt: Prompt, count_tokens: CountTokens | None) -> Iterator[Text]:
    """The prompt as a model reads it, the scored part between ⟦ and ⟧, and what is expected."""
    if prompt.references is not None:
        until = getattr(spec, "stop", ())
        limit = f"at most {getattr(spec, 'max_new_tokens', 0)} tokens, up to {json.dumps(list(until))}"
        yield Text.assemble(
            printable_lines(prompt.context),
            (f"⟦written: {limit}⟧", SCORED),
            _tokens(count_tokens, prompt.context),
        )
        for reference in prompt.references:
            yield Text(f"reference: {reference!r}")
    elif prompt.choices is None or spec.type == "cloze":
        assert prompt.target is not None
        tokens = _tokens(count_tokens, prompt.context, prompt.target)
        before, target, after = map(printable_lines, (prompt.context, prompt.target, prompt.suffix))
        yield Text.assemble(before, (f"⟦{target}⟧", SCORED), after, tokens)
        for choice in prompt.choices or ():
            yield Text(f"choice: {choice!r}")
    else:
        yield from _marked_choices(prompt, count_tokens)


def _marked_choices(prompt: Prompt, count_tokens: CountTokens | None) -> Iterator[Text]:
    assert prompt.choices is not None
    if prompt.context:
        yield Text(printable_lines(prompt.context))
    contexts = prompt.contexts or ("",) * len(prompt.choices)
    for index, (own_context, choice) in enumerate(zip(contexts, prompt.choices, strict=True)):
        right = "*" if index == prompt.label else " "
        tokens = _tokens(count_tokens, prompt.context or own_context, choice)
        before, scored = printable_lines(own_context), printable_lines(choice)
        yield Text.assemble(f"{right} {index}: {before}", (f"⟦{scored}⟧", SCORED), tokens)


def _tokens(count_tokens: CountTokens | None, context: str, scored: str | None = None) -> str:
    if count_tokens is None:
        return ""
    before = count_tokens(context) if context else 0
    if scored is None:
        return f"  ({before} tokens of context)"
    return f"  ({before} tokens of context, {count_tokens(context + scored) - before} scored)"
