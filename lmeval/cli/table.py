"""The table at the end of a run."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmeval.records import EfficiencyRecord, MetricValue, RunRecord, TaskRecord

NUMERIC = ("documents", "value", "95 % interval", "chance")


def print_run(record: RunRecord, folder: Path, console: Console | None = None) -> None:
    """Print a run's scores, what it cost, what to know about it, and where it is kept."""
    console = console or make_console()
    model = record.model
    variant = f", {model.pll}" if model.pll else ""
    console.print(
        Text(
            f"{model.id}  {model.architecture}, {_count(model.num_parameters)} parameters, {model.dtype}"
            f"{variant}, {record.runtime.device}, window {record.runtime.max_length:,}"
        )
    )
    table = Table(
        "task", "shots", "documents", "metric", "value", "95 % interval", "unit", "better", "chance"
    )
    for column in table.columns:
        if column.header in NUMERIC:
            column.justify = "right"
    for name, task in record.tasks.items():
        for number, (metric, value) in enumerate(task.metrics.items()):
            head = _task_cells(name, task) if number == 0 else ("", "", "")
            table.add_row(
                *map(Text, (*head, metric, *_value_cells(value))), end_section=_is_last(task, number)
            )
    console.print(table)
    console.print(Text(efficiency_line(record.efficiency)))
    if written := writing_line(record.efficiency):
        console.print(Text(written))
    for line in _notes(record):
        console.print(Text(line, style="yellow"))
    console.print(Text(f"kept in {folder}"))


def make_console() -> Console:
    """Standard output; where that is no terminal, tables are 160 wide."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def _is_last(task: TaskRecord, number: int) -> bool:
    return number == len(task.metrics) - 1


def _task_cells(name: str, task: TaskRecord) -> tuple[str, str, str]:
    partial = task.num_documents < task.dataset.num_available
    documents = f"{task.num_documents:,}" + (f" of {task.dataset.num_available:,}" if partial else "")
    return name, str(task.num_fewshot), documents


def _value_cells(value: MetricValue) -> tuple[str, ...]:
    interval = "-"
    if value.ci_low is not None and value.ci_high is not None:
        interval = f"{number(value.ci_low)} to {number(value.ci_high)}"
    chance = "-" if value.random_baseline is None else number(value.random_baseline)
    better = "higher" if value.higher_is_better else "lower"
    return number(value.value), interval, value.unit, better, chance


def number(value: float) -> str:
    """Four significant digits, or what is left of the decimal point where that is more; powers of ten beyond."""
    if abs(value) >= 1e7 or 0 < abs(value) < 5e-5:
        return f"{value:.1e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _count(count: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def efficiency_line(cost: EfficiencyRecord) -> str:
    """What a run cost, in a line."""
    return (
        f"{cost.seconds_total:.1f} s, of which the model {cost.seconds_model:.1f} s · "
        f"{cost.tokens_per_second:,.0f} tokens/s · tokens: {cost.tokens_requested:,} requested, "
        f"{cost.tokens_distinct:,} distinct, {cost.tokens_computed:,} computed · "
        f"{cost.peak_memory_bytes / 2**20:,.0f} MiB at peak · {cost.path}"
    )


def writing_line(cost: EfficiencyRecord) -> str | None:
    """What was written, how fast, and how much of the decoding steps' rows was still writing; None: nothing."""
    if not cost.tokens_generated:
        return None
    parts = [f"written: {cost.tokens_generated:,} tokens"]
    if cost.generated_per_second is not None:
        parts.append(f"{cost.generated_per_second:,.0f} tokens/s")
    if cost.slot_occupancy is not None:
        parts.append(f"slots {100 * cost.slot_occupancy:.0f} % busy")
    return " · ".join(parts)


def _notes(record: RunRecord) -> list[str]:
    notes = []
    for name, task in record.tasks.items():
        if task.limit is not None and task.num_documents < task.dataset.num_available:
            notes.append(f"{name}: partial, --limit {task.limit}")
        if task.counts.get("truncated"):
            notes.append(
                f"{name}: {task.counts['truncated']} of {task.num_documents} documents did not fit the "
                f"window of {record.runtime.max_length:,} tokens; their contexts were cut from the left"
            )
        notes += [f"{name}: {note}" for note in _writing_notes(task)]
        if task.counts.get("reused"):
            notes.append(
                f"{name}: {task.counts['reused']} outputs were kept from before, and not computed again"
            )
    notes += [f"{name}: left out, {why}" for name, why in record.skipped.items()]
    if record.efficiency.path == "plain" and record.model.type == "causal" and record.efficiency.note:
        notes.append(f"the plain path was taken: {record.efficiency.note}")
    if record.model.type == "seq2seq" and record.efficiency.note:
        notes.append(record.efficiency.note)
    return notes


def _writing_notes(task: TaskRecord) -> list[str]:
    """What to know about the texts that a model wrote."""
    decoding = task.decoding or {}
    repetitions = decoding.get("repetitions", 1)
    texts = f"of {task.num_documents * repetitions:,} texts"
    notes = []
    if not_extracted := task.counts.get("not_extracted", 0):
        helped = task.counts.get("fallback_used", 0)
        fallback = f"{helped:,} answered by the fallback {task.metric_options.get('extract_fallback')}"
        wrong = f"{not_extracted - helped:,} counted as wrong"
        ways = [fallback] * bool(helped) + [wrong] * (not_extracted > helped)
        notes.append(f"`extract` matched nothing in {not_extracted:,} {texts}: {', '.join(ways)}")
    if cut := task.counts.get("cut_at_limit", 0):
        notes.append(f"cut at max_new_tokens {decoding.get('max_new_tokens')}: {cut:,} {texts}")
    spreads = [
        f"{metric} {number(value.spread)}"
        for metric, value in task.metrics.items()
        if value.spread is not None
    ]
    if spreads:
        notes.append(f"standard deviation over its {repetitions} repetitions: {', '.join(spreads)}")
    return notes
