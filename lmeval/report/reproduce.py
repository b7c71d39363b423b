"""What a run cost, and everything that is needed to get the same numbers again."""

from __future__ import annotations

import json

from lmeval.pages import Markup, join, tag
from lmeval.pages.markup import Child
from lmeval.records import EfficiencyRecord, RunRecord, TaskRecord


def efficiency(cost: EfficiencyRecord) -> Markup:
    """Time, memory and tokens."""
    tiles = [
        ("seconds in all", f"{cost.seconds_total:,.1f}", f"of which the model {cost.seconds_model:,.1f}"),
        ("tokens a second", f"{cost.tokens_per_second:,.0f}", "through the model"),
        ("memory at peak", f"{cost.peak_memory_bytes / 2**20:,.0f} MiB", ""),
        ("tokens requested", f"{cost.tokens_requested:,}", "every request by itself"),
        ("tokens distinct", f"{cost.tokens_distinct:,}", _of(cost.tokens_distinct, cost.tokens_requested)),
        ("tokens computed", f"{cost.tokens_computed:,}", _of(cost.tokens_computed, cost.tokens_requested)),
        ("path", cost.path, ""),
    ]
    if cost.tokens_generated:
        speed = "" if cost.generated_per_second is None else f"{cost.generated_per_second:,.0f} a second"
        tiles.append(("tokens written", f"{cost.tokens_generated:,}", speed))
    if cost.slot_occupancy is not None:
        tiles.append(("slots busy", f"{100 * cost.slot_occupancy:.0f} %", "of the decoding steps' rows"))
    return join(
        [
            tag("dl", *(_tile(*tile) for tile in tiles), class_="tiles"),
            tag("p", cost.note, class_="quiet") if cost.note else None,
        ]
    )


def _of(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} % of those requested" if whole else ""


def _tile(name: str, value: str, more: str) -> Markup:
    return tag(
        "div",
        tag("dt", name),
        tag("dd", value, tag("span", more, class_="quiet small") if more else None),
    )


def reproduce(record: RunRecord) -> Markup:
    """The command, then every hash, version and setting."""
    return join(
        [
            copyable("the command", record.command),
            tag("h3", "Model and software"),
            _rows(_of_run(record)),
            *(
                tag("details", tag("summary", tag("h4", name)), _rows(_of_task(task)))
                for name, task in record.tasks.items()
            ),
            tag(
                "p",
                tag("button", "Copy all as JSON", type="button", class_="button", data_copy_json="record"),
                tag("span", " the run's record, as run.json has it", class_="quiet small"),
                class_="no-print",
            ),
        ]
    )


def copyable(label: str, value: str) -> Markup:
    """A line to copy."""
    return tag(
        "div",
        tag("div", label.capitalize(), class_="label"),
        tag(
            "div",
            tag("pre", value, class_="foreign", tabindex=0),
            tag(
                "button",
                f"Copy {label}",
                type="button",
                class_="button no-print",
                data_copy=value,
            ),
            class_="copyable",
        ),
    )


def _rows(rows: list[tuple[str, object]]) -> Markup:
    """Names and values; what is empty or not set says so."""
    return tag(
        "dl",
        *(part for name, value in rows for part in (tag("dt", name), tag("dd", _value(value)))),
        class_="facts",
    )


def _value(value: object) -> Child:
    if value is None or value == "":
        return tag("span", "none", class_="quiet")
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return tag("code", shown)


def _of_run(record: RunRecord) -> list[tuple[str, object]]:
    model, tokenizer, runtime = record.model, record.tokenizer, record.runtime
    return [
        ("run id", record.run_id),
        ("created", record.created),
        ("model", model.id),
        ("revision", model.revision),
        ("weights_sha256", model.weights_sha256),
        ("config_sha256", model.config_sha256),
        ("architecture", model.architecture),
        ("parameters", model.num_parameters),
        ("dtype", model.dtype),
        *([("pseudo-log-likelihood", model.pll)] if model.pll else []),
        *([("adapter", model.adapter)] if model.adapter else []),
        *([("step", model.step)] if model.step is not None else []),
        ("runs code of the model's folder", ", ".join(model.remote_code) or model.trust_remote_code),
        *([("weights are pickled", True)] if model.pickled_weights else []),
        ("tokenizer", tokenizer.id),
        ("tokenizer sha256", tokenizer.sha256),
        ("adds a BOS token", tokenizer.adds_bos),
        ("chat template sha256", runtime.chat_template_sha256),
        ("system prompt", runtime.system_prompt),
        ("lmeval", runtime.lmeval),
        ("git commit of lmeval", runtime.git),
        ("python", runtime.python),
        ("torch", runtime.torch),
        ("transformers", runtime.transformers),
        ("device", runtime.device),
        ("seed", runtime.seed),
        ("window in tokens", runtime.max_length),
        ("tokens run at once", runtime.batch_tokens),
    ]


def _of_task(task: TaskRecord) -> list[tuple[str, object]]:
    dataset = task.dataset
    return [
        ("version", task.version),
        ("task_sha256", task.task_sha256),
        ("data set", "/".join(filter(None, (dataset.path, dataset.name, dataset.split)))),
        ("revision", dataset.revision),
        ("documents_sha256", dataset.documents_sha256),
        ("prompts_sha256", task.prompts_sha256),
        ("shots", task.num_fewshot),
        ("limit", task.limit),
        *([("decoding", dict(task.decoding))] if task.decoding else []),
        ("metric options", dict(task.metric_options)),
        ("counts", dict(task.counts)),
    ]
