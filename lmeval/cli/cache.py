"""`lmeval cache`: what is kept of earlier runs, and letting go of it."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmeval.errors import UsageError

if TYPE_CHECKING:
    from lmeval.cache.upkeep import CacheInfo, Cleared

cache_app = typer.Typer(no_args_is_help=True, help="Show or clear what is kept of earlier runs.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")]
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
RUNS_SHOWN = 5


@cache_app.command()
def info(as_json: AsJson = False) -> None:
    """Show where the cache is, how large it is and may be, and of which models it holds outputs."""
    from lmeval.cache.upkeep import read_info

    found = read_info()
    if as_json:
        typer.echo(json.dumps({**_plain(asdict(found)), "entries": found.entries}, indent=1))
    else:
        _print_info(found)


@cache_app.command()
def clear(
    model: Annotated[
        str | None,
        typer.Option(help="Only of this model: a name, a pattern, or the first digits of its weights' hash."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only what was not used for so long: 30d, 12h, 2w.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove outputs, converted GGUF files, hashes of weights and the like; the next runs compute them anew."""
    from lmeval.cache import upkeep

    removed = upkeep.clear(model, _seconds(older_than))
    if as_json:
        typer.echo(json.dumps(_plain(asdict(removed)), indent=1))
    else:
        typer.echo("\n".join(_removed_lines(removed)))


def _seconds(text: str | None) -> float | None:
    """The value of --older-than.

    Raises:
        UsageError: It is no length of time.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text.strip(), re.ASCII)
    if found is None:
        raise UsageError(
            f'--older-than "{text[:40]}" is no length of time', fix="give such as 12h, 30d or 2w"
        )
    return float(found[1]) * SECONDS[found[2]]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _print_info(found: CacheInfo) -> None:
    from rich.table import Table
    from rich.text import Text

    from lmeval.cli.table import make_console

    console = make_console()
    for line in _head_lines(found):
        console.print(Text(line), soft_wrap=True)
    if found.models:
        names = ("model", "type", "dtype", "window", "device", "weights", "outputs", "size", "last used")
        table = Table(*names)
        for column in (table.columns[3], *table.columns[6:8]):
            column.justify = "right"
        for kept in found.models:
            facts = (kept.type, kept.dtype, kept.window, kept.device, kept.weights_sha256[:10])
            counts = (f"{kept.entries:,}", size(kept.bytes), _time(kept.used))
            table.add_row(*map(Text, (_short(kept.name), *facts, *counts)))
        console.print(table)
    for line in _tail_lines(found):
        console.print(Text(line), soft_wrap=True)


def _head_lines(found: CacheInfo) -> Iterator[str]:
    yield f"folder    {found.folder}"
    bound = (
        "nothing is kept: LMEVAL_CACHE_SIZE is 0" if not found.limit else f"of {size(found.limit)} at most"
    )
    yield f"outputs   {found.entries:,} in {size(found.bytes)}, {bound}"
    if found.problem is not None:
        yield f"problem   {found.file.name} cannot be read: {found.problem}; the next run begins it anew"
    if found.models:
        oldest = min(kept.created for kept in found.models)
        newest = max(kept.used for kept in found.models)
        yield f"between   {_time(oldest)} (the oldest) and {_time(newest)} (the last used)"


def _tail_lines(found: CacheInfo) -> Iterator[str]:
    for run in found.runs[:RUNS_SHOWN]:
        share = run.found / max(1, run.asked)
        yield (
            f"run       {_time(run.ended)}, {_short(run.model)}: {run.found:,} of {run.asked:,} outputs found "
            f"({100 * share:.0f} %), {run.kept:,} added"
        )
    for conversion in found.conversions:
        yield f"GGUF      {_short(conversion.name)}, {size(conversion.bytes)}, last used {_time(conversion.used)}"
    beside = []
    if found.num_hashes:
        beside.append(f"{counted(found.num_hashes, 'hash', 'hashes')} of weights")
    if found.leaderboard_bytes:
        beside.append(f"{size(found.leaderboard_bytes)} of scores read for leaderboards")
    if beside:
        yield f"beside    {', '.join(beside)}"


def _removed_lines(removed: Cleared) -> Iterator[str]:
    if not (removed.entries or removed.conversions or removed.num_hashes or removed.bytes):
        yield "nothing to remove"
        return
    whose = f" of {', '.join(map(_short, removed.models))}" if removed.models else ""
    if removed.entries:
        yield f"removed {counted(removed.entries, 'output', 'outputs')}{whose}"
    for name in removed.conversions:
        yield f"removed the conversion of {_short(name)}"
    if removed.num_hashes:
        yield f"removed {counted(removed.num_hashes, 'hash', 'hashes')} of weights"
    yield f"{size(removed.bytes)} freed"


def _short(name: str) -> str:
    from lmeval.printable import printable

    text = printable(name)
    return text if len(text) <= 60 else f"...{text[-57:]}"


def counted(number: int, one: str, many: str) -> str:
    """A number and what it counts."""
    return f"{number:,} {one if number == 1 else many}"


def size(num_bytes: int) -> str:
    """Bytes in the unit that fits."""
    value, unit = float(num_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{value:,.1f} {unit}"


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
