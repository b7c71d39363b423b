"""Curves: the checkpoints of one training run over their steps, each beside the last one, paired by document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmeval.engine.steps import without_step
from lmeval.leaderboard.board import Curve, MetricColumn
from lmeval.leaderboard.pairs import Paired, pair_difference
from lmeval.leaderboard.rows import Row
from lmeval.stats import CONFIDENCE
from lmeval.trends import DOUBLINGS, neighbour_noise, theil_sen


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """Rows that are checkpoints of one model."""

    name: str
    rows: tuple[int, ...]  # by step
    steps: tuple[int, ...]


def training_runs(rows: Sequence[Row]) -> tuple[list[TrainingRun], list[str]]:
    """Rows with a training step, put together by the folder that holds their checkpoints, and what was left out.

    Checkpoints of one training run have one architecture, size, dtype, tokenizer and way of being asked.
    """
    found: dict[tuple[object, ...], list[int]] = {}
    for number, row in enumerate(rows):
        if row.newest.model.step is not None:
            found.setdefault(_family(row), []).append(number)
    series, notes = [], []
    for family, members in found.items():
        members.sort(key=lambda number: rows[number].newest.model.step or 0)
        steps = [rows[number].newest.model.step or 0 for number in members]
        name = str(family[0])
        if len(set(steps)) < len(steps):
            twice = next(step for step in steps if steps.count(step) > 1)
            notes.append(f"no curve of {name}: step {twice:,} is there of two models")
        elif len(steps) > 1:
            series.append(TrainingRun(name, tuple(members), tuple(steps)))
    return series, notes


def _family(row: Row) -> tuple[object, ...]:
    run, model = row.newest, row.newest.model
    # a series keeps <series>/<checkpoint>/<run id>; revisions of one hub id are one series wherever they are
    name = model.id if model.revision is not None else _folder_name(row.runs[0].path)
    return (
        name,
        model.architecture,
        model.num_parameters,
        model.type,
        model.dtype,
        model.pll,
        run.tokenizer.sha256,
        run.runtime.chat_template_sha256,
        run.runtime.system_prompt,
    )


def _folder_name(path: Path) -> str:
    """What checkpoints' folders are called but for the step; where that is all, the folder that holds them."""
    checkpoint = path.resolve().parent
    return without_step(checkpoint.name) or checkpoint.parent.name


def curves_of(
    series: Sequence[TrainingRun],
    column: int,
    metric: MetricColumn,
    paired: Paired | None,
    places: Mapping[int, int],
) -> list[Curve]:
    """The curves in one column.

    Args:
        series: The training runs.
        column: Its number.
        metric: Its main metric.
        paired: The documents' scores of the models whose samples can be read.
        places: By row: where the model is among those.
    """
    found = []
    for run in series:
        steps = [
            (step, row)
            for step, row in zip(run.steps, run.rows, strict=True)
            if metric.cells[row] is not None
        ]
        if len(steps) > 1:
            found.append(_curve(run.name, column, steps, metric, paired, places))
    return found


def _curve(
    name: str,
    column: int,
    points: Sequence[tuple[int, int]],
    metric: MetricColumn,
    paired: Paired | None,
    places: Mapping[int, int],
) -> Curve:
    steps, rows = zip(*points, strict=True)
    values = [cell.value for row in rows if (cell := metric.cells[row]) is not None]
    bands = [_band(row, rows[-1], values[-1], paired, places) for row in rows]
    by_doubling = steps[0] > 0 and steps[-1] >= steps[0] * 2**DOUBLINGS
    x = np.log2(steps) if by_doubling else np.array(steps) / 1000
    y = np.log(values) if paired is not None and paired.metric.interval == "log_ratio" else np.array(values)
    return Curve(
        name,
        column,
        rows,
        steps,
        tuple(values),
        tuple(low for low, _ in bands),
        tuple(high for _, high in bands),
        theil_sen(x, y).value,
        "doubling" if by_doubling else "1,000 steps",
        neighbour_noise(x, y),
    )


def _band(
    row: int, last: int, value: float, paired: Paired | None, places: Mapping[int, int]
) -> tuple[float | None, float | None]:
    """The last value plus the paired 95 % interval of the difference from it."""
    if row == last:
        return value, value
    if paired is None or row not in places or last not in places:
        return None, None
    low, high = pair_difference(paired, places[last], places[row]).interval(CONFIDENCE)
    if not paired.metric.higher_is_better:
        low, high = -high, -low
    if not (math.isfinite(low) and math.isfinite(high)):
        return None, None
    if paired.metric.interval == "log_ratio":
        return value * math.exp(low), value * math.exp(high)
    return value + low, value + high
