"""One process with all cores against workers that share them, in turn; and what more workers would reach.

python -m bench.workers [--workers 2] [--tasks lambada,piqa,ag_news] [--limit 300] [--repeats 3]

Writes .bench/measured/workers.json and bench/WORKERS.md. Each run is a process of its own. Ray and the model are
started in each, and count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.commands import CHECKOUT, SCRATCH
from bench.machine import describe
from bench.model import model_folder
from bench.run import MEASURED, common_arguments, say, write
from bench.table import table, write_between
from bench.workers_simulated import measured, simulate

RESULTS = CHECKOUT / "bench" / "WORKERS.md"
SIMULATED = (1, 2, 8, 64, 512)
TIMES = (1, 100)  # as many documents


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    common_arguments(parser)
    parser.set_defaults(dtypes=["float32"])
    parser.add_argument("--workers", default=2, type=int)
    parser.add_argument("--tasks", default="lambada,piqa,ag_news")
    parser.add_argument("--limit", default=300, type=int, help="documents of each task")
    return parser.parse_args()


def run(given: argparse.Namespace, model: Path, dtype: str, workers: int) -> dict[str, Any]:
    """One run in a process of its own."""
    arguments = [model, given.tasks, given.limit, workers, given.data_root.resolve(), dtype]
    command = [sys.executable, "-m", "bench.workers_part", *map(str, arguments)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def largest_difference(left: dict[str, Any], right: dict[str, Any]) -> tuple[float, int, int]:
    """Nats of the sample that differs most, how many differ at all, and of how many."""
    pairs = [
        (a, b)
        for name, own in left["samples"].items()
        for one, other in zip(own, right["samples"][name], strict=True)
        for a, b in (zip(one, other, strict=True) if isinstance(one, list) else [(one, other)])
    ]
    gaps = [abs(a - b) for a, b in pairs]
    return max(gaps), sum(gap > 0 for gap in gaps), len(gaps)


def sections(results: dict[str, Any]) -> list[str]:
    """The page's text."""
    machine = results["machine"]
    given = results["given"]
    text = [
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}; {given['tasks']}, "
        f"{given['limit']} documents of each; {given['repeats']} runs of each kind in turn, medians."
    ]
    for dtype, found in results["dtypes"].items():
        one, many = found["one"], found["workers"]
        rows = []
        for label, runs in (
            ("one process, all cores", one),
            (f"{given['workers']} workers, a share each", many),
        ):
            cells = [
                statistics.median(each[key] for each in runs)
                for key in ("seconds", "seconds_ready", "seconds_model")
            ]
            tokens = statistics.median(each["tokens"] for each in runs)
            rows.append(
                [label, *(f"{cell:.1f}" for cell in cells), f"{tokens:,.0f}", f"{tokens / cells[2]:,.0f}"]
            )
        text.append(
            f"### {dtype}\n\n" + table(" | seconds | until loaded | model | tokens computed | tokens/s", rows)
        )
        pairs = [b["seconds"] / a["seconds"] for a, b in zip(one, many, strict=True)]
        model = [b["seconds_model"] / a["seconds_model"] for a, b in zip(one, many, strict=True)]
        gap, differing, count = largest_difference(one[0], many[0])
        text.append(
            f"Workers take {statistics.median(pairs):.3f} times as long as one process ({min(pairs):.3f} to "
            f"{max(pairs):.3f}), start-up of Ray and of each copy of the model included; while they score, "
            f"{statistics.median(model):.3f} times. Of {count:,} log-likelihoods {differing:,} differ, by {gap:.2g} "
            "nats at the most."
        )
        text.append(_simulated(many))
    return text


def _simulated(many: list[dict[str, Any]]) -> str:
    found = measured(many[-1])
    parts = [
        f"One worker computes {found.rate:,.0f} tokens/s; the driver spends {1e6 * found.output_seconds:,.0f} µs on "
        f"each output (its share of planning and of the record included); plans take "
        f"{', '.join(f'{seconds:.2f}' for seconds in found.plan_seconds)} s."
    ]
    for times in TIMES:
        base = simulate(found, 1, times).seconds
        rows = []
        for workers in SIMULATED:
            outcome = simulate(found, workers, times)
            lost = (outcome.start, outcome.plan, outcome.prefix, outcome.wait, outcome.driver)
            shares = [f"{100 * part / outcome.seconds:.0f} %" for part in lost]
            speed = base / outcome.seconds
            rows.append(
                [
                    str(workers),
                    f"{outcome.seconds:,.0f}",
                    f"{speed:.1f}",
                    f"{100 * speed / workers:.0f} %",
                    *shares,
                ]
            )
        label = "The run that was measured" if times == 1 else f"{times} times as many documents"
        header = "workers | seconds | speed-up | of ideal | start-up | planning | prefix again | last shards | driver"
        parts.append(f"{label}:\n\n" + table(header, rows))
    return (
        "Simulated from the shards of the last run with workers; the right five columns are shares of its time.\n\n"
        + ("\n\n".join(parts))
    )


def main() -> None:
    given = arguments()
    SCRATCH.mkdir(exist_ok=True)
    model = model_folder(given.model, SCRATCH).resolve()
    if given.quick:
        given.limit, given.repeats = min(given.limit, 20), 1
    results: dict[str, Any] = {"machine": describe(given.device), "dtypes": {}}
    results["given"] = {name: getattr(given, name) for name in ("tasks", "limit", "repeats", "workers")}
    for dtype in given.dtypes:
        found: dict[str, list[Any]] = {"one": [], "workers": []}
        for repeat in range(given.repeats):
            for kind, workers in (("one", 0), ("workers", given.workers)):
                found[kind].append(run(given, model, dtype, workers))
                say(f"{dtype} {repeat + 1}/{given.repeats} {kind}: {found[kind][-1]['seconds']:.1f} s")
        results["dtypes"][dtype] = found
    write("quick-workers" if given.quick else "workers", results)
    text = "\n\n".join(sections(results))
    if given.quick:
        say(
            f"{text}\n\nNothing quick is put on the page; what was measured is in {MEASURED}/quick-workers.json."
        )
    else:
        write_between(RESULTS, text, "Workers")


if __name__ == "__main__":
    main()
