"""Runs with workers, killed at random moments: the run itself, or one of its workers. Writes KILLS_WORKERS.md.

    python -m simulations.kills_workers [--trials N] [--only NAME]

Every run is a process of its own with a Ray of its own. Half the kills are of the driver, which is begun anew until it
comes to its end, some of the times without workers: a journal is a journal. Half are of a worker, which the run must
survive. What is left must be what one process leaves that nobody killed: run.json but for what it ran on and what that
cost, the samples byte for byte. In the end no process of any run may be there.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from simulations.kill_cases import CASES, Case, make_cases
from simulations.kills import Left, check_visible, differences, finish, left_in, spawn_new, stage_of

HERE = Path(__file__).resolve().parent
TRIALS = 4  # of each case
CHOSEN = ("likelihoods", "texts", "few shots, tokens kept", "masked", "encoder-decoder", "classifier")
MORE = ("--limit", "60")  # so that scoring takes seconds
WORKERS = ("--workers", "2")
MOST_KILLS = 2
GONE_SECONDS = 30
# on how it was asked, on what is committed meanwhile, and on who did what
DEPENDS = (
    "command",
    "runtime.git",
    "runtime.workers",
    "efficiency.tokens_computed",
    "efficiency.slot_occupancy",
)


@dataclass
class Tally:
    """What came of a case."""

    drivers: int = 0
    workers: int = 0
    while_scoring: int = 0
    ended: int = 0
    wrong: list[str] = field(default_factory=list)


def workers_of(driver: int) -> list[int]:
    """The workers that descend from a process: they name themselves after their actor."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            status = (folder / "status").read_text()
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:
            continue
        parents[int(folder.name)] = int(status.split("PPid:")[1].split()[0])

    def descends(pid: int) -> bool:
        while pid in parents and pid != driver:
            pid = parents[pid]
        return pid == driver

    return [pid for pid, name in names.items() if name.startswith("ray::Worker") and descends(pid)]


def wait_for(work: Path, pid: int, seconds: float, rng: random.Random) -> None:
    """Until a moment drawn over the run; half of the time over its scoring, which is the short end of it."""
    begin, after = time.monotonic(), rng.uniform(0, seconds)
    if rng.random() < 0.5:
        while stage_of(work) == "starting" and time.monotonic() - begin < 5 * seconds and _lives(pid):
            time.sleep(0.05)
        after = rng.uniform(0, 0.2 * seconds)
        begin = time.monotonic()
    while time.monotonic() - begin < after and _lives(pid):
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def left_behind(driver: int) -> list[str]:
    """Processes of the Ray of a run that is over, which have had the time to end."""
    end = time.monotonic() + GONE_SECONDS
    while True:
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                found += [file.parent.name] if f"lmeval-ray-{driver}-" in file.read_text() else []
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.5)


def trial(
    case: Case, folder: Path, scratch: Path, seconds: float, expected: Left, seed: int, tally: Tally
) -> None:
    """Kill a run, or a worker of it, and let it end."""
    rng = random.Random(f"{case.name} {seed}")
    work = Path(tempfile.mkdtemp(dir=scratch))
    shared = replace(case, options=(*case.options, *WORKERS))
    for _ in range(rng.randint(1, MOST_KILLS)):
        pid = spawn_new(shared, folder, work)
        kills_driver = rng.random() < 0.5
        wait_for(work, pid, seconds, rng)
        tally.while_scoring += stage_of(work) == "scoring"
        victims = [pid] if kills_driver else workers_of(pid)
        if victims and _lives(pid):
            os.kill(rng.choice(victims), signal.SIGKILL)
            tally.drivers += kills_driver
            tally.workers += not kills_driver
        code = finish(pid)
        if code:
            tally.wrong.append(f"{seed}: exit code {code}: {(work / 'log.txt').read_text()[-300:]}")
        tally.wrong += [f"{seed}: process {left} is left" for left in left_behind(pid)]
        seen = check_visible(work, expected)
        tally.wrong += [f"{seed}: after a kill {what}" for what in seen if what != "run.json is another"]
        if stage_of(work) == "done":
            break
    if stage_of(work) != "done":
        code = finish(spawn_new(shared if rng.random() < 0.7 else case, folder, work))
        if code:
            tally.wrong.append(f"{seed}: exit code {code}: {(work / 'log.txt').read_text()[-300:]}")
            return
    tally.ended += 1
    tally.wrong += [f"{seed}: {what}" for what in differences(left_in(work), expected) if _counts(what)]
    shutil.rmtree(work)


def _counts(difference: str) -> bool:
    """Whether two runs must not differ in this."""
    named = difference.removeprefix("run.json: ")
    return not named.startswith((*(f"{name} " for name in DEPENDS),))


HEAD = """# Runs with workers, killed

Made by `python -m simulations.kills_workers`; seeds are the numbers of the trials. Runs of `--workers 2`, each a
process with a Ray of its own, are cut off by SIGKILL once or twice: the driver, or one of its workers, at a moment
drawn over the run or, as often, over its scoring. A driver that was killed is begun anew, with workers or, three
times in ten, without. What is left is compared with what one process left that nobody killed: the samples byte for
byte, run.json but for times, the command, the number of workers, and what depends on who did what (tokens computed,
occupancy of slots). No process of a Ray may be there half a minute after its run.

| runs of | drivers killed | workers killed | of these while scoring | ended | differ |
|---|---|---|---|---|---|
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all trials and write the page; 1 where one of them differs, or a process is left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=TRIALS, help="of each case")
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--output", type=Path, default=HERE / "KILLS_WORKERS.md")
    options = parser.parse_args(arguments)
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="lmeval-kills-") as place:
        scratch, folder = Path(place) / "runs", Path(place) / "cases"
        scratch.mkdir()
        folder.mkdir()
        make_cases(folder)
        for case in (case for case in CASES if case.name in CHOSEN and options.only in case.name):
            case = replace(case, options=(*case.options, *MORE))
            work = Path(tempfile.mkdtemp(dir=scratch))
            assert finish(spawn_new(case, folder, work)) == 0, (work / "log.txt").read_text()
            expected, tally = left_in(work), tallies.setdefault(case.name, Tally())
            begin, work = time.monotonic(), Path(tempfile.mkdtemp(dir=scratch))
            shared = replace(case, options=(*case.options, *WORKERS))
            assert finish(spawn_new(shared, folder, work)) == 0, (work / "log.txt").read_text()
            seconds = time.monotonic() - begin
            tally.wrong += [
                f"not killed: {what}" for what in differences(left_in(work), expected) if _counts(what)
            ]
            for number in range(options.trials):
                trial(case, folder, scratch, seconds, expected, number, tally)
                print(f"{case.name} {number}: {tally}", flush=True)
    rows = [
        (name, t.drivers, t.workers, t.while_scoring, t.ended, len(t.wrong)) for name, t in tallies.items()
    ]
    rows.append(("all", *(sum(row[column] for row in rows) for column in range(1, 6))))  # type: ignore[arg-type]
    page = HEAD + "".join("| " + " | ".join(map(str, row)) + " |\n" for row in rows)
    if not options.only:
        options.output.write_text(page, encoding="utf-8")
    print(page)
    return int(any(tally.wrong for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
