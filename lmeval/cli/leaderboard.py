"""`lmeval leaderboard`: finished runs as a page, a Markdown table, CSV or JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmeval.cli.files import write_file
from lmeval.errors import UsageError
from lmeval.printable import printable

if TYPE_CHECKING:
    from lmeval.leaderboard import Board

ENDINGS = (".html", ".md", ".csv", ".json")


def leaderboard(
    output: Annotated[
        Path, typer.Option(help="The file to write; its ending decides: .html, .md, .csv or .json.")
    ],
    results: Annotated[Path, typer.Argument(help="The folder of runs.")] = Path("results"),
    tasks: Annotated[
        str | None,
        typer.Option(help="Only these: names, globs or tag:NAME, with commas between. Default: every task."),
    ] = None,
    title: Annotated[str, typer.Option(help="What the board is called.")] = "Leaderboard",
    cache: Annotated[
        bool, typer.Option(help="Keep what was read of the samples in the user's cache.")
    ] = True,
) -> None:
    """Put finished runs side by side: scores with intervals, and ranks as far as the data can tell models apart.

    What cannot be read is named and left out. Columns never mix different questions; a model that lacks a column of
    the average, or has it partially, has no average.
    """
    write = _writer(output)
    patterns = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    from lmeval.engine.hashes import cache_dir
    from lmeval.leaderboard import build, find_runs
    from lmeval.leaderboard.scores import ScoreCache, read_scores

    found = find_runs(results)
    kept = ScoreCache(cache_dir()) if cache else None
    try:
        board = build(
            found.runs,
            title=title,
            tasks=patterns,
            beside=output.absolute().parent,
            notes=found.notes,
            read=kept.read if kept else read_scores,
        )
    finally:
        if kept:
            kept.close()
    write_file(output, write(board))
    for note in board.notes:
        print(f"warning: {printable(note)}", file=sys.stderr)
    print(_summary(board, output))


def _writer(output: Path) -> Callable[[Board], str]:
    """The format that the file's name asks for."""
    ending = output.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(
            f'--output {output}: there is no format for "{ending}".'
            if ending
            else f"--output {output} has no ending.",
            fix=f"name a file that ends in one of {', '.join(ENDINGS)}",
        )
    if not output.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {output.absolute().parent} to write {output.name} in.")
    if ending == ".html":
        from lmeval.leaderboard.page import page

        return page
    from lmeval.leaderboard.formats import as_csv, as_json, as_markdown

    writers: dict[str, Callable[[Board], str]] = {".md": as_markdown, ".csv": as_csv, ".json": as_json}
    return writers[ending]


def _summary(board: Board, output: Path) -> str:
    models, columns = len(board.models), len(board.columns)
    averaged = sum(average is not None for average in board.groups[0].averages)
    return (
        f"{output}: {models} {'model' if models == 1 else 'models'}, "
        f"{columns} {'column' if columns == 1 else 'columns'}, {averaged} with an average"
    )
