"""A training run's checkpoints, evaluated one after the other with the same documents and prompts.

A series is a glob over local folders or a list of a hub model's revisions, in the order of their training steps.
Tasks are prepared once; one model is in memory at a time; what a finished run holds already is not computed again;
a checkpoint that cannot be evaluated is reported and the others go on. Runs are kept in
`<output>/<series>/<checkpoint>/<run id>`, so that `<output>/<series>` is the history that gate and compare read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmeval.engine.sources import ModelOptions
from lmeval.evaluate import Listener
from lmeval.run import Job, Keep


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One model of a series."""

    name: str  # of its folder among the results
    step: int
    options: ModelOptions


@dataclass(frozen=True, slots=True)
class Series:
    """Checkpoints in the order of their steps."""

    name: str  # of its folder under the output
    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one checkpoint."""

    checkpoint: Checkpoint
    status: Literal["done", "already done", "failed"]
    record: dict[str, Any] | None = None  # run.json
    folder: Path | None = None
    error: str | None = None


def is_glob(model: str) -> bool:
    """Whether a model's name is a pattern over folders, and no folder itself."""
    raise NotImplementedError


def find_series(options: ModelOptions, revisions: Sequence[str] = ()) -> Series:
    """The checkpoints that a glob (`options.model`) or a list of revisions names, by step.

    Raises:
        UsageError: Nothing matches, a name gives no step, two give the same, or revisions of a local model.
    """
    raise NotImplementedError


def run_series(
    job: Job, series: Series, keep: Keep, listener: Listener, report: Callable[[Outcome], None]
) -> list[Outcome]:
    """Evaluate every checkpoint that is not done; `report` is told of each as soon as it is.

    Raises:
        LmevalError: What is wrong with the tasks or the results folder, or models of several types: nothing that
            another checkpoint could be without.
    """
    raise NotImplementedError
