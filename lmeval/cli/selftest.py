"""`lmeval selftest`: does the suite keep quiet about one model run twice, and does it see a damaged one?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from lmeval.cli.files import write_file
from lmeval.cli.job import make_job
from lmeval.cli.options import JobFlags, with_flags

if TYPE_CHECKING:
    from lmeval.selftest import Floor, SelfTest

EXIT_FAILED = 10


@with_flags(JobFlags)
def selftest(
    model: Annotated[str, typer.Option(help="Hub id, local folder, .gguf file or a demo model.")],
    tasks: Annotated[str, typer.Option(help="Names, globs, tag:NAME or YAML files, separated by commas.")],
    flags: JobFlags,
    config: Annotated[Path | None, typer.Option(help="Gate file whose margins are tried.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to this file.")] = None,
) -> None:
    """Try the gate on one model: it must not see other batches or number formats, and must see damaged weights.

    Exits with 0 where it can be trusted, and with 10 where a margin lies below the noise or no damage is seen.
    """
    from lmeval.gate.config import GateConfig, load_gate_file

    settings = load_gate_file(config) if config else GateConfig()
    job = make_job(model, tasks, flags)
    from lmeval.cli.progress import make_listener
    from lmeval.selftest import self_test
    from lmeval.store import to_json_text

    found = self_test(job, settings, partial(make_listener, quiet=quiet), typer.echo)
    if json_file is not None:
        write_file(json_file, to_json_text(_json(found), indent=1) + "\n")
    print_selftest(found)
    raise typer.Exit(0 if found.passed else EXIT_FAILED)


def print_selftest(found: SelfTest) -> None:
    """Print the noise floor, what it means for the margins, and what damage was seen."""
    from lmeval.cli.table import make_console

    table = Table(
        "task, metric", "n", "flips", "largest nats", "noise floor", "safe margin", "gate's margin", ""
    )
    for column in table.columns[1:-1]:
        column.justify = "right"
    for floor in found.floors:
        margins = ", ".join(map(_small, floor.margins)) or "-"
        table.add_row(
            Text(f"{floor.task} {floor.metric}"),
            f"{floor.num_documents:,}",
            "-" if floor.flips is None else f"{floor.flips:,}",
            "-" if floor.nats is None else f"{floor.nats:.1e}",
            _small(floor.difference),
            _small(floor.safe_margin),
            margins,
            Text("refused", style="bold red") if floor.is_refused else "ok" if floor.margins else "",
        )
    console = make_console()
    console.print(table)
    for line in _words(found):
        console.print(Text(line), soft_wrap=True)
    style = "green" if found.passed else "bold red"
    console.print(Text(f"selftest: {'passed' if found.passed else 'FAILED'}", style=style))


def _small(value: float) -> str:
    """Four digits after the point, or two that count where those are all zeros."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.0005 else f"{value:.1e}"


def _words(found: SelfTest) -> Iterator[str]:
    yield (
        "noise floor: the largest difference of the metric between runs of the same weights (of perplexities, of their "
        "logarithm); safe margin: twice that."
    )
    for floor in found.floors:
        if floor.is_refused:
            yield _refusal(floor)
    for variant in found.false_alarms:
        yield f"false alarm: the gate fails the same weights in {variant}"
    last = found.damage[-1]
    if found.sees_damage:
        where = f" of {last.layer}" if last.layer else ""
        yield f"damage is seen: noise of {last.strength:g} standard deviations in the weights{where} fails the gate"
    else:
        yield (
            f"no damage is seen: with noise of {last.strength:g} standard deviations in the weights of {last.layer} "
            "the gate still does not fail: take more documents, or tasks that the model can do (see `lmeval plan`)"
        )
    if found.not_tested:
        yield f"rules that a self-test cannot try: {', '.join(found.not_tested)}"


def _refusal(floor: Floor) -> str:
    smallest = min(floor.margins)
    return (
        f"{floor.task} {floor.metric}: the margin {_small(smallest)} is below the noise; "
        f"a margin of {_small(floor.safe_margin)} is safe"
    )


def _json(found: SelfTest) -> dict[str, Any]:
    """As plain JSON values."""
    from lmeval.gate.formats import report_json

    floors = [
        asdict(floor) | {"safe_margin": floor.safe_margin, "refused": floor.is_refused}
        for floor in found.floors
    ]
    damage = [
        {
            "strength": one.strength,
            "layer": one.layer,
            "seen": one.is_seen,
            "problem": one.problem,
            "gate": report_json(one.report) if one.report else None,
        }
        for one in found.damage
    ]
    return {
        "passed": found.passed,
        "model": found.model,
        "variants": found.variants,
        "floors": floors,
        "false_alarms": found.false_alarms,
        "damage": damage,
        "not_tested": found.not_tested,
    }
