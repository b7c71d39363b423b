"""What a run leaves behind beside its scores: on what it ran, and what it cost."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lmeval
from lmeval.engine.base import Engine, Usage
from lmeval.metrics import PLUGIN_PREFIX
from lmeval.records import (
    EfficiencyRecord,
    RunRecord,
    RuntimeRecord,
    TaskRecord,
)
from lmeval.secrets import redacted

# What of run.json may differ between a run that was cut off and one that was not: times, what is computed from them,
# and the memory of the process that ended the run. `run_id` begins with the time at which the run began.
MAY_DIFFER = (
    "run_id",
    "created",
    "efficiency.seconds_total",
    "efficiency.seconds_model",
    "efficiency.tokens_per_second",
    "efficiency.generated_per_second",
    "efficiency.flops_per_second",
    "efficiency.utilisation",
    "efficiency.peak_memory_bytes",
)
# The same where texts were written: how much of what others began with had to be read again depends on who was writing
MAY_DIFFER_OF_TEXTS = ("efficiency.tokens_computed",)
LEAST_SECONDS = 1.0  # of the model's time from which on its utilisation is worth a measurement


def run_record(
    engine: Engine,
    tasks: Mapping[str, TaskRecord],
    *,
    run_id: str,
    command: str,
    seed: int,
    seconds_total: float,
    usage: Usage | None = None,
    skipped: Mapping[str, str],
    chat_template_sha256: str | None = None,
    system_prompt: str | None = None,
) -> RunRecord:
    """The record of a run whose tasks are done, without a secret that its command or a message named.

    `usage` is what it cost in all processes that had a part in it, if they were several.
    """
    runtime = RuntimeRecord(
        lmeval=lmeval.__version__,
        git=_git_commit(),
        python=platform.python_version(),
        torch=engine.versions["torch"],
        transformers=engine.versions["transformers"],
        device=engine.device,
        seed=seed,
        max_length=engine.max_length,
        batch_tokens=engine.batch_tokens,
        chat_template_sha256=chat_template_sha256,
        system_prompt=system_prompt,
        trusted_code=_trusted_code(tasks),
        workers=getattr(engine, "num_workers", None),
        device_map=getattr(engine, "device_map", None),
    )
    record = RunRecord(
        run_id=run_id,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        model=engine.model,
        tokenizer=engine.tokenizer,
        runtime=runtime,
        efficiency=_efficiency(engine, seconds_total, usage or engine.usage),
        tasks=tasks,
        skipped=skipped,
    )
    return redacted(record)


def _trusted_code(tasks: Mapping[str, TaskRecord]) -> tuple[str, ...]:
    """The metrics that are programs of others; they ran because the user had consented, see prepare.prepare."""
    named = {metric for task in tasks.values() for metric in task.metrics}
    return tuple(sorted(metric for metric in named if metric.startswith(PLUGIN_PREFIX)))


def _efficiency(engine: Engine, seconds_total: float, usage: Usage) -> EfficiencyRecord:
    here = engine.usage.seconds_model  # the rate is that of this process: others may have run elsewhere
    work = engine.work() if here >= LEAST_SECONDS else None
    return EfficiencyRecord(
        seconds_total=round(seconds_total, 3),
        seconds_model=round(usage.seconds_model, 3),
        tokens_requested=usage.tokens_requested,
        tokens_distinct=usage.tokens_distinct,
        tokens_computed=usage.tokens_computed,
        tokens_per_second=round(usage.tokens_computed / usage.seconds_model, 1)
        if usage.seconds_model
        else 0.0,
        peak_memory_bytes=engine.peak_memory_bytes(),
        path=usage.path,
        tokens_generated=usage.tokens_generated,
        generated_per_second=round(usage.tokens_generated / usage.seconds_generating, 1)
        if usage.seconds_generating
        else None,
        slot_occupancy=round(usage.tokens_generated / usage.slot_steps, 4) if usage.slot_steps else None,
        flops_per_second=round(work.flops / here) if work else None,
        utilisation=round(work.flops / here / work.matrix_rate, 4) if work else None,
        note=usage.note,
    )


def _git_commit() -> str | None:
    """The commit of the checkout that lmeval runs from; None where it is installed."""
    root = Path(lmeval.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def without_times(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run.json without the fields that MAY_DIFFER: equal for a run that was cut off and one that was not."""
    left_out = {*MAY_DIFFER}
    if any(task.get("decoding") for task in run.get("tasks", {}).values()):
        left_out |= {*MAY_DIFFER_OF_TEXTS}
    kept = {key: value for key, value in run.items() if key not in left_out}
    cost = kept.get("efficiency")
    if isinstance(cost, Mapping):
        kept["efficiency"] = {k: v for k, v in cost.items() if f"efficiency.{k}" not in left_out}
    return kept
