"""How often a rule on a calibration error errs, where noise makes estimates of the two models unlike.

    python -m simulations.distances    # some minutes on two cores; writes DISTANCES.md

Each cell draws two models whose true calibration errors are known, and a margin that is exactly their difference: a
PASS and a FAIL are then both wrong, and each may happen in 5 % of the draws. "Resamples alone" is the paired bootstrap
of other corpus metrics, for comparison. A second table shows what the care costs: models for which one is right.
"""

from __future__ import annotations

import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lmeval.metrics import find_metric
from lmeval.metrics.classification import NUM_BINS
from lmeval.paired import paired_difference
from lmeval.stats import Distance, FloatArray, IntArray

ALPHA = 0.05
REPETITIONS = 300
CONFIDENCES = (0.4, 1.0)  # uniform between
TRUTH_SIZE = 1_000_000
PAGE = Path(__file__).with_name("DISTANCES.md")
SHAPES = ("calibrated", "overconfident", "in every other bin")


class Cell(NamedTuple):
    """Two models on n documents."""

    n: int
    before: tuple[str, float]  # shape, and how overconfident
    after: tuple[str, float]
    alike: float  # share of the documents on which the second is right where the first is
    margin: float | None = None  # None: the true difference


BOUNDARY = [
    Cell(n, before, after, alike)
    for n in (200, 1000)
    for before, after, alike in (
        (("overconfident", 0.1), ("overconfident", 0.1), 0.0),
        (("overconfident", 0.1), ("overconfident", 0.1), 0.9),
        (("calibrated", 0.0), ("overconfident", 0.1), 0.0),
        (("calibrated", 0.0), ("overconfident", 0.1), 0.9),
        (("overconfident", 0.1), ("in every other bin", 0.2), 0.0),
        (("overconfident", 0.1), ("in every other bin", 0.2), 0.9),
    )
]
POWER = [
    Cell(n, ("overconfident", before), ("overconfident", after), alike, 0.02)
    for n in (500, 2000)
    for before, after, alike in ((0.1, 0.1, 1.0), (0.1, 0.1, 0.98), (0.0, 0.1, 0.95), (0.05, 0.2, 0.95))
]


def bins_of(confidence: FloatArray) -> IntArray:
    """Of equal width."""
    return np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)


def error_of(model: tuple[str, float], confidence: FloatArray) -> FloatArray:
    """By how much the model is too confident, document by document."""
    shape, size = model
    return np.where((bins_of(confidence) % 2 == 0) | (shape != SHAPES[2]), size, 0.0)


def true_distance(model: tuple[str, float]) -> float:
    """The calibration error without noise."""
    confidence = np.random.default_rng(0).uniform(*CONFIDENCES, TRUTH_SIZE)
    return float(error_of(model, confidence).mean())


def table(confidence: FloatArray, right: FloatArray) -> FloatArray:
    """Statistics of `ece`."""
    found = np.zeros((len(confidence), NUM_BINS + 1))
    found[np.arange(len(confidence)), bins_of(confidence)] = confidence - right
    found[:, -1] = 1
    return found


def draw(rng: np.random.Generator, cell: Cell) -> tuple[FloatArray, FloatArray]:
    """Both models' statistics of the same documents."""
    confidence, first = rng.uniform(*CONFIDENCES, cell.n), rng.random(cell.n)
    second = np.where(rng.random(cell.n) < cell.alike, first, rng.random(cell.n))
    models = ((cell.before, first), (cell.after, second))
    return tuple(  # type: ignore[return-value]
        table(confidence, (chance < confidence - error_of(model, confidence)).astype(float))
        for model, chance in models
    )


def rates(cell: Cell) -> dict[str, float]:
    """How often each way says PASS, and FAIL."""
    metric = find_metric("ece")
    margin = true_distance(cell.after) - true_distance(cell.before) if cell.margin is None else cell.margin
    rng = np.random.default_rng(zlib.crc32(repr(cell).encode()))
    ways: dict[str, Distance | None] = {"gate": metric.distance, "resamples": None}
    said = {f"{way} {verdict}": 0 for way in ways for verdict in ("PASS", "FAIL")}
    for number in range(REPETITIONS):
        before, after = draw(rng, cell)
        for way, distance in ways.items():
            found = paired_difference(
                metric.interval,
                before,
                after,
                metric.aggregate,
                higher_is_better=False,
                distance=distance,
                bounds=metric.bounds,
                rng=np.random.default_rng(number),
            )
            said[f"{way} PASS"] += found.p_not_worse(margin) <= ALPHA
            said[f"{way} FAIL"] += found.p_worse(margin) <= ALPHA
    return {name: count / REPETITIONS for name, count in said.items()}


def row(cell: Cell, found: dict[str, float]) -> str:
    """A line of the page."""
    names = [f"{shape} {size:g}" if size else SHAPES[0] for shape, size in (cell.before, cell.after)]
    facts = [f"{cell.n:,}", *names, f"{cell.alike:.0%}"] + (
        [] if cell.margin is None else [f"{cell.margin:g}"]
    )
    ways = [f"{found[f'{way} PASS']:.1%} / {found[f'{way} FAIL']:.1%}" for way in ("gate", "resamples")]
    return "| " + " | ".join([*facts, *ways]).replace("%", " %") + " |"


def main() -> None:
    """Write the page."""
    cells = BOUNDARY + POWER
    with ProcessPoolExecutor() as pool:
        found = dict(zip(cells, pool.map(rates, cells), strict=True))
    head = (
        "| documents | baseline | candidate | right on the same | {}the gate: PASS / FAIL | resamples alone |"
    )
    lines = [
        "# Calibration errors\n",
        "Written by `python -m simulations.distances`.\n",
        f"The margin is the true difference, so that PASS and FAIL are both errors, which may happen in {ALPHA:.0%} of "
        f"the draws each; {REPETITIONS} draws a line.\n".replace("%", " %"),
        head.format(""),
        "|---|---|---|---|---|---|",
        *(row(cell, found[cell]) for cell in BOUNDARY),
        "\nWhat the care costs: how often a verdict is reached, by models that are no worse, or worse by more than the "
        "margin.\n",
        head.format("margin | "),
        "|---|---|---|---|---|---|---|",
        *(row(cell, found[cell]) for cell in POWER),
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
