"""Does the sequential gate keep its word? Error at the margin, and the share of documents it uses.

    python -m simulations.sequential    # writes SEQUENTIAL.md and sequential.json beside it, in about two minutes

Thousands of gates are run at once, document by document, with products in place of the sums of logarithms that
lmeval.betting has: what is simulated is a second implementation. Documents are drawn anew in every replication,
and where none are left the test of fixed size has its say, as in the gate.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from lmeval.betting import FINAL_SHARE, SHARES, wealth_needed
from lmeval.gate.rounds import round_ends
from simulations.sequential_report import CANDIDATES, Found, Row, report

ALPHA = 0.05
REPLICATIONS = 4000
SHARE_REPLICATIONS = 1000
SEED = 20240617
HERE = Path(__file__).parent

Array = npt.NDArray[np.float64]
Final = Callable[
    [Array, Array, float], Array
]  # (T, R) sums, sizes, margin -> (R,) z- or t-based p of not worse


@dataclass(frozen=True)
class World:
    """Where differences come from: `draw(rng, R, delta)` gives sums (T, R) and sizes (T, R)."""

    name: str
    draw: Callable[[np.random.Generator, int, float], tuple[Array, Array]]
    largest: int
    final: Final


def flips(n: int, rate: float) -> World:
    """0/1 scores of two models that differ on a share `rate` of the documents."""

    def draw(rng: np.random.Generator, replications: int, delta: float) -> tuple[Array, Array]:
        # a model that is much worse flips at least as many documents as it loses
        total = max(rate, abs(delta))
        loss, gain = (total - delta) / 2, (total + delta) / 2
        u = rng.random((n, replications))
        return (u < gain).astype(float) - (u > 1 - loss), np.ones((n, 1))

    return World(f"0/1, n = {n:,}, flips {rate:.1%}", draw, 1, tango)


def fractions(n: int, rate: float) -> World:
    """Scores such as F1, or accuracies with shared ties: differences of quarters up to 1."""
    steps = np.array([0.25, 0.5, 0.5, 0.5, 0.75, 1.0])

    def draw(rng: np.random.Generator, replications: int, delta: float) -> tuple[Array, Array]:
        shape, size = (n, replications), float(steps.mean())
        up = (1 + delta / (rate * size)) / 2
        changed = rng.random(shape) < rate
        sign = np.where(rng.random(shape) < up, 1.0, -1.0)
        return changed * sign * rng.choice(steps, shape), np.ones((n, 1))

    return World(f"fractions and ties, n = {n:,}, {rate:.0%} differ", draw, 1, clustered_t)


def passages(n: int, rate: float) -> World:
    """0/1 scores in passages of 1 to 8 questions: losses come by passage, and more of them in long ones."""
    mean_size, second = 4.5, 25.5  # of uniform sizes: E m, E m^2

    def draw(rng: np.random.Generator, replications: int, delta: float) -> tuple[Array, Array]:
        shape = (round(n / mean_size), replications)
        sizes = rng.integers(1, 9, shape).astype(float)
        # a passage's own drift falls with its size, and their mean over documents is delta
        slope = 0.004
        drift = delta + slope * (second / mean_size - sizes)
        drift = drift + rng.choice([-1, 1], shape) * 0.02
        gains, losses = (rate + drift) / 2, (rate - drift) / 2
        up = rng.binomial(sizes.astype(np.int64), np.clip(gains, 0, 1))
        down = rng.binomial((sizes - up).astype(np.int64), np.clip(losses / (1 - gains), 0, 1))
        return (up - down).astype(float), sizes

    return World(f"passages of 1-8, n = {n:,}, flips {rate:.0%}", draw, 8, clustered_t)


def tango(sums: Array, sizes: Array, margin: float) -> Array:
    """p of H0: delta <= -margin by Tango's score (1998)."""
    n, gains, losses = len(sums), (sums > 0).sum(axis=0), (sums < 0).sum(axis=0)
    b = gains * (1 - margin) + losses * (1 + margin) + 2 * n * margin
    q = (b + np.sqrt(np.maximum(b**2 - 8 * n * losses * margin * (1 + margin), 0))) / (4 * n)
    return norm.sf((gains - losses + n * margin) / np.sqrt(n * (2 * q - margin - margin**2)))


def clustered_t(sums: Array, sizes: Array, margin: float) -> Array:
    """p of H0: delta <= -margin by the cluster-robust t; of single documents the plain one."""
    count, n = len(sums), np.broadcast_to(sizes, sums.shape).sum(axis=0)
    mean = sums.sum(axis=0) / n
    squares = ((sums - mean * sizes) ** 2).sum(axis=0)
    error = np.sqrt(count / (count - 1) * squares) / n
    return t.sf((mean + margin) / np.maximum(error, 1e-12), count - 1)


@dataclass(frozen=True)
class Outcome:
    """What one side's gates did: after how many bets they decided; T + 1 where the bets never did."""

    decided: npt.NDArray[np.int64]  # (R,)
    final: npt.NDArray[np.bool_]  # (R,) the last test decided, where the bets had not


def gate(world: World, sums: Array, sizes: Array, margin: float, side: str, *, rules: int = 1) -> Outcome:
    """Bet on every replication until its wealth is enough; `rules`: Bonferroni's count, Holm's first step."""
    sign = 1.0 if side == "PASS" else -1.0
    worst = 1 - sign * margin
    length, replications = sums.shape
    alpha = ALPHA / rules
    purses = np.full((replications, len(SHARES)), 1 / len(SHARES))
    decided = np.full(replications, length + 1)
    active = np.arange(replications)
    per_document = np.ascontiguousarray(SHARES / (world.largest * worst))
    for bet in range(length):
        gain = sign * (sums[bet, active] + margin * (sizes[bet, active] if sizes.shape[1] > 1 else 1.0))
        purses *= 1 + gain[:, None] * per_document
        rich = purses.sum(axis=1) >= wealth_needed(alpha)
        if rich.any():
            decided[active[rich]] = bet + 1
            active, purses = active[~rich], purses[~rich]
            if not len(active):
                break
    not_worse = world.final(sums, sizes, margin)
    p = not_worse if side == "PASS" else 1 - not_worse
    return Outcome(decided, (p <= alpha * FINAL_SHARE) & (decided > length))


def errors_at_the_margin(rng: np.random.Generator) -> list[Row]:
    """PASS of models exactly a margin worse, and FAIL of the same: both must be at most alpha."""
    worlds = [
        *(flips(n, rate) for n in (500, 2000) for rate in (0.02, 0.05, 0.1, 0.3)),
        flips(5153, 0.05),
        flips(5153, 0.1),
        *(fractions(n, rate) for n, rate in ((500, 0.1), (2000, 0.2))),
        *(passages(n, rate) for n, rate in ((500, 0.1), (2000, 0.2))),
    ]
    rows: list[Row] = []
    for world in worlds:
        for margin in (0.01, 0.02):
            sums, sizes = world.draw(rng, REPLICATIONS, -margin)
            row: Row = {"world": world.name, "margin": margin, "replications": REPLICATIONS}
            for side in ("PASS", "FAIL"):
                outcome = gate(world, sums, sizes, margin, side)
                bets, all_used = float((outcome.decided <= len(sums)).mean()), float(outcome.final.mean())
                row |= {f"{side}_bets": bets, f"{side}_final": all_used, f"{side}": bets + all_used}
            rows.append(row)
    return rows


CHANGES = tuple(zip(CANDIDATES, (0.0, -0.03, -0.05, -0.1), strict=True))


def documents_used(rng: np.random.Generator) -> list[Row]:
    """Until one of the verdicts is there, in the gate's rounds; what stays open uses every document."""
    rows: list[Row] = []
    for n in (500, 2000, 5153):
        ends = np.array(list(round_ends([1] * n)))
        for margin in (0.01, 0.02):
            for rate in (0.02, 0.05, 0.1):
                for name, delta in CHANGES:
                    world = flips(n, rate)
                    sums, sizes = world.draw(rng, SHARE_REPLICATIONS, delta)
                    outcomes = {side: gate(world, sums, sizes, margin, side) for side in ("PASS", "FAIL")}
                    first = np.minimum(outcomes["PASS"].decided, outcomes["FAIL"].decided)
                    used = ends[np.searchsorted(ends, np.minimum(first, n))]
                    share = used / n
                    right = outcomes["FAIL" if delta < -margin else "PASS"]
                    wrong = outcomes["PASS" if delta < -margin else "FAIL"]
                    not_worse = world.final(sums, sizes, margin)
                    fixed = 1 - not_worse if delta < -margin else not_worse
                    rows.append(
                        {
                            "n": n,
                            "margin": margin,
                            "rate": rate,
                            "flips": max(rate, abs(delta)),
                            "candidate": name,
                            "median_share": float(np.median(share)),
                            "replications": SHARE_REPLICATIONS,
                            "mean_share": float(share.mean()),
                            "right": float(((right.decided <= n) | right.final).mean()),
                            "wrong": float(((wrong.decided <= n) | wrong.final).mean()),
                            "right_fixed_n": float((fixed <= ALPHA).mean()),
                        }
                    )
    return rows


def many_rules(rng: np.random.Generator) -> list[Row]:
    """A suite's errors: any FAIL where every task is exactly a margin worse, and a PASS where one task is."""
    rows: list[Row] = []
    n, rate, margin, suites = 500, 0.05, 0.02, 2000
    for rules in (1, 10, 50):
        world = flips(n, rate)
        alarms = {True: np.zeros(suites, bool), False: np.zeros(suites, bool)}
        passes = np.ones(suites, bool)
        for rule in range(rules):
            sums, sizes = world.draw(rng, suites, -margin)
            for corrected, alarm in alarms.items():
                fail = gate(world, sums, sizes, margin, "FAIL", rules=rules if corrected else 1)
                alarm |= (fail.decided <= n) | fail.final
            if rule > 0:  # all others are 2 points better: only the first may keep the suite from passing
                sums, sizes = world.draw(rng, suites, margin)
            outcome = gate(world, sums, sizes, margin, "PASS")
            passes &= (outcome.decided <= n) | outcome.final
        rows.append(
            {
                "rules": rules,
                "FAIL_any_holm": float(alarms[True].mean()),
                "FAIL_any_uncorrected": float(alarms[False].mean()),
                "PASS_with_one_at_the_margin": float(passes.mean()),
                "replications": suites,
            }
        )
    return rows


def finite_set(rng: np.random.Generator) -> list[Row]:
    """A fixed set of documents whose own mean is at the margin, shuffled: drawing without replacement."""
    rows: list[Row] = []
    for n, rate, margin in ((500, 0.1, 0.02), (2000, 0.1, 0.01)):
        losses, gains = round(n * (rate + margin) / 2), round(n * (rate - margin) / 2)
        documents = np.concatenate([-np.ones(losses), np.ones(gains), np.zeros(n - losses - gains)])
        sums = rng.permuted(np.tile(documents[:, None], (1, REPLICATIONS)), axis=0)
        row: Row = {"n": n, "flips": rate, "margin": margin, "replications": REPLICATIONS}
        for side in ("PASS", "FAIL"):
            decided = gate(flips(n, rate), sums, np.ones((n, 1)), margin, side).decided
            row[side] = float((decided <= n).mean())
        rows.append(row)
    return rows


def adaptive(gains: Array, share: float) -> npt.NDArray[np.int64]:
    """Bets by aGRAPA, mean / mean square so far and at most `share` of the largest: when they decide, (R,)."""
    length, replications = gains.shape
    total, squares = np.zeros(replications), np.full(replications, 0.25)
    log, decided = np.zeros(replications), np.full(replications, length + 1)
    for bet in range(length):
        log += np.log1p(np.clip(total / squares, 0, share) * gains[bet])
        total, squares = total + gains[bet], squares + gains[bet] ** 2
        decided[(log >= math.log(wealth_needed(ALPHA))) & (decided > length)] = bet + 1
    return decided


def choice_of_bets(rng: np.random.Generator) -> list[Row]:
    """Median documents to the verdict: the mixture, adaptive bets, and the best constant bet, known beforehand."""
    rows: list[Row] = []
    n, replications = 5153, 400
    world = flips(n, 0.0)
    for margin in (0.01, 0.02):
        for rate, delta in ((0.002, 0.0), (0.02, 0.0), (0.1, 0.0), (0.14, -0.05), (0.13, -0.1)):
            sums, sizes = flips(n, rate).draw(rng, replications, delta)
            sign = 1.0 if delta > -margin else -1.0
            gains = sign * (sums + margin) / (1 - sign * margin)
            best = min(0.99, float(gains.mean() / (gains**2).mean()))
            crossed = np.log1p(best * gains).cumsum(axis=0) >= math.log(wealth_needed(ALPHA))
            known = np.where(crossed.any(axis=0), crossed.argmax(axis=0) + 1, n + 1)
            mixture = gate(world, sums, sizes, margin, "PASS" if sign > 0 else "FAIL").decided
            found: Found = {
                "mixture": mixture,
                "agrapa_half": adaptive(gains, 0.5),
                "agrapa_0.9": adaptive(gains, 0.9),
            }
            row: Row = {"margin": margin, "flips": rate, "delta": delta}
            row["best_constant"] = float(np.median(known))
            for name, decided in found.items():
                row |= {name: float(np.median(decided)), f"{name}_open": float((decided > n).mean())}
            rows.append(row)
    return rows


def main() -> None:
    """Run everything and write both files."""
    begin = time.perf_counter()
    rng = np.random.default_rng(SEED)
    found: Found = {
        "errors": errors_at_the_margin(rng),
        "shares": documents_used(rng),
        "suites": many_rules(rng),
        "finite": finite_set(rng),
        "bets": choice_of_bets(rng),
    }
    found["settings"] = [
        {"seed": SEED, "alpha": ALPHA, "final_share": FINAL_SHARE, "replications": REPLICATIONS}
    ]
    (HERE / "sequential.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (HERE / "SEQUENTIAL.md").write_text(report(found), encoding="utf-8")
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
