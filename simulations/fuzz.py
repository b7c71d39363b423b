"""Hostile files by the thousand: task files, templates, gate files, run records and what else tests/fuzz/kinds.py has.

    python -m simulations.fuzz                         # writes simulations/fuzz.json and simulations/FUZZ.md
    python -m simulations.fuzz --kinds A,B             # the same of some kinds: the others' rows stay
    python -m simulations.fuzz --kinds A --examples 9  # a few, and nothing is written

Each kind's inputs are made by hypothesis from committed seeds and go through the code that the commands run, in a
process that the system ends where one input takes more than WATCHDOG_SECONDS of processor time, in C code too, and
that gets no more than MEMORY_BYTES of memory. The input that did it is written beside the page.
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.kind import MAX_CPU_SECONDS
from tests.fuzz.kinds import KINDS

SEED = 20240917
EXAMPLES = 24_000  # of all kinds together
CHUNK = 500  # inputs of one process
WARM_UP = 20  # of them, which are tried before as well
PROCESSES = 2
WATCHDOG_SECONDS = 10
MEMORY_BYTES = 2 * 2**30  # beyond what a process has when it begins
MAX_GROWTH_BYTES = 2**30  # of a process over all its inputs
HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "fuzz.json", HERE / "FUZZ.md"
Row = dict[str, Any]


@dataclass
class Found:
    """What came of inputs of one kind."""

    kind: str
    examples: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0  # of processor time, of one input
    growth_bytes: int = 0  # of the process's largest resident memory


def peak_bytes() -> int:
    """The largest resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def try_kind(kind: str, examples: int, number: int, folder: Path, *, note: Path | None = None) -> Found:
    """Try inputs of a kind in this process.

    Args:
        kind: One of KINDS.
        examples: How many, at most: hypothesis makes no input twice.
        number: The seed.
        folder: Each input gets a folder in it.
        note: Where an input is written before it is tried.
    """
    found = Found(kind)
    before = peak_bytes()

    came: dict[int, str] = {}  # by the number of the input

    def tried(example: Any, place: Path) -> float:
        begin = time.process_time()
        try:
            came_of_it = KINDS[kind].check(example, place)
            came[found.examples] = came_of_it
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            found.failures.append(
                f"{type(error).__name__} at {where}: {str(error)[:500]}; of {example!r:.1500}"
            )
        shutil.rmtree(place, ignore_errors=True)
        return time.process_time() - begin

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind].examples)
    def one(example: Any) -> None:
        found.examples += 1
        place = folder / f"{kind}-{number}-{found.examples}"
        place.mkdir()
        if note is not None:
            note.write_bytes(pickle.dumps(example))
            signal.setitimer(signal.ITIMER_PROF, WATCHDOG_SECONDS)
        seconds = tried(example, place)
        if seconds > MAX_CPU_SECONDS:  # once more: libraries that it loaded are no part of it
            place = place.with_suffix(".again")
            place.mkdir()
            seconds = tried(example, place)
        if note is not None:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if seconds > MAX_CPU_SECONDS:
            found.failures.append(f"{seconds:.1f} s of processor time; of {example!r:.1500}")
        found.slowest_seconds = max(found.slowest_seconds, seconds)

    one()
    found.outcomes = dict(Counter(came.values()))
    found.growth_bytes = peak_bytes() - before
    return found


def _work(kind: str, examples: int, number: int, folder: Path) -> None:
    """One process's part; what it found is the last line that it prints."""
    # libraries are loaded, which is no part of what inputs take in time and memory
    try_kind(kind, WARM_UP, number, folder)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES,) * 2)
    found = try_kind(kind, examples, number, folder / "all", note=folder / "input.pickle")
    print(json.dumps(asdict(found)))


def _run_part(kind: str, examples: int, number: int) -> Found:
    folder = Path(tempfile.mkdtemp(prefix="lmeval-fuzz-"))
    (folder / "all").mkdir()
    command = [
        sys.executable,
        "-m",
        "simulations.fuzz",
        "--part",
        kind,
        str(examples),
        str(number),
        str(folder),
    ]
    try:
        ran = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
        if ran.returncode == 0:
            return Found(**json.loads(ran.stdout.splitlines()[-1]))
        ended = "the watchdog" if ran.returncode == -signal.SIGPROF else f"exit code {ran.returncode}"
        note = folder / "input.pickle"
        example = pickle.loads(note.read_bytes()) if note.exists() else None
        return Found(kind, failures=[f"{ended}; of {example!r:.1500}; {ran.stderr[-500:]}"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(kinds: Sequence[str], examples: int | None) -> list[Found]:
    """Try so many inputs of each kind, or its share of EXAMPLES; what was found of each."""
    shares = sum(kind.share for kind in KINDS.values())
    parts = []
    for kind in kinds:
        wanted = examples or -(-EXAMPLES * KINDS[kind].share // shares)
        # every process gets a seed of its own, by its number in its kind
        parts += [(kind, min(CHUNK, wanted - at), SEED + at // CHUNK) for at in range(0, wanted, CHUNK)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        done = list(pool.map(lambda part: _run_part(*part), parts))
    return [_together(kind, [found for found in done if found.kind == kind]) for kind in kinds]


def _together(kind: str, parts: Sequence[Found]) -> Found:
    whole = Found(kind)
    for part in parts:
        whole.examples += part.examples
        whole.outcomes = dict(Counter(whole.outcomes) + Counter(part.outcomes))
        whole.failures += part.failures
        whole.slowest_seconds = max(whole.slowest_seconds, part.slowest_seconds)
        whole.growth_bytes = max(whole.growth_bytes, part.growth_bytes)
        if part.growth_bytes > MAX_GROWTH_BYTES:
            whole.failures.append(f"{part.growth_bytes >> 20} MiB more than at the start")
    return whole


# ---- the page ----


def row_of(found: Found) -> Row:
    """What is committed of a kind."""
    accepted = found.outcomes.get("accepted", 0)
    return {
        "kind": found.kind,
        "examples": found.examples,
        "accepted": accepted,
        "errors": dict(sorted((name, n) for name, n in found.outcomes.items() if name != "accepted")),
        "failures": len(found.failures),
        "slowest_seconds": round(found.slowest_seconds, 2),
        "growth_mib": found.growth_bytes >> 20,
    }


def report(rows: Sequence[Row]) -> str:
    """The page in Markdown."""
    total = sum(row["examples"] for row in rows)
    lines = [
        "# Hostile files",
        "",
        f"`python -m simulations.fuzz` made {total:,} inputs and had the code of the commands read them. An input must",
        "be taken, or end in one clean error: below 4,000 characters, nothing in it that moves a cursor, with the",
        f"file's name where there is one; within {MAX_CPU_SECONDS:g} s of processor time, and no process may grow by",
        f"more than {MAX_GROWTH_BYTES >> 30} GiB. Seeds are {SEED} and, for each further {CHUNK} inputs of a kind,",
        "one more.",
        "",
        "| kind | inputs | taken | clean errors | others | slowest, of the limit | growth, MiB |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        errors = ", ".join(f"{name} {count:,}" for name, count in row["errors"].items()) or "none"
        slowest = f"{100 * row['slowest_seconds'] / MAX_CPU_SECONDS:.0f} %"
        lines.append(
            f"| {row['kind']} | {row['examples']:,} | {row['accepted']:,} | {errors} | {row['failures']} "
            f"| {slowest} | {row['growth_mib']} |"
        )
    lines += [
        "",
        "Growth is of a process's resident memory over all its inputs. A share of the same code runs in the tests",
        "(`tests/fuzz`), and what was found on the way is a test of its own there or beside the code that it was in.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", help="with commas between; default: all")
    parser.add_argument("--examples", type=int, help="of each kind; then no page is written")
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        kind, examples, number, folder = options.part
        _work(kind, int(examples), int(number), Path(folder))
        return
    kinds = options.kinds.split(",") if options.kinds else list(KINDS)
    everything = run(kinds, options.examples)
    for found in everything:
        print(
            found.kind,
            found.examples,
            found.outcomes,
            f"{found.slowest_seconds:.2f} s",
            found.growth_bytes >> 20,
        )
        for failure in found.failures[:20]:
            print("  FAILED:", failure)
    if options.examples is None:
        old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
        rows = {row["kind"]: row for row in old}
        rows |= {found.kind: row_of(found) for found in everything}
        kept = [rows[kind] for kind in KINDS if kind in rows]
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(report(kept), encoding="utf-8")
    sys.exit(any(found.failures for found in everything))


if __name__ == "__main__":
    main()
