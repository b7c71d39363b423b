"""How a run is asked to stop: a flag that the loop over batches looks at, so that the batch in flight is not lost.

A signal that comes while a model scores sets the flag; at any other time, and when it comes again, it interrupts at
once. What a signal handler raises in the middle of a forward pass or of a write could not be told apart from a crash.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

FINISHING = b"finishing the batch in flight; once more stops at once\n"


@dataclass(slots=True)
class _State:
    waits: bool = False  # a signal waits for the end of the batch
    asked: bool = False
    command: str | None = None  # that goes on with what was begun


_STATE = _State()


class Stopped(KeyboardInterrupt):
    """Was asked to stop, and did so between two batches."""


@contextmanager
def finishing_batches() -> Iterator[None]:
    """Within, a first signal lets the batch in flight come to its end.

    Raises:
        Stopped: There was a signal, and the block came to its end all the same.
    """
    _STATE.waits, _STATE.asked = True, False
    try:
        yield
        if _STATE.asked:
            raise Stopped
    finally:
        _STATE.waits = _STATE.asked = False


@contextmanager
def at_once() -> Iterator[None]:
    """Within, nothing is lost by stopping: a first signal interrupts."""
    waits, _STATE.waits = _STATE.waits, False
    try:
        yield
    finally:
        _STATE.waits = waits


def ask() -> None:
    """What a signal handler calls.

    Raises:
        KeyboardInterrupt: No batch is in flight, or this is the second time.
    """
    if not _STATE.waits or _STATE.asked:
        raise KeyboardInterrupt
    _STATE.asked = True
    os.write(2, FINISHING)  # print is not safe where a signal may interrupt another print


def is_asked() -> bool:
    """Whether the run should begin nothing new."""
    return _STATE.asked


def check() -> None:
    """Called before each batch.

    Raises:
        Stopped: Somebody asked to stop.
    """
    if _STATE.asked:
        raise Stopped


def remember(command: str | None) -> None:
    """The command that goes on with what is now being done; None: nothing is."""
    _STATE.command = command


def command_to_go_on() -> str | None:
    """See `remember`."""
    return _STATE.command
