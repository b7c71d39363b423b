"""Metrics of a corpus: which bootstrap holds its level, and that the chosen one with its guard does.

All replications of a cell share the resampled documents, as all comparisons of a gate do (its seed is fixed), so that
one product of matrices resamples them all. tests/simulations holds that to `paired_difference`, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtr

from lmeval.metrics import find_metric
from lmeval.paired import BootstrapDifference, Difference
from lmeval.paired.bootstrap import leave_one_out
from lmeval.paired.methods import guard_resamples
from lmeval.stats import resample_counts
from simulations.tally import ALPHA, Row, main_of, tally

RESAMPLES = 2000
REPLICATIONS = {50: 10_000, 200: 6000, 1000: 3000}
CHUNK = 250  # replications resampled at a time
TRUTH_DOCUMENTS = 2_000_000

CELLS: list[Row] = [
    *({"metric": "bleu-like", "flips": 1.0, "n": n} for n in REPLICATIONS),
    *(
        {"metric": metric, "flips": flips, "n": n}
        for metric in ("mcc", "macro_f1")
        for flips in (0.01, 0.03, 0.1)
        for n in REPLICATIONS
    ),
    {"metric": "absolute", "flips": 1.0, "n": 200},
]

Array = npt.NDArray[np.float64]


def measure(cell: Row, rng: np.random.Generator) -> Row:
    """One row; the margin is minus the true difference, found on two million documents."""
    if cell["metric"] == "absolute":
        return absolute_differences(cell["n"], rng)
    margin = -truth(cell)
    found = list(differences(cell, rng))
    row = tally((difference for difference, _ in found), margin)
    mains = [(main_of(difference), pseudo) for difference, pseudo in found]
    for name, p_values in (("percentile", percentile), ("basic", basic), ("bca", bca)):
        p = np.array([p_values(main, pseudo, margin) for main, pseudo in mains])  # (B, 2)
        row |= {
            f"{name}_PASS": float((p[:, 0] <= ALPHA).mean()),
            f"{name}_FAIL": float((p[:, 1] <= ALPHA).mean()),
        }
    return {**row, "margin": round(margin, 6)}


def difference_of_metric(cell: Row, sums: Array) -> Array:
    """Candidate minus baseline: (..., 2 K) -> (...)."""
    flat = sums.reshape(-1, sums.shape[-1])
    middle = flat.shape[1] // 2
    aggregate = bleu_like if cell["metric"] == "bleu-like" else find_metric(cell["metric"]).aggregate
    return np.asarray(aggregate(flat[:, middle:]) - aggregate(flat[:, :middle])).reshape(sums.shape[:-1])


def bleu_like(sums: Array) -> Array:
    """Geometric mean of four precisions, 0-100: matches and totals of 1- to 4-grams, (R, 8) -> (R,)."""
    return np.asarray(100 * np.exp(np.log(np.maximum(sums[:, 0::2], 0.5) / sums[:, 1::2]).mean(axis=1)))


def statistics(cell: Row, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Both models' statistics of (replications, documents): (B, n, 2 K)."""
    if cell["metric"] == "bleu-like":
        return translations(shape, rng)
    label = rng.random(shape) < 0.2  # the rarer class
    before = np.where(rng.random(shape) < 0.15, ~label, label)
    after = np.where(rng.random(shape) < cell["flips"], ~before, before)
    sides = [
        np.stack([~answer & ~label, answer & label, ~answer, answer, ~label, label], axis=-1)
        for answer in (before, after)
    ]
    return np.concatenate(sides, axis=-1).astype(np.float64)


def translations(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """n-gram matches of sentences of 4 to 60 words, easy and hard ones; the candidate is a little worse."""
    words, ease = rng.integers(4, 60, shape), rng.beta(4, 3, shape)
    columns = []
    for loss in (0.0, 0.02):
        precision = np.clip(ease + rng.normal(0, 0.08, shape) - loss, 0.02, 0.98)
        for order in range(4):
            total = np.maximum(words - order, 1)
            columns += [rng.binomial(total, precision ** (order + 1)), total]
    return np.stack(columns, axis=-1).astype(np.float64)


def truth(cell: Row) -> float:
    """The difference over two million documents, from a seed of its own: the same for every n."""
    rng, sums = np.random.default_rng(1), []
    for _ in range(20):
        sums.append(statistics(cell, (1, TRUTH_DOCUMENTS // 20), rng).sum(axis=(0, 1)))
    return float(difference_of_metric(cell, np.sum(sums, axis=0)))


def differences(cell: Row, rng: np.random.Generator) -> Iterator[tuple[Difference, Array]]:
    """Replications of the comparison, each with its pseudo-values."""
    n = cell["n"]
    counts = np.concatenate(list(resample_counts(n, RESAMPLES, np.random.default_rng(0)))).astype(np.float64)
    for start in range(0, REPLICATIONS[n], CHUNK):
        tables = statistics(cell, (min(CHUNK, REPLICATIONS[n] - start), n), rng)
        size, width = len(tables), tables.shape[-1]
        sums = (counts @ tables.transpose(1, 0, 2).reshape(n, -1)).reshape(RESAMPLES, size, width)
        resampled = difference_of_metric(cell, sums)  # (R, B)
        for table, values in zip(tables, resampled.T, strict=True):
            yield one_difference(cell, table, values)


def one_difference(cell: Row, table: Array, resampled: Array) -> tuple[Difference, Array]:
    """What `paired_difference` returns for one replication, from its resampled differences."""
    n, middle = len(table), table.shape[1] // 2
    delta = float(difference_of_metric(cell, table.sum(axis=0)))
    stderr = float(resampled.std(ddof=1))
    main = BootstrapDifference(delta, stderr, n, np.sort(resampled), n - 1, "paired bootstrap")
    pseudo = leave_one_out(table, lambda sums: difference_of_metric(cell, sums))
    changed = (table[:, :middle] != table[:, middle:]).any(axis=1)
    reach = {"bleu-like": 100.0, "mcc": 2.0, "macro_f1": 1.0}[cell["metric"]]
    return guard_resamples(main, pseudo, changed, None, reach, None), pseudo


def percentile(main: BootstrapDifference, pseudo: Array, margin: float) -> tuple[float, float]:
    """p of PASS and FAIL: the plain share of resamples beyond the margin."""
    return _shares(np.searchsorted(main.resampled, -margin, side="right"), len(main.resampled))


def basic(main: BootstrapDifference, pseudo: Array, margin: float) -> tuple[float, float]:
    """The resamples shifted to the margin, and how many come out beyond what was seen."""
    mirrored = np.sort(2 * main.delta - main.resampled)
    return _shares(np.searchsorted(mirrored, -margin, side="right"), len(mirrored))


def bca(main: BootstrapDifference, pseudo: Array, margin: float) -> tuple[float, float]:
    """Bias-corrected and accelerated (Efron 1987), with as much widening for small samples as the chosen one."""
    total, residuals = len(main.resampled), pseudo - pseudo.mean()
    squares = float(residuals @ residuals)
    acceleration = float((residuals**3).sum()) / (6 * squares**1.5) if squares else 0.0
    below = _middle(main.resampled, main.delta)
    share = (_middle(main.resampled, -margin) + 0.5) / (total + 1)
    bias = ndtri((below + 0.5) / (total + 1))
    w = ndtri(share) - bias
    z = (w / (1 + acceleration * w) - bias) * np.sqrt((main.n - 1) / main.n)
    return float(stdtr(main.df, z)), float(stdtr(main.df, -z))


def _middle(ordered: Array, value: float) -> float:
    return float(np.searchsorted(ordered, value, "left") + np.searchsorted(ordered, value, "right")) / 2


def _shares(below: np.integer, total: int) -> tuple[float, float]:
    return (int(below) + 1) / (total + 1), (total - int(below) + 1) / (total + 1)


def absolute_differences(n: int, rng: np.random.Generator) -> Row:
    """Equal models, two-sided: signed resampled differences, and absolute ones less their mean as in sacrebleu."""
    replications, signed, absolute = 4000, 0, 0
    counts = np.concatenate(list(resample_counts(n, RESAMPLES, np.random.default_rng(0)))) / n
    for _ in range(replications):
        d = rng.normal(size=n)
        resampled, delta = counts @ d, d.mean()
        signed += (np.abs(resampled - delta) >= abs(delta)).mean() <= ALPHA
        size = np.abs(resampled)
        absolute += (size - size.mean() >= abs(delta)).mean() <= ALPHA
    return {
        "signed": signed / replications,
        "absolute": absolute / replications,
        "replications": replications,
    }
