"""`lmeval inspect`: a text token by token, in the terminal or as a page."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lmeval.cli.job import model_options
from lmeval.cli.options import MODEL_PANEL, ModelFlags, Pll, with_flags
from lmeval.errors import DataError, UsageError
from lmeval.printable import printable

if TYPE_CHECKING:
    from lmeval.inspection import Attention, Inspection
    from lmeval.records import TokenScore

MAX_SHOWN = 2000  # tokens in a terminal
MAX_ROWS = 40  # of the table: of a longer text the most surprising tokens
LOOKS = 3  # tokens named of what one attends to


@with_flags(ModelFlags)
def inspect(
    model: Annotated[str, typer.Option(help="Hub id, local folder, .gguf file, demo or demo-masked.")],
    flags: ModelFlags,
    text: Annotated[str | None, typer.Option(help="The text.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file that holds the text, in UTF-8.")] = None,
    layer: Annotated[
        int | None, typer.Option(help="Show this layer's attention; layers count from 0.")
    ] = None,
    head: Annotated[
        int | None, typer.Option(help="With --layer: this head's, from 0, in place of the mean of all.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write a page, FILE.html, in place of the terminal.")
    ] = None,
    pll: Annotated[
        Pll, typer.Option(help="How masked models score a text.", rich_help_panel=MODEL_PANEL)
    ] = Pll.within_word_l2r,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show a text's surprisal token by token, and the attention of a layer."""
    content = _read(text, file)
    if output is not None and output.suffix not in (".html", ".htm"):
        raise UsageError(f"{output} is no name of a page", fix="give --output FILE.html")
    from lmeval.cli.files import write_file
    from lmeval.cli.progress import make_listener
    from lmeval.inspection import inspect_text
    from lmeval.store import to_json_text

    options = model_options(model, flags, pll=pll.value)
    with make_listener(quiet=True) as listener:
        found = inspect_text(options, content, listener, layer=layer, head=head)
    if output is not None:
        from lmeval.inspection.page import inspection_page

        write_file(output, inspection_page(found))
        typer.echo(output)
    if as_json:
        typer.echo(to_json_text(found.to_json()))
    elif output is None:
        print_inspection(found)


def _read(text: str | None, file: Path | None) -> str:
    """The one text that was given.

    Raises:
        UsageError: None was, or two, or an empty one.
        DataError: The file cannot be read.
    """
    if (text is None) == (file is None):
        raise UsageError("inspect reads one text", fix="give either --text TEXT or --file FILE")
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise DataError(f"{file} cannot be read: {why}", fix="give a text file in UTF-8") from None
    if not text:
        raise UsageError("the text is empty: there is nothing to score", fix="give a text of a word or more")
    return text


def print_inspection(found: Inspection, console: Console | None = None) -> None:
    """Print what a text cost, the text in the colours of its surprisal, and its tokens in a table."""
    console = console or Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    model = found.model
    variant = f", {model.pll}" if model.pll else ""
    console.print(Text(f"{printable(model.id)}  {model.type}{variant}, {model.dtype}"))
    console.print(
        Text(
            f"{len(found.tokens):,} tokens, {found.nats:,.2f} nats, {found.nats / len(found.tokens):.3f} a token, "
            f"{found.bits_per_byte:.4f} bits per byte"
        )
    )
    console.print()
    styles = _styles()
    console.print(_heat_map(found.tokens[:MAX_SHOWN], styles))
    if len(found.tokens) > MAX_SHOWN:
        console.print(Text(f"… {len(found.tokens) - MAX_SHOWN:,} more tokens: --output FILE.html shows all"))
    console.print()
    legend = Text("nats ")
    for step, style in enumerate(styles):
        legend.append(f" {step}{'+' if step == len(styles) - 1 else ''} ", style)
    console.print(legend)
    console.print(_table(found.tokens))
    if found.attention is not None:
        _print_attention(found.attention, console)


def _styles() -> list[Style]:
    """The colours of the pages' heat map, from its style sheet: dark text on light ground first, then the reverse."""
    from lmeval.pages import asset

    css = asset("tokens.css")
    pairs: dict[int, tuple[str, str]] = {}
    for step, ground, ink in re.findall(
        r"--surprise-(\d): (#[0-9a-f]{6}); --on-surprise-\d: (#[0-9a-f]{6});", css
    ):
        pairs.setdefault(int(step), (ground, ink))
    return [Style(color=pairs[step][1], bgcolor=pairs[step][0]) for step in sorted(pairs)]


def _heat_map(tokens: tuple[TokenScore, ...], styles: list[Style]) -> Text:
    from lmeval.pages.tokens import surprise_step

    text = Text(overflow="fold")
    for token in tokens:
        style = styles[surprise_step(-token.logprob)]
        for number, line in enumerate(token.text.split("\n")):
            if number:
                text.append("↵", style)
                text.append("\n")
            text.append(printable(line), style)
    return text


def _shown(text: str) -> str:
    """A token by itself: blanks show."""
    return printable(text).replace(" ", "␣") or "∅"


def _table(tokens: tuple[TokenScore, ...]) -> Table:
    """Every token of a short text, in order; of a longer one the most surprising, the worst first."""
    places = list(range(len(tokens)))
    title = None
    if len(tokens) > MAX_ROWS:
        places = sorted(places, key=lambda place: tokens[place].logprob)[:MAX_ROWS]
        title = f"the {MAX_ROWS} most surprising of {len(tokens):,} tokens"
    table = Table("place", "token", "nats", "rank", "likeliest in its place", title=title)
    for name in ("place", "nats", "rank"):
        next(column for column in table.columns if column.header == name).justify = "right"
    for place in places:
        token = tokens[place]
        table.add_row(
            f"{place + 1:,}",
            Text(_shown(token.text)),
            f"{-token.logprob:.2f}",
            f"{token.rank:,}",
            Text("  ".join(_alternatives(token))),
        )
    return table


def _alternatives(token: TokenScore) -> Iterator[str]:
    import math

    for text, logprob in token.top:
        yield f"{_shown(text)} {math.exp(logprob):.0%}"


def _print_attention(found: Attention, console: Console) -> None:
    head = (
        f"mean of {found.num_heads} heads"
        if found.head is None
        else f"head {found.head} of {found.num_heads}"
    )
    table = Table(
        "place", "token", "looks at", title=f"attention, layer {found.layer} of {found.num_layers}, {head}"
    )
    table.columns[0].justify = "right"
    for place, token in enumerate(found.tokens[:MAX_SHOWN]):
        looks = (
            f"{_shown(found.tokens[other])} {share:.0%}" for other, share in found.strongest(place, LOOKS)
        )
        table.add_row(f"{place}", Text(_shown(token)), Text("  ".join(looks)))
    console.print(table)
    console.print(Text("layers, heads and places count from 0; --output FILE.html shows all weights"))
