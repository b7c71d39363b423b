"""The errors a user can meet, and the exit code each ends with.

    LmevalError                 one clear message: what, where, what to do
    ├── UsageError              a wrong option or argument
    ├── TaskError               a task file: unknown task, misspelt key, bad value
    ├── DataError               documents: missing data set, column, split or file
    ├── TemplateError           a template that does not render, or renders nothing
    ├── RequestError            a document no model could be asked: no target tokens, too long
    ├── ModelError              a model that cannot be found, loaded or used for a task
    ├── NumericError            NaN or infinity in a score
    ├── MemoryShortError        memory that does not hold even the smallest step
    ├── DeviceError             a device that failed in the middle of a run (exit code 1)
    ├── WorkerError             workers that died, and died again (exit code 1)
    ├── StoreError              a run folder that cannot be written or read
    └── NotComparableError      two runs that did not answer the same questions (exit code 12)

All but those three mean wrong usage, task file or input, hence exit code 2; none has a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

from lmeval.printable import printable
from lmeval.secrets import redact

MAX_WHAT, MAX_WHERE = 2000, 800  # characters of a message's parts


class LmevalError(Exception):
    """What went wrong, where, and the next step.

    Args:
        what: One sentence; what was found and, if useful, what was expected.
        where: File and line, task, key or document.
        fix: What the user can do about it.

    Tokens and passwords in them are hidden, and what would move a terminal's cursor is spelt out: messages of
    libraries quote URLs and headers, and ours what is in files.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = _plain(what, MAX_WHAT)
        self.where, self.fix = (text and _plain(text, MAX_WHERE) for text in (where, fix))
        super().__init__(self.what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


def _plain(text: str, limit: int) -> str:
    # cut twice: nothing of a secret that the first cut goes through is left behind the second
    lines = redact(_cut(text, 5 * limit)).split("\n")
    return _cut("\n".join(map(printable, lines)), limit)


def _cut(text: str, limit: int) -> str:
    """The text without its middle where it is too long to be read: a message may quote a whole file."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end]} … ({len(text) - limit:,} more characters) … {text[-end:]}"


class UsageError(LmevalError):
    """A wrong option or argument."""


class TaskError(LmevalError):
    """A task that does not exist, or a task file that does not validate."""


class DataError(LmevalError):
    """Documents that cannot be read."""


class TemplateError(LmevalError):
    """A template that does not render for a document."""


class RequestError(LmevalError):
    """A document from which no request to the model can be made; `index` numbers the request, if known."""

    index: int | None = None


class ModelError(LmevalError):
    """A model that cannot be found or loaded, or that cannot do what a task asks."""


NOT_FINITE = (
    "run with --dtype float32, or bfloat16, which reaches as far (float16 overflows at 65,504); if it stays, the "
    "model's weights hold NaN or infinity"
)


class NumericError(LmevalError):
    """NaN or infinity where a score should be; `index` numbers the request, if known."""

    index: int | None = None


class MemoryShortError(LmevalError):
    """Memory, of the device or the host, that does not hold a model or even the smallest step with it."""


class DeviceError(LmevalError):
    """A device that failed in the middle of a run.

    Nothing that the user gave is known to be wrong, so that a scheduler may try again.
    """

    exit_code = 1


class WorkerError(LmevalError):
    """Workers of `--workers` that died again and again; `indices` number the requests they died on, if known.

    As with a DeviceError, nothing that the user gave is known to be wrong.
    """

    exit_code = 1
    indices: tuple[int, ...] = ()


class StoreError(LmevalError):
    """A run folder that cannot be written or read."""


class NotComparableError(LmevalError):
    """Two runs, or a run and a rule, between which no honest comparison is: something differs or is missing."""

    exit_code = 12


_MAX_NAME = 100


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """' Did you mean "x"?' for the closest valid name, or an empty string where none is close."""
    if len(name) > _MAX_NAME:  # comparing takes time by the square of the length
        return ""
    short = (other for other in valid if len(other) <= _MAX_NAME)
    close = difflib.get_close_matches(name, list(islice(short, 1000)), n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else ""
