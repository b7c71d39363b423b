"""Runs killed at random moments and gone on with: each must end as if nothing had happened. Writes KILLS.md.

    python -m simulations.kills [--trials N] [--real N] [--only NAME] [--with "--workers 2"]

A process that has imported everything forks; the child runs the command line's own `main`. It is killed by SIGKILL
after a time drawn uniformly over the run, or by itself just before, within or behind a write drawn uniformly among
all the writes, renames and syncs of the run. It is begun anew, and killed again, up to three times, and then left to
its end: run.json but for times, the samples, and the names in the folder must be those of a run that was never cut
off, byte for byte. After every kill, whatever has its final name must be whole.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmeval.run_record import without_times
from lmeval.store import JOURNAL
from simulations.kill_cases import CASES, Case, make_cases

HERE = Path(__file__).resolve().parent
REPEATS = 12  # trials of each case
REAL = 1  # of them by a process of its own, as a user starts it
MOST_KILLS = 3
LIMIT_SECONDS = 300
OPERATIONS = ("write", "fsync", "replace", "unlink", "mkdir")


@dataclass
class Tally:
    """What came of a case."""

    kills: Counter[str] = field(
        default_factory=Counter
    )  # by where the run was: start, scoring, writing, done
    at_writes: int = 0
    by_new_processes: int = 0
    resumed: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Left:
    """A finished run, as far as it must not depend on kills."""

    record: str
    files: tuple[tuple[str, bytes], ...]


# ---- a run in a child process ----


def warm_up(cases: Sequence[Case], folder: Path, scratch: Path) -> None:
    """Make the cases, and run a document of some of them, so that children of this process need import nothing.

    Everything is kept to one thread: a thread that is not in a child, or a lock that it held, would stop the child.
    """
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    import torch

    from lmeval.cli import main

    torch.set_num_threads(1)
    make_cases(folder)
    before = os.getcwd(), sys.argv
    work = _work(scratch)
    os.environ["LMEVAL_CACHE"] = str(work / "cache")
    os.chdir(work)
    for case in cases:
        sys.argv = ["lmeval", *replace(case, options=(*case.options, "--limit", "2")).arguments(folder)]
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            code: object = 0
            try:
                main()
            except SystemExit as end:
                code = end.code
        if code:
            raise RuntimeError(f"{case.name}: exit code {code}")
    os.chdir(before[0])
    sys.argv = before[1]


def spawn(case: Case, folder: Path, work: Path, hook: Callable[[], None] | None = None) -> int:
    """Begin a run by a fork; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.chdir(work)
        os.environ["LMEVAL_CACHE"] = str(work / "cache")
        log = os.open(work / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["lmeval", *case.arguments(folder)]
        if hook is not None:
            hook()
        from lmeval.cli import main

        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def spawn_new(case: Case, folder: Path, work: Path) -> int:
    """Begin a run as a user does."""
    environ = os.environ | {"LMEVAL_CACHE": str(work / "cache"), "PYTHONPATH": str(HERE.parent)}
    with (work / "log.txt").open("a") as log:
        command = [sys.executable, "-m", "lmeval", *case.arguments(folder)]
        return subprocess.Popen(command, cwd=work, env=environ, stdout=log, stderr=log).pid


def finish(pid: int, kill_after: float | None = None) -> int | None:
    """Wait for a process, and kill it after so many seconds; its exit code, None where a signal ended it."""
    end = time.monotonic() + (LIMIT_SECONDS if kill_after is None else kill_after)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None
        if time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if kill_after is None:
                raise TimeoutError(f"no end after {LIMIT_SECONDS} s")
            return None
        time.sleep(0.002)


def counting(file: Path, at: int | None = None, how: str = "before") -> Callable[[], None]:
    """A hook that counts the run's writes below `results` into a file, and kills the process at one of them.

    Args:
        file: Where the count is left.
        at: The number of the write; None: it lives.
        how: before it, within it (half of it is written), or behind it.
    """

    def install() -> None:
        count = 0
        opened: dict[int, bool] = {}
        real_open = os.open
        root = os.path.join(os.getcwd(), "results")

        def ours(target: Any) -> bool:
            if isinstance(target, int):
                return opened.get(target, False)
            return os.path.abspath(os.fspath(target)).startswith(root)

        def open_file(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            descriptor = real_open(path, flags, *rest, **options)
            opened[descriptor] = ours(path)
            return descriptor

        def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(target: Any, *rest: Any, **options: Any) -> Any:
                nonlocal count
                if not ours(target):
                    return real(target, *rest, **options)
                count += 1
                if at is None:
                    with open(file, "w") as stream:
                        stream.write(str(count))
                elif count == at:
                    if how == "within" and name == "write":
                        real(target, bytes(rest[0])[: len(rest[0]) // 2])
                    elif how == "behind":
                        real(target, *rest, **options)
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(target, *rest, **options)

            return call

        os.open = open_file  # type: ignore[assignment]
        for name in OPERATIONS:
            setattr(os, name, watched(name, getattr(os, name)))

    return install


# ---- what is left ----


def runs_in(work: Path) -> list[Path]:
    """The run folders."""
    return sorted(path for path in (work / "results").glob("*/*") if path.is_dir())


def left_in(work: Path) -> Left:
    """The one finished run.

    Raises:
        ValueError: There is none, or there are several.
    """
    (folder,) = runs_in(work)
    record = json.loads((folder / "run.json").read_bytes())
    assert record["run_id"] == folder.name
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    del files["run.json"]
    files.pop(JOURNAL, None)  # a process may be killed after run.json and before this
    return Left(json.dumps(without_times(record)), tuple(files.items()))


def stage_of(work: Path) -> str:
    """How far a run came, by what is in its folder."""
    folders = runs_in(work)
    if not folders or not ((folders[0] / JOURNAL).exists() or (folders[0] / "run.json").exists()):
        return "starting"
    if (folders[0] / "run.json").exists():
        return "done"
    if (folders[0] / "samples").exists():
        return "writing"
    return "scoring" if (folders[0] / JOURNAL).read_bytes().count(b"\n") > 1 else "starting"


def check_visible(work: Path, expected: Left) -> list[str]:
    """What of the files with their final names is not whole."""
    wrong = []
    whole = dict(expected.files)
    for folder in runs_in(work):
        for path in folder.rglob("*"):
            name = str(path.relative_to(folder))
            if path.is_dir() or path.name.startswith(".") or name == JOURNAL:
                continue
            if name == "run.json":
                if json.dumps(without_times(json.loads(path.read_bytes()))) != expected.record:
                    wrong.append(f"{name} is another")
            elif path.read_bytes() != whole.get(name):
                wrong.append(f"{name} is not whole")
    return wrong


# ---- trials ----


@dataclass
class Measured:
    """A case's uninterrupted run."""

    case: Case
    folder: Path
    seconds: float
    writes: int
    left: Left
    cache: Path | None


def measure(case: Case, folder: Path, scratch: Path, *, new_processes: bool = False) -> Measured:
    """Run a case to its end, twice: the second time it is timed, and must leave the same."""
    cache = None
    if case.cache == "part":
        first = Case(case.name, case.model, case.tasks, ("--limit", "5"), "empty")
        work = _work(scratch)
        assert finish(spawn(first, folder, work)) == 0, (work / "log.txt").read_text()
        cache = work / "cache"
    lefts, seconds, writes = [], 0.0, 0
    for counted in (not new_processes, False):
        work = _work(scratch, cache)
        count = work / "count"
        begin = time.monotonic()
        if new_processes:
            code = finish(spawn_new(case, folder, work))
        else:
            code = finish(spawn(case, folder, work, counting(count) if counted else None))
        assert code == 0, (work / "log.txt").read_text()
        seconds = time.monotonic() - begin
        writes = int(count.read_text()) if counted else writes
        lefts.append(left_in(work))
    assert lefts[0] == lefts[1], f"{case.name}: two runs that nobody killed differ"
    return Measured(case, folder, seconds, writes, lefts[0], cache)


def _work(scratch: Path, cache: Path | None = None) -> Path:
    work = Path(tempfile.mkdtemp(dir=scratch))
    if cache is not None:
        shutil.copytree(cache, work / "cache")
    return work


def trial(run: Measured, seed: str, scratch: Path, tally: Tally, *, new_processes: bool = False) -> None:
    """Kill a run up to MOST_KILLS times, let it end, and compare."""
    rng = random.Random(f"{run.case.name} {seed}")
    work = _work(scratch, run.cache)
    # forks were timed where there are any, and a process of its own imports everything anew
    seconds = run.seconds * (4 if new_processes and run.writes else 1)
    is_done = False
    for _ in range(rng.randint(1, MOST_KILLS)):
        if new_processes:
            code = finish(spawn_new(run.case, run.folder, work), rng.uniform(0, seconds))
            tally.by_new_processes += code is None
        elif rng.random() < 0.5:
            code = finish(spawn(run.case, run.folder, work), rng.uniform(0, seconds))
        else:
            hook = counting(
                work / "count", rng.randint(1, run.writes), rng.choice(("before", "within", "behind"))
            )
            code = finish(spawn(run.case, run.folder, work, hook))
            tally.at_writes += code is None
        stage = stage_of(work)
        if code is None:
            tally.kills[stage] += 1
        elif code:
            tally.wrong.append(f"{seed}: exit code {code}: {(work / 'log.txt').read_text()[-300:]}")
        tally.wrong += [f"{seed}: after a kill {what}" for what in check_visible(work, run.left)]
        is_done = stage == "done"
        if is_done:
            break
    if not is_done:
        go_on = spawn_new if new_processes else spawn
        code = finish(go_on(run.case, run.folder, work))
        if code:
            tally.wrong.append(f"{seed}: exit code {code}: {(work / 'log.txt').read_text()[-300:]}")
            return
    tally.resumed += 1
    if len(runs_in(work)) > 1:
        tally.wrong.append(f"{seed}: run folders {[folder.name for folder in runs_in(work)]}")
        return
    tally.wrong += [f"{seed}: {what}" for what in differences(left_in(work), run.left)]
    shutil.rmtree(work)


def differences(left: Left, expected: Left) -> list[str]:
    """In which files, and in which fields of run.json, two runs differ."""
    mine, theirs = dict(left.files), dict(expected.files)
    wrong = [f"{name} differs" for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)]
    if left.record != expected.record:
        wrong += [
            f"run.json: {what}" for what in _fields(json.loads(left.record), json.loads(expected.record))
        ]
    return wrong


def _fields(mine: Any, theirs: Any, path: str = "") -> list[str]:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return [
            line
            for key in {**mine, **theirs}
            for line in _fields(mine.get(key), theirs.get(key), f"{path}.{key}".strip("."))
        ]
    return [] if mine == theirs else [f"{path} is {mine!r}, not {theirs!r}"]


# ---- the page ----

HEAD = """# Runs killed and gone on with

Made by `python -m simulations.kills`; seeds are the numbers of the trials. Each trial kills a run by SIGKILL one to
three times, after a time drawn uniformly over the run or at a write, rename or sync drawn uniformly among all of them
(just before it, half-way through a write, or just behind it), then lets it end. What it leaves is compared with what
a run that nobody killed left: the samples and the names in the folder byte for byte, run.json but for the fields that
[docs/resume.md](../docs/resume.md) lists. After each kill, every file that has its final name must be whole.

The columns say where a run was when it was killed, how many of the kills were at a write, how many were of
processes of their own in place of forks, how many trials came to their end, and how many findings there were in them.

| runs of | kills | starting | scoring | writing | done | at a write | new process | ended | differ |
|---|---|---|---|---|---|---|---|---|---|
"""


def report(tallies: dict[str, Tally]) -> str:
    """The page."""
    lines = []
    total = Tally()
    for name, tally in [*tallies.items(), ("all", total)]:
        if tally is not total:
            total.kills += tally.kills
            total.at_writes += tally.at_writes
            total.by_new_processes += tally.by_new_processes
            total.resumed += tally.resumed
            total.wrong += tally.wrong
        stages = [tally.kills[stage] for stage in ("starting", "scoring", "writing", "done")]
        cells = [
            name,
            sum(stages),
            *stages,
            tally.at_writes,
            tally.by_new_processes,
            tally.resumed,
            len(tally.wrong),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |\n")
    return HEAD + "".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all trials and write the page; 1 where one of them differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=REPEATS, help="of each case")
    parser.add_argument("--real", type=int, default=REAL, help="of them by new processes")
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument(
        "--with", dest="added", default="", help="further words of every command; all processes are new"
    )
    parser.add_argument("--output", type=Path, default=HERE / "KILLS.md")
    options = parser.parse_args(arguments)
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="lmeval-kills-") as place:
        scratch, folder = Path(place) / "runs", Path(place) / "cases"
        scratch.mkdir()
        folder.mkdir()
        added = tuple(shlex.split(options.added))
        chosen = [case for case in CASES if options.only in case.name]
        cases = [replace(case, options=(*case.options, *added)) for case in chosen]
        if added:
            make_cases(folder)
        else:
            warm_up(cases, folder, scratch)
        for case in cases:
            run = measure(case, folder, scratch, new_processes=bool(added))
            tally = tallies.setdefault(case.name, Tally())
            for number in range(options.trials):
                trial(run, str(number), scratch, tally, new_processes=number < options.real or bool(added))
            print(
                f"{case.name}: {sum(tally.kills.values())} kills, {tally.resumed} resumed, {tally.wrong}",
                flush=True,
            )
    if not options.only and not (added and options.output == HERE / "KILLS.md"):
        options.output.write_text(report(tallies), encoding="utf-8")
    return int(any(tally.wrong for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
