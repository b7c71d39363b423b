"""The gate's table: a row for every rule, a sentence for every rule that did not pass, and the worst flips."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmeval.gate.cells import COLUMNS, cells, gravest_first, legend, with_flips
from lmeval.gate.result import RuleResult, Verdict
from lmeval.gate.rules import cut_start
from lmeval.gate.suite import GateReport
from lmeval.gate.words import IN_WORDS, flip_lines, sentence, subject, visible
from lmeval.printable import printable

STYLES: dict[Verdict, str] = {
    "PASS": "green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "yellow",
    "NOT_COMPARABLE": "bold magenta",
}
NUM_WITH_FLIPS = 10
_LEAST = ("method", "n needed", "can show", "p", "flips", "n")  # what can be done without, first to go first
_WRAPPED = 24  # characters that a method's name is given at least
_RIGHT = ("change", "interval", "margin", "n", "flips", "p", "can show", "n needed")


def print_report(report: GateReport, stream: TextIO | None = None) -> None:
    """Print a report; the last line is the verdict and the exit code."""
    out = stream or sys.stdout
    console = Console(file=out, highlight=False, width=None if out.isatty() else 200)
    for name, identity in report.runs.items():
        step = f", step {identity['step']}" if identity.get("step") is not None else ""
        console.print(Text(f"{name:10} {identity.get('model')}{step}, run {identity.get('run_id')}"))
    alpha = report.config.defaults.alpha
    if report.results:
        _print_table(console, report.results)
        console.print(Text(legend(alpha, report.config.defaults.power), style="dim"), soft_wrap=True)
    for result in report.results:
        if result.verdict != "PASS":
            _print_sentence(console, result, alpha)
        elif result.caveats:
            console.print(
                Text(f"{subject(result)}: {' '.join(result.caveats)}", style="yellow"), soft_wrap=True
            )
    flipped = list(with_flips(gravest_first(report.results)))
    for result in flipped[:NUM_WITH_FLIPS]:
        _print_flips(console, result)
    if len(flipped) > NUM_WITH_FLIPS:
        left = f"the worst flips of {len(flipped) - NUM_WITH_FLIPS} more are in --json and --markdown"
        console.print(Text(left, style="dim"))
    for note in report.notes:
        console.print(Text(printable(note), style="yellow"), soft_wrap=True)
    verdict = Text.assemble(
        "gate: ", (IN_WORDS[report.verdict], STYLES[report.verdict]), f" (exit code {report.exit_code})"
    )
    console.print(verdict)


def _print_table(console: Console, results: Sequence[RuleResult]) -> None:
    """Print the rows, without the columns that the terminal has no room for."""
    rows = [cells(result) for result in results]
    columns = _that_fit(rows, console.width)
    table = Table()
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left")
    for result, row in zip(results, rows, strict=True):
        verdict, *others = (row[COLUMNS.index(column)] for column in columns)
        table.add_row(Text(verdict, style=STYLES[result.verdict]), *map(Text, others))
    console.print(table)
    if left_out := [column for column in COLUMNS if column not in columns]:
        text = f"no room for {', '.join(left_out)}: widen the terminal, or see --markdown or --json"
        console.print(Text(text, style="dim"), soft_wrap=True)


def _that_fit(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """The columns that fit side by side; the first of _LEAST goes first."""
    widths = {
        column: min(_WRAPPED if column == "method" else width, max(map(len, (column, *entries))))
        for column, *entries in zip(COLUMNS, *rows, strict=True)
    }
    columns = list(COLUMNS)
    for column in _LEAST:
        if sum(widths[name] + 3 for name in columns) + 1 <= width:
            break
        columns.remove(column)
    return columns


def _print_sentence(console: Console, result: RuleResult, alpha: float) -> None:
    head = (f"{IN_WORDS[result.verdict]} {subject(result)}: ", STYLES[result.verdict])
    console.print(Text.assemble(head, visible(sentence(result, alpha))), soft_wrap=True)
    if not result.blocked:
        for caveat in result.caveats:
            console.print(Text(f"  {caveat}", style="yellow"), soft_wrap=True)


def _print_flips(console: Console, result: RuleResult) -> None:
    """The documents that lost most, a line each for what was said and what was read; one document where it passed."""
    console.print(Text(f"worst flips of {subject(result)}:", style="bold"))
    for flip in result.flips if result.verdict != "PASS" else result.flips[:1]:
        head, *answers, prompt = flip_lines(flip)
        read = cut_start(printable(prompt.strip()), console.width - 6)
        for indent, line in (("  ", printable(" · ".join([head, *answers]))), ("      ", read)):
            console.print(Text(indent + line), overflow="ellipsis", no_wrap=True)
