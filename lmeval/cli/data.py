"""`lmeval data`: bring the data sets of tasks into a mirror."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer

from lmeval.documents import current_revision, load_documents
from lmeval.mirror import is_current, mirror_file, write_mirror
from lmeval.task import TaskSpec, find_tasks

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
    """Write the data sets of tasks to a mirror that --data-root reads."""
    selectors = [name.strip() for name in tasks.split(",") if name.strip()]
    written: set[Path] = set()
    for spec in find_tasks(selectors, tasks_dir or ()):
        if spec.dataset.is_local:
            typer.echo(f"{spec.name}: a local file, nothing to pull ({spec.base_dir / spec.dataset.path})")
        for dataset, split in itertools.product(spec.dataset.parts, _splits(spec)):
            file = mirror_file(dataset, split, to)
            if file in written:
                continue
            documents = load_documents(dataset, spec.base_dir, split=split, data_root=data_root)
            write_mirror(documents, file)
            written.add(file)
            typer.echo(f"{spec.name}: {len(documents):,} documents -> {file}")


def _splits(spec: TaskSpec) -> list[str]:
    """The hub splits that a task reads."""
    dataset = spec.dataset
    return [] if dataset.is_local else [s for s in (dataset.split, dataset.fewshot_split) if s is not None]
