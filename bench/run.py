"""lm-eval and lmeval side by side, in turn and repeated; writes a file per work and dtype to .bench/measured.

python -m bench.run --works ag_news,piqa --dtypes float32 --repeats 3
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from bench.commands import CHECKOUT, SCRATCH, CommandFailed, Run, Setting, run_lm_eval, run_lmeval
from bench.flops import Shape, least_work
from bench.machine import describe
from bench.model import model_folder
from bench.works import WORKS, Work

MEASURED = SCRATCH / "measured"


def common_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every script here takes."""
    model, data = os.environ.get("LMEVAL_TEST_MODEL", ""), os.environ.get("LMEVAL_DATA", "")
    parser.add_argument("--model", default=model, help=".gguf file, folder or random-1b [LMEVAL_TEST_MODEL]")
    parser.add_argument("--data-root", default=data or CHECKOUT.parent / "shared" / "data", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", default="float32,bfloat16", type=lambda text: text.split(","))
    parser.add_argument("--repeats", default=3, type=int)
    parser.add_argument("--quick", action="store_true", help="few documents, once: shows that it runs")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    common_arguments(parser)
    parser.add_argument("--works", default=list(WORKS), type=lambda text: text.split(","))
    parser.add_argument("--batch-size", type=int, help="lm-eval's; chosen by trying where it is not given")
    given = parser.parse_args()
    if unknown := [name for name in given.works if name not in WORKS]:
        parser.error(f"unknown works {unknown}; there are {list(WORKS)}")
    if not given.data_root.is_dir():
        parser.error(f"no data mirror at {given.data_root}: give --data-root, or set LMEVAL_DATA")
    return given


def best_batch_size(work: Work, setting: Setting) -> tuple[int, dict[int, float | None]]:
    """lm-eval's fastest batch size on the first documents; each one's seconds, None where memory ran out."""
    seconds: dict[int, float | None] = {}
    for size in work.batch_sizes:
        try:
            run, _ = run_lm_eval(work, setting, size, limit=work.probe_limit, memory_limit=_free_memory())
            seconds[size] = run.seconds_whole
        except CommandFailed as error:
            if "memory" not in str(error):
                raise
            seconds[size] = None
        say(f"  lm-eval, batch {size}, {work.probe_limit} documents: {seconds[size] or 'out of memory'}")
    finished = {size: value for size, value in seconds.items() if value is not None}
    return min(finished, key=finished.__getitem__), seconds


def _free_memory() -> int | None:
    """Nine tenths of what is free, so that a batch too large fails alone; None where that cannot be read."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    (available,) = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    return available * 1024 * 9 // 10


def largest_difference(ours: list[float], theirs: list[float]) -> float:
    """In nats, over requests; over the sum where lm-eval cut a document into windows."""
    if len(ours) == len(theirs):
        return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    return abs(sum(ours) - sum(theirs))


def side_by_side(work: Work, setting: Setting, repeats: int, batch_size: int | None) -> dict[str, Any]:
    """The two harnesses in turn, after each has run once."""
    if batch_size is None:
        batch_size, probes = best_batch_size(work, setting)
    else:
        probes = {}
        run_lm_eval(work, setting, batch_size, limit=work.probe_limit)
    run_lmeval(work, setting, limit=work.probe_limit)
    theirs: list[Run] = []
    ours: list[Run] = []
    for _ in range(repeats):
        run, requests = run_lm_eval(work, setting, batch_size)
        theirs.append(run)
        run, record = run_lmeval(work, setting)
        ours.append(run)
        say(f"  lm-eval {theirs[-1].seconds_whole:.1f} s, lmeval {ours[-1].seconds_whole:.1f} s")
    least = least_work(requests)
    return {
        "work": dataclasses.asdict(work),
        "dtype": setting.dtype,
        "device": setting.device,
        "model": setting.model.name,
        "batch_size": batch_size,
        "batch_size_seconds": probes,
        "lm_eval": [run.summary() for run in theirs],
        "lmeval": [run.summary() for run in ours],
        "efficiency": record["efficiency"],
        "largest_difference_nats": largest_difference(ours[-1].loglikelihoods, theirs[-1].loglikelihoods),
        "least": dataclasses.asdict(least),
        "flops": least.flops(Shape.of(setting.model)),
        "machine": describe(setting.device),
    }


def write(name: str, value: Any) -> None:
    """What was measured last replaces what was there."""
    MEASURED.mkdir(parents=True, exist_ok=True)
    (MEASURED / f"{name}.json").write_text(json.dumps(value, indent=1), encoding="utf-8")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    given = arguments()
    SCRATCH.mkdir(exist_ok=True)
    model = model_folder(given.model, SCRATCH).resolve()
    for dtype in given.dtypes:
        setting = Setting(model, given.data_root.resolve(), dtype, given.device)
        for work in (WORKS[name] for name in given.works):
            if given.quick:
                work = dataclasses.replace(work, limit=min(work.limit, 8), probe_limit=2, batch_sizes=(1, 8))
            say(f"{work.name}, {dtype}, {work.limit} documents")
            measured = side_by_side(work, setting, 1 if given.quick else given.repeats, given.batch_size)
            write(f"{'quick-' if given.quick else ''}{work.name}-{dtype}", measured)
    if given.quick:
        say(f"Nothing quick is put into the table; what was measured is in {MEASURED}/quick-*.json.")


if __name__ == "__main__":
    main()
