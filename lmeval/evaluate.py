"""From a prepared task and a model to numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import lmeval
from lmeval.ask import ask_all
from lmeval.engine.base import Engine
from lmeval.errors import LmevalError, NumericError, RequestError, WorkerError
from lmeval.keys import engine_identity
from lmeval.listener import Listener, Silence
from lmeval.prepare import PreparedTask
from lmeval.records import Sample, TaskRecord, canonical_sha256, read_by_model
from lmeval.rendering import read_by_head
from lmeval.requests import (
    WRITTEN,
    Output,
    Request,
    decoding_settings,
    is_sampled,
    keep_tokens,
    make_requests,
    make_sample,
)
from lmeval.scoring import by_group, calibration_of, count_outcomes, metric_options, metrics_of, score_samples
from lmeval.specs import STRATEGY_OF_OPTION, TaskSpec
from lmeval.store import Outputs

MOST_NAMED = 20  # documents, in an error


def run_fingerprint(engine: Engine, tasks: Sequence[PreparedTask]) -> str:
    """Hash of everything that decides a run's scores: two runs of one fingerprint are the same run."""
    parts: list[list[object]] = []
    for task in tasks:
        parts.append([task.spec.sha256, task.num_fewshot, [asdict(prompt) for prompt in task.prompts]])
        if is_sampled(task.spec):
            parts[-1].append(task.seed)
        if engine.model.type == "masked":
            parts[-1].append(task.pll)
        for name, prompts in task.perturbed.items():
            parts[-1].append([name, task.perturb_seed, [asdict(prompt) for prompt in prompts]])
    return canonical_sha256([engine_identity(engine), lmeval.__version__, parts])


def evaluate(
    prepared: PreparedTask,
    engine: Engine,
    *,
    seed: int = 0,
    stores: Sequence[Outputs] = (),
    listener: Listener | None = None,
) -> tuple[TaskRecord, list[Sample]]:
    """Score a task with a model.

    Args:
        prepared: The task, its documents and prompts.
        engine: The model.
        seed: Of the bootstrap intervals.
        stores: Where outputs are looked up before the model is asked, and kept.
        listener: Is told of the progress.

    Raises:
        RequestError: A document that cannot be asked of this model, named by task and doc_id.
        NumericError: NaN or infinity, named likewise.
        MemoryShortError, DeviceError: Not even the smallest step fits, or the device failed.
    """
    spec = prepared.spec
    requests: list[Request] = []
    owner: list[int] = []
    for number, prompt in enumerate(prepared.prompts):
        own = make_requests(spec, prompt, engine.model.type, prepared.seed, prepared.pll)
        if prepared.save_tokens:
            own = keep_tokens(own)
        requests += own
        owner += [number] * len(own)
    try:
        outputs, reused = ask_all(requests, engine, stores, listener or Silence(), prepared.label)
    except (RequestError, NumericError, WorkerError) as error:
        raise _named(error, prepared, owner) from error
    per_document: list[list[Output]] = [[] for _ in prepared.prompts]
    for number, output in zip(owner, outputs, strict=True):
        per_document[number].append(output)
    pairs = zip(prepared.prompts, per_document, strict=True)
    samples = [make_sample(spec, prompt, own, engine.model.head) for prompt, own in pairs]
    names, left_out = metrics_of(spec, engine.model.type)
    metrics, samples = score_samples(spec, names, samples, seed)
    record = TaskRecord(
        version=spec.version,
        task_sha256=spec.sha256,
        type=spec.type,
        num_fewshot=prepared.num_fewshot,
        num_documents=len(samples),
        limit=prepared.limit,
        dataset=prepared.dataset,
        counts=count_outcomes(spec, samples, reused),
        metrics=metrics,
        description=spec.description,
        tags=spec.tags,
        metric_options=asdict(metric_options(spec)),
        prompts_sha256=canonical_sha256([read_by_model(prompt) for prompt in prepared.prompts]),
        decoding=_decoding_record(spec),
        pll=prepared.pll if engine.model.type == "masked" else None,
        calibration=calibration_of(spec, metrics, samples, seed),
        metrics_left_out=left_out,
        head_reads=None if engine.model.head is None else read_by_head(spec),
        **by_group(spec, metrics, samples, seed),
    )
    return record, samples


def _decoding_record(spec: TaskSpec) -> dict[str, Any] | None:
    """How the task's texts were written: the strategy with its own options, and what ends a text."""
    if not isinstance(spec, WRITTEN):
        return None
    strategy, settings = spec.decoding.strategy, asdict(decoding_settings(spec))
    own = {key: settings[key] for key, owner in STRATEGY_OF_OPTION.items() if owner == strategy}
    return {"strategy": strategy, **own, "stop": spec.stop, "max_new_tokens": spec.max_new_tokens}


def _named(
    error: RequestError | NumericError | WorkerError, prepared: PreparedTask, owner: Sequence[int]
) -> LmevalError:
    """The same error, saying which task and documents it is about."""
    if isinstance(error, WorkerError):
        indices = error.indices
    else:
        indices = () if error.index is None else (error.index,)
    ids = list(dict.fromkeys(prepared.prompts[owner[index]].document.doc_id for index in indices))
    shown = ", ".join(map(str, ids[:MOST_NAMED])) + (
        f" and {len(ids) - MOST_NAMED} more" * (len(ids) > MOST_NAMED)
    )
    where = f"task {prepared.label}" + (f", doc_id{'s' * (len(ids) > 1)} {shown}" if ids else "")
    return type(error)(error.what, where=f"{where} ({prepared.spec.file})", fix=error.fix)
