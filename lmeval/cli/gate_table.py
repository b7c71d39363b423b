"""The gate's table: a row for every rule, a sentence for every rule that did not pass, and the worst flips."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmeval.gate.rules import RuleResult, Verdict
from lmeval.gate.suite import GateReport
from lmeval.gate.summary import documents_text, printable, resolution_text
from lmeval.gate.words import (
    IN_WORDS,
    amount,
    flip_lines,
    interval_text,
    margin_text,
    p_text,
    sentence,
    subject,
)

STYLES: dict[Verdict, str] = {
    "PASS": "green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "yellow",
    "NOT_COMPARABLE": "bold magenta",
}
_RIGHT = ("change", "interval", "margin", "n", "flips", "p", "can show", "n needed")


def print_report(report: GateReport, stream: TextIO | None = None) -> None:
    """Print a report; the last line is the verdict and the exit code."""
    out = stream or sys.stdout
    console = Console(file=out, highlight=False, width=None if out.isatty() else 180)
    for name, identity in report.runs.items():
        step = f", step {identity['step']}" if identity.get("step") is not None else ""
        console.print(Text(f"{name:10} {identity.get('model')}{step}, run {identity.get('run_id')}"))
    if report.results:
        console.print(_table(report))
        console.print(Text(_legend(report), style="dim"))
    alpha = report.config.defaults.alpha
    for result in report.results:
        if result.verdict != "PASS":
            _print_sentence(console, result, alpha)
        elif result.caveats:
            console.print(Text(f"{subject(result)}: {'; '.join(result.caveats)}", style="yellow"))
    for result in report.results:
        _print_flips(console, result)
    for note in report.notes:
        console.print(Text(printable(note), style="yellow"))
    verdict = Text.assemble(
        "gate: ", (IN_WORDS[report.verdict], STYLES[report.verdict]), f" (exit code {report.exit_code})"
    )
    console.print(verdict)


def _table(report: GateReport) -> Table:
    table = Table(
        "verdict", "task", "metric", "change", "interval", "margin", "n", "flips", "p", "can show", "n needed"
    )
    table.add_column("method")
    for column in table.columns:
        if column.header in _RIGHT:
            column.justify = "right"
    for result in report.results:
        table.add_row(*_cells(result))
    return table


def _cells(result: RuleResult) -> list[Text]:
    rule = result.rule
    verdict = Text(IN_WORDS[result.verdict], style=STYLES[result.verdict])
    if rule.level == "warn":
        verdict.append(" (warn)", style="dim")
    change = "-" if result.delta is None else amount(result, result.delta, signed=True)
    plain = (
        rule.task + (" (anchor)" if result.against == "anchor" else ""),
        rule.metric or "-",
        change,
        interval_text(result),
        margin_text(result),
        documents_text(result) if result.n else "-",
        "-" if result.gains is None else f"+{result.gains} −{result.losses}",
        _p_cell(result),
        "-" if result.mde is None else resolution_text(result),
        "-" if result.documents_needed is None else f"{result.documents_needed:,}",
        result.method or "-",
    )
    return [verdict, *map(Text, plain)]


def _p_cell(result: RuleResult) -> str:
    """The p-value that the verdict rests on, and of which claim it is."""
    if result.p_pass is None or result.p_fail_adjusted is None:
        return "-"
    if result.p_pass <= result.p_fail_adjusted:
        return f"pass {p_text(result.p_pass)}"
    return f"fail {p_text(result.p_fail_adjusted)}"


def _legend(report: GateReport) -> str:
    defaults = report.config.defaults
    shown = f"{100 * (1 - 2 * defaults.alpha):g} %"
    return (
        f"change: above 0 is better; interval: {shown}; can show: the margin at which an unchanged model passes with "
        f"probability {defaults.power:g} (α {defaults.alpha:g}); n needed: the documents that the margin given needs"
    )


def _print_sentence(console: Console, result: RuleResult, alpha: float) -> None:
    head = (f"{IN_WORDS[result.verdict]} {subject(result)}: ", STYLES[result.verdict])
    console.print(Text.assemble(head, printable(sentence(result, alpha))))
    if not result.blocked:
        for caveat in result.caveats:
            console.print(Text(f"  {caveat}", style="yellow"))


def _print_flips(console: Console, result: RuleResult) -> None:
    if not result.flips:
        return
    console.print(Text(f"worst flips of {subject(result)}:", style="bold"))
    for flip in result.flips:
        for number, line in enumerate(flip_lines(flip)):
            console.print(
                Text(f"  {'  ' if number else ''}{printable(line)}"), overflow="ellipsis", no_wrap=True
            )
