"""`lmeval data`: bring the data sets of tasks into a mirror."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from lmeval.documents import current_revision, load_documents
from lmeval.errors import UsageError
from lmeval.mirror import is_current, mirror_file, write_mirror
from lmeval.specs import DatasetSpec, TaskSpec
from lmeval.task import find_tasks

data_app = typer.Typer(no_args_is_help=True, help="Bring data sets to where there is no hub.")


@data_app.callback()
def _data() -> None:
    """Keep `pull` a named command although it is the only one."""


@data_app.command()
def pull(
    tasks: Annotated[str, typer.Option(help="Names, globs, tags or files, separated by commas.")],
    to: Annotated[Path, typer.Option(help="The mirror folder to write.")],
    data_root: Annotated[
        Path | None, typer.Option(envvar="LMEVAL_DATA", help="A mirror to read before the hub.")
    ] = None,
    tasks_dir: Annotated[list[Path] | None, typer.Option(help="A further folder of task files.")] = None,
) -> None:
    """Write the data sets of tasks to a mirror that --data-root reads, but for what is there and current."""
    selectors = [name.strip() for name in tasks.split(",") if name.strip()]
    specs = find_tasks(selectors, tasks_dir or ())
    _refuse_two_revisions(specs, to)
    written: set[Path] = set()
    for spec in specs:
        if spec.dataset.is_local:
            typer.echo(f"{spec.name}: a local file, nothing to pull ({spec.base_dir / spec.dataset.path})")
        for dataset, split in itertools.product(spec.dataset.parts, _splits(spec)):
            file = mirror_file(dataset, split, to)
            if file not in written:
                typer.echo(f"{spec.name}: {_pull(dataset, spec.base_dir, split, to, data_root)}")
                written.add(file)
    for note in _also_needed(specs):
        typer.echo(note, err=True)


def _pull(dataset: DatasetSpec, base_dir: Path, split: str, to: Path, data_root: Path | None) -> str:
    """Bring one split, unless it is there; what became of it."""
    file = mirror_file(dataset, split, to)
    if file.exists() and is_current(dataset, split, to, current_revision(dataset, split, data_root)):
        return f"is there and current: {file}"
    documents = load_documents(dataset, base_dir, split=split, data_root=data_root)
    write_mirror(documents, dataset, split, to, documents.revision)
    return f"{len(documents):,} documents -> {file}"


def _refuse_two_revisions(specs: Iterable[TaskSpec], to: Path) -> None:
    """A mirror holds a split once."""
    wanted: dict[Path, TaskSpec] = {}
    for spec in specs:
        for dataset, split in itertools.product(spec.dataset.parts, _splits(spec)):
            other = wanted.setdefault(mirror_file(dataset, split, to), spec)
            if other.dataset.revision != dataset.revision:
                raise UsageError(
                    f"{other.name} and {spec.name} ask for different revisions of {dataset.path}, split {split}.",
                    where=f"{other.file} and {spec.file}",
                    fix="pull them into different mirrors",
                )


def _also_needed(specs: Iterable[TaskSpec]) -> Iterator[str]:
    """What an offline machine needs beside data sets."""
    from lmeval.metrics import PLUGIN_PREFIX

    for spec in specs:
        for metric in spec.metrics:
            if metric.startswith(PLUGIN_PREFIX):
                yield f"{spec.name}: copy the script of the metric {metric}, too, and name its path in the task"
        tokenize = getattr(spec, "bleu_tokenize", None)
        if tokenize is not None and tokenize.startswith(("flores", "spm")):
            yield f"{spec.name}: copy sacrebleu's file of the tokenizer {tokenize}, too (~/.sacrebleu/models)"
    yield "the model is not part of a mirror: copy its folder, too (`hf download MODEL --local-dir DIR`)"


def _splits(spec: TaskSpec) -> list[str]:
    """The hub splits that a task reads."""
    dataset = spec.dataset
    return [] if dataset.is_local else [s for s in (dataset.split, dataset.fewshot_split) if s is not None]
