"""The `lmeval` command: parse, call, print, exit code. The commands import the heavy libraries they need."""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer

import lmeval
from lmeval import stopping
from lmeval.cli.baseline import baseline_app
from lmeval.cli.cache import cache_app
from lmeval.cli.compare import compare
from lmeval.cli.data import data_app
from lmeval.cli.export import export
from lmeval.cli.gate import gate
from lmeval.cli.inspect import inspect
from lmeval.cli.leaderboard import leaderboard
from lmeval.cli.plan import plan
from lmeval.cli.report import report
from lmeval.cli.run import run
from lmeval.cli.selftest import selftest
from lmeval.cli.streams import guarded_streams
from lmeval.cli.tasks import tasks_app
from lmeval.engine.lean import own_process
from lmeval.errors import LmevalError, MemoryShortError, UsageError
from lmeval.offline import end_offline, no_telemetry

EXIT_INTERRUPTED = 130
NO_MEMORY = MemoryShortError(
    "this machine's memory ran out",
    fix="what was finished is kept: free some memory, or take fewer tasks at a time, and run the same command again",
)
INTERRUPTED = "interrupted: no run was under way; what was finished before is kept"
KEPT = "interrupted: what was scored is kept; go on with"

# What typer raises for a wrong option: an exception of its own, or of click's in its earlier versions
PARSE_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="lmeval",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Evaluate language models: from a YAML task to a number with its uncertainty.",
)
app.command()(run)
app.command()(compare)
app.command()(gate)
app.command()(selftest)
app.command()(plan)
app.command()(export)
app.command()(inspect)
app.command()(leaderboard)
app.command()(report)
app.add_typer(tasks_app, name="tasks")
app.add_typer(data_app, name="data")
app.add_typer(baseline_app, name="baseline")
app.add_typer(cache_app, name="cache")


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


def _on_signal(signum: int, frame: FrameType | None) -> None:
    stopping.ask()


def main() -> None:
    """Run the command and exit: 0, 1 (a crash), 2 (wrong input) or 130 (interrupted)."""
    stopping.remember(None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)
    own_process()
    no_telemetry()
    # else the interpreter's last collections walk through all of torch and transformers: a second
    atexit.register(gc.freeze)
    sys.exit(_run())


def _run() -> int:
    with guarded_streams():
        try:
            return _run_app()
        finally:
            end_offline()


def _run_app() -> int:
    try:
        code = app(standalone_mode=False, prog_name="lmeval")
    except LmevalError as error:
        return _fail(error)
    except PARSE_ERROR as error:
        return _fail(_parse_error(error))
    except MemoryError:
        return _fail(NO_MEMORY)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:  # which is also what typer makes of a KeyboardInterrupt
        command = stopping.command_to_go_on()
        print(INTERRUPTED if command is None else f"{KEPT}\n  {command}", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _fail(error: LmevalError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def _parse_error(error: Any) -> UsageError:
    """What the parser found, in the form of our own errors."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "lmeval"
    if type(error).__name__ == "NoArgsIsHelpError":
        return UsageError(f"{command} needs a command", fix=f"`{command} --help` lists them")
    return UsageError(
        error.format_message().rstrip("."), where=command, fix=f"`{command} --help` shows the options"
    )
