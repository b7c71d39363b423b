"""False alarms of "not worse than the last checkpoint", without and with step noise, and what an anchor is for.

    python -m simulations.step_noise          # writes simulations/STEP_NOISE.md

Checkpoints answer 5,153 questions. A twelfth of these is a toss-up whose chances move with the checkpoint, all others
never change: 4 % of the answers flip between two checkpoints, a standard error of 0.28 points, and on top of it the
score of all documents moves by step noise. Every replication goes through the code that the gate runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from lmeval.gate.noise import noise_variance
from lmeval.metrics.base import mean_of
from lmeval.paired import Difference, StepNoise, paired_difference
from lmeval.stats import FloatArray

ALPHA = 0.05
DOCUMENTS = 5153
TOSS_UPS = 412  # half of them flip: 4 % of all documents
MARGIN = 0.01
REPLICATIONS = 4000
DECAY_REPLICATIONS = 1000
SEED = 20240906
HERE = Path(__file__).parent


@dataclass(frozen=True)
class World:
    """How checkpoints differ: standard deviation of the step noise between two, in points, and its kind."""

    noise_points: float
    kind: str  # "independent": each checkpoint on its own; "walk": each starts where the last one was


def accuracies(world: World, drift: float, num: int, rng: np.random.Generator) -> FloatArray:
    """Expected accuracy of each checkpoint around an even chance on the toss-ups; it moves by `drift` a step."""
    sd = world.noise_points / 100
    if world.kind == "walk":
        noise = np.cumsum(rng.normal(0, sd, num))
        return noise - noise.mean() + drift * np.arange(num)
    return rng.normal(0, sd / np.sqrt(2), num) + drift * np.arange(num)


def answer(accuracy: FloatArray, rng: np.random.Generator) -> FloatArray:
    """0/1 answers of checkpoints to the toss-ups, (checkpoints, TOSS_UPS); all others are the same for all."""
    chance = np.clip(0.5 + accuracy * DOCUMENTS / TOSS_UPS, 0, 1)
    return (rng.random((len(accuracy), TOSS_UPS)) < chance[:, None]).astype(np.float64)


def difference(before: FloatArray, after: FloatArray, noise: StepNoise | None = None) -> Difference:
    """What the gate makes of two checkpoints' answers."""
    tables = [np.ones((DOCUMENTS, 2)) for _ in range(2)]
    for table, own in zip(tables, (before, after), strict=True):
        table[:TOSS_UPS, 0] = own
    return paired_difference(
        "proportion",
        *tables,
        mean_of,
        higher_is_better=True,
        bounds=(0.0, 1.0),
        rng=np.random.default_rng(0),
        step_noise=noise,
    )


def estimated(answers: FloatArray) -> StepNoise:
    """Step noise from checkpoints a step apart."""
    found = [difference(before, after) for before, after in pairwise(answers)]
    variance, df = noise_variance(
        np.array([one.delta for one in found]),
        np.array([one.stderr for one in found]),
        np.ones(len(found)),
    )
    return StepNoise(variance, df, len(answers))


def rates(world: World, m: int, seed: int) -> tuple[float, float, float, float]:
    """Share of alarms with no change, and of PASS with a loss of exactly the margin; each without and with."""
    rng = np.random.default_rng(seed)
    counts = np.zeros(4)
    for _ in range(REPLICATIONS):
        expected = accuracies(world, 0.0, m + 1, rng)
        answers = answer(expected, rng)
        lost = answer(expected[-1:] - MARGIN, rng)[0]
        noise = estimated(answers[:-1])
        plain, corrected = (difference(answers[-2], answers[-1], added) for added in (None, noise))
        worse, worse_corrected = (difference(answers[-2], lost, added) for added in (None, noise))
        counts += [
            plain.p_worse(0) <= ALPHA,
            corrected.p_worse(0) <= ALPHA,
            worse.p_not_worse(MARGIN) <= ALPHA,
            worse_corrected.p_not_worse(MARGIN) <= ALPHA,
        ]
    return tuple(float(share) for share in counts / REPLICATIONS)  # type: ignore[return-value]


def decay(loss_points: float, num: int, seed: int) -> Iterator[tuple[int, float, float]]:
    """Step, share that the gate fails against the last checkpoint, and against the first, by steps."""
    rng = np.random.default_rng(seed)
    fails = np.zeros((num, 2))
    for _ in range(DECAY_REPLICATIONS):
        expected = accuracies(World(0.1, "independent"), -loss_points / 100, num + 1, rng)
        answers = answer(expected + loss_points / 200 * num, rng)  # half of the way down is at even chances
        for step in range(1, num + 1):
            against = (answers[step - 1], answers[0])
            fails[step - 1] += [difference(one, answers[step]).p_worse(MARGIN) <= ALPHA for one in against]
    for step, shares in enumerate(fails / DECAY_REPLICATIONS, start=1):
        yield step, float(shares[0]), float(shares[1])


def false_alarm_table() -> Iterator[str]:
    """Rows of Markdown."""
    yield "| step noise, points | kind | m | alarm without | alarm with | PASS at the margin without | with |"
    yield "|---|---|---|---|---|---|---|"
    worlds = [
        (World(points, kind), 5) for kind in ("independent", "walk") for points in (0.0, 0.25, 0.5, 1.0)
    ]
    worlds += [(World(0.5, "independent"), m) for m in (4, 8)]
    for number, (world, m) in enumerate(worlds):
        found = rates(world, m, SEED + number)
        cells = " | ".join(f"{100 * share:.1f} %" for share in found)
        yield f"| {world.noise_points:g} | {world.kind} | {m} | {cells} |"
        print(world, m, cells, file=sys.stderr)


def decay_table() -> Iterator[str]:
    """Rows of Markdown."""
    yield "| step | FAIL against the last | FAIL against the first |"
    yield "|---|---|---|"
    for step, last, first in decay(0.5, 8, SEED):
        yield f"| {step} | {100 * last:.1f} % | {100 * first:.1f} % |"


def main() -> None:
    """Write the tables."""
    text = f"""# Step noise

`python -m simulations.step_noise`, seed {SEED}, {REPLICATIONS:,} replications a row, level {100 * ALPHA:g} %.

{DOCUMENTS:,} documents of 0/1 scores, 4 % of which flip between two checkpoints: a standard error of 0.28 points. "Step
noise" is the standard deviation of the change from one checkpoint to the next that documents do not explain.
"Independent": each checkpoint lies off the trend on its own; "walk": each starts where the last one was. m: the number
of checkpoints that the noise is estimated from.

An alarm is "worse than the last checkpoint" (margin 0) where nothing changed. PASS at the margin is a PASS of a
checkpoint that has lost exactly the margin of {100 * MARGIN:g} point: at most {100 * ALPHA:g} % of them may.

{chr(10).join(false_alarm_table())}

## Losing half a point at every step

The margin is {100 * MARGIN:g} point, step noise 0.1 points, {DECAY_REPLICATIONS:,} replications. Against the last
checkpoint the loss never shows; against the first one, the anchor, it does.

{chr(10).join(decay_table())}
"""
    (HERE / "STEP_NOISE.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
