"""Progress bars on the terminal: one per stage, with tokens per second and time left while a model scores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lmeval.engine.base import Usage
from lmeval.listener import Listener, Silence


class Bars:
    """A Listener that draws a bar per stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stages: list[tuple[TaskID, int]] = []  # with the steps they have left; the newest last

    def begin(self, stage: str, total: int) -> None:
        """A new bar."""
        self._stages.append((self._progress.add_task(stage, total=total, rate=""), total))

    def advance(self, usage: Usage | None = None) -> None:
        """One step on the newest bar that is not full: a model may be loaded in the middle of a task."""
        while len(self._stages) > 1 and not self._stages[-1][1]:
            self._stages.pop()
        stage, left = self._stages.pop()
        self._stages.append((stage, max(0, left - 1)))
        rate = ""
        if usage is not None:
            rate = f"{usage.tokens_computed / max(usage.seconds_model, 1e-9):,.0f} tokens/s"
        self._progress.update(stage, advance=1, rate=rate)


@contextmanager
def make_listener(*, quiet: bool) -> Iterator[Listener]:
    """Bars on standard error; nothing with `quiet` or where that is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield Silence()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bars(progress)
