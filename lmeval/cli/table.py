"""The table at the end of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmeval.metrics.groups import GROUP_MEAN
from lmeval.perturb import NAME_SEPARATOR
from lmeval.printable import beginning, number, short_count
from lmeval.records import (
    DropRecord,
    EfficiencyRecord,
    GroupRecord,
    MetricValue,
    ModelRecord,
    RunRecord,
    TaskRecord,
)

MAX_GROUP_ROWS = 12  # of a task with more groups the best and the worst few are shown
ENDS = 4
MOST_NAMED = 8  # tasks in one note
GROUP_CHARACTERS = 40
NUMERIC = ("documents", "value", "95 % interval", "chance", "against plain")


def print_run(record: RunRecord, folder: Path, console: Console | None = None) -> None:
    """Print a run's scores, what it cost, what to know about it, and where it is kept."""
    console = console or make_console()
    model = record.model
    variant = f", {model.pll}" if model.pll else ""
    console.print(
        Text(
            f"{model.id}  {model.architecture}, {short_count(model.num_parameters)} parameters, {model.dtype}"
            f"{variant}, {record.runtime.device}, window {record.runtime.max_length:,}"
        )
    )
    table = Table(
        "task", "shots", "documents", "metric", "value", "95 % interval", "unit", "better", "chance"
    )
    if any(task.perturbed for task in record.tasks.values()):
        table.add_column("against plain", no_wrap=True)
        table.columns[0].no_wrap = True
    for column in table.columns:
        if column.header in NUMERIC:
            column.justify = "right"
    for name, task in record.tasks.items():
        for place, (metric, value) in enumerate(task.metrics.items()):
            head = _task_cells(name, task) if place == 0 else ("", "", "")
            table.add_row(*map(Text, (*head, metric, *_value_cells(value))))
        for cells in _group_rows(task):
            table.add_row(*(Text(cell, style="dim") for cell in cells))
        for cells in _perturbed_rows(task):
            table.add_row(*map(Text, cells))
        table.add_section()
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


def _group_rows(task: TaskRecord) -> Iterator[tuple[str, ...]]:
    """A row for each group, the best first; of many groups the first and the last few, and how many there are."""
    if not task.groups:
        return
    metric = group_metric(task)
    ranked = sorted(task.groups.items(), key=lambda item: _group_order(item[1], metric))
    first, last = (ranked, []) if len(ranked) <= MAX_GROUP_ROWS else (ranked[:ENDS], ranked[-ENDS:])
    yield from (_group_cells(name, group, metric) for name, group in first)
    if last:
        hidden = len(ranked) - len(first) - len(last)
        yield (f"  … {hidden:,} more groups in run.json", *("",) * 8)
        yield from (_group_cells(name, group, metric) for name, group in last)


def group_metric(task: TaskRecord) -> str:
    """The metric that groups are shown and ranked by: the first that they have, the task's main one if possible."""
    main = next(iter(task.metrics))
    names = (main, main.removeprefix(GROUP_MEAN), *task.metrics)
    return next(
        (name for name in names if any(name in g.metrics for g in (task.groups or {}).values())), main
    )


def _group_order(group: GroupRecord, metric: str) -> tuple[bool, float]:
    value = group.metrics.get(metric)
    return (True, 0.0) if value is None else (False, -value.goodness)


def _group_cells(name: str, group: GroupRecord, metric: str) -> tuple[str, ...]:
    value = group.metrics.get(metric)
    cells = ("-",) * 5 if value is None else _value_cells(value)
    return f"  {beginning(name, GROUP_CHARACTERS)}", "", f"{group.num_documents:,}", metric, *cells


def _perturbed_rows(task: TaskRecord) -> Iterator[tuple[str, ...]]:
    """A row for each perturbation: how many documents it changed, the main metric, and by how much that got better."""
    for name, found in (task.perturbed or {}).items():
        metric, value = next(iter(found.metrics.items()))
        number_and_interval = _value_cells(value)[:2]  # unit, direction and chance are the task's own
        cells = ("", f"{found.num_changed:,} changed", metric, *number_and_interval, "", "", "")
        yield f"  + {name}", *cells, drop_cell(found.drops[metric])


def drop_cell(drop: DropRecord) -> str:
    """A change for the better (below 0: for the worse) with its interval; a perplexity's in per cent."""

    def signed(value: float) -> str:
        if drop.relative:
            return f"{100 * value:+.2f} %"
        return f"{'+' if value > 0 else ''}{number(value)}"

    if drop.ci_low is None or drop.ci_high is None:
        return signed(drop.value)
    return f"{signed(drop.value)} ({signed(drop.ci_low)} to {signed(drop.ci_high)})"


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
    if value.ideal is not None:
        better = f"near {value.ideal:g}"
    return number(value.value), interval, value.unit, better, chance


def efficiency_line(cost: EfficiencyRecord) -> str:
    """What a run cost, in a line."""
    used = "" if cost.utilisation is None else f"{cost.utilisation:.0%} of the matrix rate · "
    return (
        f"{cost.seconds_total:.1f} s, of which the model {cost.seconds_model:.1f} s · "
        f"{cost.tokens_per_second:,.0f} tokens/s · tokens: {cost.tokens_requested:,} requested, "
        f"{cost.tokens_distinct:,} distinct, {cost.tokens_computed:,} computed · "
        f"{used}{cost.peak_memory_bytes / 2**20:,.0f} MiB at peak · {cost.path}"
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


def cut_words(model: ModelRecord) -> str:
    """How what did not fit the window was cut."""
    if model.type == "classifier":
        return "they were cut as the tokenizer cuts them"
    return "their contexts were cut from the left"


def _notes(record: RunRecord) -> list[str]:
    notes = []
    for name, task in record.tasks.items():
        if task.limit is not None and task.num_documents < task.dataset.num_available:
            notes.append(f"{name}: partial, --limit {task.limit}")
        if task.counts.get("truncated"):
            notes.append(
                f"{name}: {task.counts['truncated']} of {task.num_documents} documents did not fit the "
                f"window of {record.runtime.max_length:,} tokens; {cut_words(record.model)}"
            )
        if task.head_reads == ("context",):
            notes.append(f"{name}: the task has no key `text`, so the head read its context")
        notes += [f"{name}: no {metric}, {why}" for metric, why in task.metrics_left_out.items()]
        if short := task.counts.get("short"):
            notes.append(
                f"{name}: {short} of {task.num_documents} texts are too short for the continuation asked for; theirs "
                "is less than half as long"
            )
        notes += [f"{name}: {note}" for note in (*_group_notes(task), *_writing_notes(task))]
        notes += [f"{name}{note}" for note in _perturbed_notes(task)]
    notes += _reused_note(record)
    notes += _left_out(record.skipped)
    if record.efficiency.path == "plain" and record.model.type == "causal" and record.efficiency.note:
        notes.append(f"the plain path was taken: {record.efficiency.note}")
    if record.model.type in ("seq2seq", "classifier") and record.efficiency.note:
        notes.append(record.efficiency.note)
    return notes


def _reused_note(record: RunRecord) -> Iterator[str]:
    """What was not computed; of all tasks in one line, as a second run finds everything."""
    counts = {name: task.counts.get("reused", 0) for name, task in record.tasks.items()}
    if reused := sum(counts.values()):
        tasks = ", ".join(f"{count:,} of {name}" for name, count in counts.items() if count)
        shown = f" ({tasks})" if len(counts) <= MOST_NAMED else ""
        yield f"{reused:,} outputs were kept from before, and not computed again{shown}; --no-cache computes all"


def _group_notes(task: TaskRecord) -> Iterator[str]:
    """How the score follows from the groups, and what to know of metrics that have an ideal."""
    if task.groups:
        groups = "1 group" if len(task.groups) == 1 else f"{len(task.groups):,} groups"
        yield f"{groups} by {beginning(task.group_by or '', GROUP_CHARACTERS)}; {task.group_rule}"


def _left_out(skipped: Mapping[str, str]) -> list[str]:
    """A line for each reason why a task, or perturbations of one, could not be done."""
    perturbations: dict[tuple[str, str], list[str]] = {}
    for name, why in skipped.items():
        task, _, perturbation = name.partition(NAME_SEPARATOR)
        perturbations.setdefault((task, why), []).append(perturbation)
    lines = []
    for (task, why), names in perturbations.items():
        under = f" under {', '.join(names)}" if any(names) else ""
        lines.append(f"{task}{under}: left out, {why}")
    return lines


def _perturbed_notes(task: TaskRecord) -> list[str]:
    """What to know about the main metric's drops."""
    notes = []
    for name, found in (task.perturbed or {}).items():
        drop = found.drops[next(iter(found.metrics))]
        if not found.num_changed:
            notes.append(f"+{name}: no document has anything that it changes")
        elif drop.ci_low is None:
            notes.append(f"+{name}: no interval, {drop.ci_method}")
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
