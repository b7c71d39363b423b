"""Options that stand once, in a dataclass, and are each command's own."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from lmeval.cli.gate import gate
from lmeval.cli.inspect import inspect as inspect_command
from lmeval.cli.options import DType, JobFlags, ModelFlags, with_flags
from lmeval.cli.run import run
from lmeval.cli.selftest import selftest


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Some options."""

    needed: Annotated[int, typer.Option(help="A number.")]
    dtype: Annotated[DType, typer.Option(rich_help_panel="Its own")] = DType.auto
    folder: Annotated[list[Path] | None, typer.Option()] = None
    loud: Annotated[bool, typer.Option("--shout")] = False


def app_of(panel: str | None = None) -> tuple[typer.Typer, list[tuple[str, Flags, bool]]]:
    app, calls = typer.Typer(), []

    @app.command()
    @with_flags(Flags, panel=panel)
    def command(name: Annotated[str, typer.Argument()], *, flags: Flags, last: bool = False) -> None:
        """What it does."""
        calls.append((name, flags, last))

    return app, calls


def test_a_command_gets_them_as_one() -> None:
    app, calls = app_of()
    given = [
        "a",
        "--needed",
        "3",
        "--dtype",
        "float32",
        "--folder",
        "x",
        "--folder",
        "y",
        "--shout",
        "--last",
    ]
    for arguments in (given, ["b", "--needed", "4"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    folders = [Path("x"), Path("y")]
    assert calls == [
        ("a", Flags(needed=3, dtype=DType.float32, folder=folders, loud=True), True),
        ("b", Flags(needed=4), False),
    ]


@pytest.mark.parametrize(
    "arguments", [["a"], ["a", "--needed", "x"], ["a", "--needed", "1", "--dtype", "int3"]]
)
def test_they_are_checked_as_others_are(arguments: list[str]) -> None:
    app, calls = app_of()
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert not calls


def test_help_shows_them_in_their_panels_or_in_the_commands() -> None:
    own = CliRunner().invoke(app_of()[0], ["--help"], env={"COLUMNS": "100"}).output
    other = CliRunner().invoke(app_of("Another")[0], ["--help"], env={"COLUMNS": "100"}).output
    again = CliRunner().invoke(app_of()[0], ["--help"], env={"COLUMNS": "100"}).output
    assert "What it does." in own and "A number." in own and "Its own" in own
    assert "Another" in other and "Its own" not in other and other.index("Another") < other.index("--needed")
    assert again == own


@pytest.mark.parametrize(
    ("command", "flags"),
    [(run, JobFlags), (gate, JobFlags), (selftest, JobFlags), (inspect_command, ModelFlags)],
)
def test_commands_that_run_a_model_have_all_of_its_options(command: object, flags: type) -> None:
    assert callable(command)
    parameters = inspect.signature(command).parameters
    assert {field.name for field in fields(flags)} <= set(parameters)
    assert "flags" not in parameters
