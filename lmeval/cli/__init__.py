"""The `lmeval` command: parse, call, print, exit code. Heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import click
import typer

import lmeval
from lmeval.cli.data import data_app
from lmeval.cli.run import run
from lmeval.cli.tasks import tasks_app
from lmeval.errors import LmevalError

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="lmeval",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Evaluate language models: from a YAML task to a number with its uncertainty.",
)
app.command()(run)
app.add_typer(tasks_app, name="tasks")
app.add_typer(data_app, name="data")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lmeval {lmeval.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Evaluate language models: from a YAML task to a number with its uncertainty."""


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command and exit with the contract's codes: 0, 1 (a crash), 2 (wrong input), 130 (interrupted)."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(standalone_mode=False)
    except LmevalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (KeyboardInterrupt, click.exceptions.Abort):
        print("interrupted: what was finished is kept; run the same command again to go on", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
