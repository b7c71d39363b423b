"""One run of one kind, in a process of its own: what `bench.workers` starts. Prints JSON.

python -m bench.workers_part MODEL TASKS LIMIT WORKERS DATA_ROOT DTYPE    (0 workers: one process)
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BEGIN = time.perf_counter()


def run(model: str, tasks: str, limit: int, workers: int, data_root: str, dtype: str) -> dict[str, Any]:
    """Score, and what it took; of workers also every shard, and the units that they were cut from."""
    from lmeval.engine.sources import ModelOptions
    from lmeval.listener import Silence
    from lmeval.prepare import Settings
    from lmeval.run import Job, Keep, open_job, run_opened
    from lmeval.task import find_tasks

    options = ModelOptions(model, dtype=dtype, offline=True, workers=workers or None)
    names = tasks.split(",")
    job = Job(find_tasks(names), frozenset(names), options, Settings(limit=limit, data_root=Path(data_root)))
    with tempfile.TemporaryDirectory() as folder:
        opened = open_job(job, Silence())
        engine: Any = opened.engine
        ready, cpu = time.perf_counter(), time.process_time()
        units = _units(engine) if workers else []
        record, place = run_opened(opened, job, Keep(Path(folder)), Silence(), BEGIN)
        scored, cpu = time.perf_counter(), time.process_time() - cpu
        samples = {
            name: [json.loads(line)["loglikelihood"] for line in file.open(encoding="utf-8")]
            for name in record.tasks
            for file in [place / "samples" / f"{name}.jsonl"]
        }
    found = {
        "seconds": scored - BEGIN,
        "seconds_ready": ready - BEGIN,
        "seconds_model": record.efficiency.seconds_model,
        "tokens": record.efficiency.tokens_computed,
        "peak_bytes": record.efficiency.peak_memory_bytes,
        "driver_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "driver_cpu_seconds": cpu,
        "outputs": sum(len(x) if isinstance(x, list) else 1 for own in samples.values() for x in own),
        "samples": samples,
    }
    if workers:
        crew = engine.crew
        found |= {
            "shards": [[t.job, t.worker, t.units, t.tokens, t.seconds] for t in crew.times],
            "plan_seconds": crew.plan_seconds,
            "units": units,
        }
    return found


def _units(engine: Any) -> list[list[list[int]]]:
    """A list that gains the tokens and leads of each job's units as the run goes on."""
    found: list[list[list[int]]] = []
    begin = engine.crew.begin

    def noted(*asked: Any) -> Any:
        job, outline = begin(*asked)
        found.append([outline.units.tokens.tolist(), outline.units.lead.tolist()])
        return job, outline

    engine.crew.begin = noted
    return found


if __name__ == "__main__":
    model, tasks, limit, workers, data_root, dtype = sys.argv[1:]
    print(json.dumps(run(model, tasks, int(limit), int(workers), data_root, dtype)))
