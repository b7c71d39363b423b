"""`lmeval plan`: what a suite can resolve, before anybody relies on its verdicts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmeval.gate.config import GateConfig, load_gate_file

if TYPE_CHECKING:
    from lmeval.gate.planning import PlanLine


def plan(
    run: Annotated[str, typer.Argument(help="A finished run: its folder, or a baseline file.")],
    config: Annotated[
        Path | None, typer.Option(help="Gate file; without it default rules are planned.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A second run: differences are measured, not assumed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Say what margins a run's documents can show, and how many documents a margin needs."""
    settings = load_gate_file(config) if config else GateConfig()
    from lmeval.gate import planning
    from lmeval.runs import load_run
    from lmeval.store import to_json_text

    lines = planning.plan(load_run(run), settings, against=load_run(against) if against else None)
    if as_json:
        typer.echo(to_json_text([_line_json(line) for line in lines], indent=1))
    else:
        _print_plan(lines, settings)


def _line_json(line: PlanLine) -> dict[str, Any]:
    result, rule = line.result, line.rule
    return {
        "task": rule.task,
        "metric": rule.metric,
        "rule": rule.kind,
        "margin": result.margin if rule.bound is None else rule.bound,
        "delta_scale": "log" if result.log_scale else "metric",
        "n": result.n,
        "num_available": line.num_available,
        "mde": result.mde,
        "documents_needed": result.documents_needed,
        "carries": line.carries,
        "minutes": line.minutes,
        "minutes_needed": line.minutes_needed,
        "assumption": line.assumption,
    }


def _print_plan(lines: tuple[PlanLine, ...], config: GateConfig) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
    table = Table(
        "task", "metric", "rule", "margin", "n", "can show", "n needed", "minutes", "minutes needed"
    )
    for column in table.columns[3:]:
        column.justify = "right"
    for line in lines:
        table.add_row(*map(Text, _cells(line)), style=None if line.carries else "yellow")
    console.print(table)
    defaults = config.defaults
    legend = (
        f"can show: the margin at which an unchanged model passes with probability {defaults.power:g} "
        f"(α {defaults.alpha:g}); a loss of twice that fails as surely"
    )
    console.print(Text(legend, style="dim"), soft_wrap=True)
    for line in lines:
        console.print(Text(f"{_name(line)}: {_advice(line)} Variance: {line.assumption}."), soft_wrap=True)


def _cells(line: PlanLine) -> tuple[str, ...]:
    from lmeval.gate.words import margin_text, rule_text

    result = line.result
    return (
        line.rule.task,
        line.rule.metric or "-",
        rule_text(line.rule),
        margin_text(result),
        f"{result.n:,}" + (f" of {line.num_available:,}" if line.num_available > result.n else ""),
        _resolution(line),
        "-" if result.documents_needed is None else f"{result.documents_needed:,}",
        _minutes(line.minutes),
        _minutes(line.minutes_needed),
    )


def _name(line: PlanLine) -> str:
    from lmeval.gate.words import subject

    return subject(line.result)


def _resolution(line: PlanLine) -> str:
    from lmeval.gate.cells import resolution_text

    return "-" if line.result.mde is None else resolution_text(line.result)


def _minutes(minutes: float | None) -> str:
    if minutes is None:
        return "-"
    return f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.1f}" if minutes >= 0.1 else "< 0.1"


def _advice(line: PlanLine) -> str:
    from lmeval.gate.words import margin_text

    result, needed = line.result, line.result.documents_needed
    if result.mde is None or needed is None:
        return "what it can show is not known."
    if line.carries:
        return f"its {result.n:,} documents carry {margin_text(result)}."
    if needed <= line.num_available:
        return f"{margin_text(result)} needs {needed:,} documents: run it without --limit."
    return (
        f"{margin_text(result)} needs {needed:,} documents and there are {line.num_available:,}: "
        f"set a margin of {_resolution(line)} or more, or add documents."
    )
