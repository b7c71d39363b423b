"""Do the gate's methods keep their word? Errors at the margin, power, suites and step noise, by simulation.

    python -m simulations.fixed              # everything, in some ten minutes on one core
    python -m simulations.fixed flips noise  # some studies only; the others stay as they were
    python -m simulations.fixed page         # only the page, from the figures

Writes results.json, and RESULTS.md from it. Each cell has a seed of its own, so any can be run by itself:
tests/simulations does so with the quick ones. What is simulated are the functions of lmeval.paired.
"""

from __future__ import annotations

import json
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from simulations import (
    fixed_bootstrap,
    fixed_clusters,
    fixed_flips,
    fixed_means,
    fixed_noise,
    fixed_planning,
    fixed_ratios,
    fixed_suites,
)
from simulations.fixed_report import report
from simulations.tally import Row

SEED = 20250611
HERE = Path(__file__).parent

Study = tuple[list[Row], Callable[[Row, np.random.Generator], Row]]

STUDIES: dict[str, Study] = {
    "flips": (fixed_flips.CELLS, fixed_flips.measure),
    "means": (fixed_means.CELLS, fixed_means.measure),
    "clusters": (fixed_clusters.CELLS, fixed_clusters.measure),
    "ratios": (fixed_ratios.CELLS, fixed_ratios.measure),
    "bootstrap": (fixed_bootstrap.CELLS, fixed_bootstrap.measure),
    "suites": (fixed_suites.CELLS, fixed_suites.measure),
    "planning": (fixed_planning.CELLS, fixed_planning.measure),
    "noise": (fixed_noise.CELLS, fixed_noise.measure),
}


def measure(study: str, cell: Row) -> Row:
    """One cell with its figures, to six digits."""
    key = json.dumps([study, cell], sort_keys=True)
    rng = np.random.default_rng([SEED, zlib.crc32(key.encode())])
    found = STUDIES[study][1](cell, rng)
    return cell | {name: round(float(value), 6) for name, value in found.items()}


def main() -> None:
    """Run the studies that are named, or all, and write both files."""
    path = HERE / "results.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = sys.argv[1:] or list(STUDIES)
    for study in (name for name in names if name != "page"):
        begin = time.perf_counter()
        rows[study] = [measure(study, cell) for cell in STUDIES[study][0]]
        print(f"{study}: {len(rows[study])} cells, {time.perf_counter() - begin:.0f} s", flush=True)
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(report(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
