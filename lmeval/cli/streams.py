"""What the command line prints, without secrets, and with every character in some form that the terminal takes."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TextIO

from lmeval.secrets import redactor


class Redacted:
    """A text stream whose texts go through a function first."""

    def __init__(self, stream: TextIO, change: Callable[[str], str]) -> None:
        self._stream, self._change = stream, change

    def write(self, text: str) -> int:
        """Write it, changed."""
        self._stream.write(self._change(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write them, changed."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """In the block, nothing secret is printed: results without the known secrets, messages without any.

    A crash's traceback, which comes after the block, goes the same way.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # half a surrogate pair, or a character that the terminal has not
            stream.reconfigure(errors="backslashreplace")
    before = sys.stdout, sys.stderr
    sys.stdout = Redacted(before[0], redactor(forms=False))
    sys.stderr = Redacted(before[1], redactor())
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        sys.excepthook = _print_crash  # only now: typer sets one of its own


def _print_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redactor()("".join(traceback.format_exception(kind, error, trace))))
