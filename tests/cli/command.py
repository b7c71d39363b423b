"""The `lmeval` command run inside the test's own process, which has the heavy libraries loaded already."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from lmeval.cli import main

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    def folder(self, output: Path) -> Path:
        """The one run folder under `output`."""
        (folder,) = output.glob("*/*")
        return folder


def lmeval(*arguments: str | Path) -> Ran:
    """Run `lmeval` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", ["lmeval", *map(str, arguments)]))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        for number, handler in handlers.items():
            stack.callback(signal.signal, number, handler)
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
    return Ran(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def start(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    """Start a Python process that can import lmeval, whatever its folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
