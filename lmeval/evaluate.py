"""The one path from a task and a model to numbers: prepare (no model needed), then evaluate."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import lmeval
from lmeval.documents import Documents, load_documents, load_shots
from lmeval.engine.base import Engine, HeadEngine, Usage
from lmeval.engine.chat import ChatTemplate
from lmeval.engine.memory import told_apart
from lmeval.errors import NOT_FINITE, LmevalError, NumericError, RequestError, WorkerError
from lmeval.groups import require_groups
from lmeval.journal import Journal
from lmeval.keys import engine_identity, request_keys
from lmeval.metrics import require_metrics
from lmeval.metrics.lengths import require_short_references
from lmeval.perturb import perturbed_name
from lmeval.perturb.prompts import PerturbedRendering, why_not
from lmeval.prompts import build_prompts
from lmeval.records import (
    PLL_VARIANTS,
    DatasetRecord,
    GenerationRequest,
    HeadRequest,
    Prompt,
    Sample,
    ScoreOutput,
    ScoreRequest,
    TaskRecord,
    canonical_sha256,
    read_by_model,
)
from lmeval.rendering import read_by_head
from lmeval.requests import (
    WHOLE_TEXTS,
    WRITTEN,
    Output,
    Request,
    decoding_settings,
    is_sampled,
    keep_tokens,
    make_requests,
    make_sample,
)
from lmeval.scoring import (
    by_group,
    calibration_of,
    count_outcomes,
    in_task,
    metric_options,
    metrics_of,
    score_samples,
)
from lmeval.specs import (
    STRATEGY_OF_OPTION,
    TaskSpec,
)
from lmeval.stopping import finishing_batches
from lmeval.store import Outputs

MOST_NAMED = 20  # documents, in an error

R = TypeVar("R", ScoreRequest, GenerationRequest, HeadRequest)


class Listener(Protocol):
    """Is told how a run goes on; the command line draws progress bars from it."""

    def begin(self, stage: str, total: int) -> None:
        """A stage of so many steps begins."""
        ...

    def advance(self, usage: Usage | None = None) -> None:
        """A step is done."""
        ...


class Silence:
    """A Listener that does nothing."""

    def begin(self, stage: str, total: int) -> None:
        """Nothing."""

    def advance(self, usage: Usage | None = None) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user decides about a run, beside model and tasks."""

    num_fewshot: int | None = None  # None: as the task says
    limit: int | None = None
    seed: int = 0
    system: str | None = None  # chat: the system message, in place of each task's
    pll: str | None = None  # masked models: how whole texts are scored, in place of each task's
    data_root: Path | None = None
    offline: bool = False
    allowed_paths: tuple[Path, ...] = ()  # folders that task files may read in, beside their own
    trust_remote_code: bool = False  # metrics of others run as programs
    save_tokens: bool = False  # samples keep what was scored token by token
    perturb: tuple[str, ...] = ()  # each task is scored under these, too
    perturb_seed: int | None = None  # None: `seed`


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A task with its documents read and its prompts rendered: everything but the model's part."""

    spec: TaskSpec
    num_fewshot: int
    limit: int | None
    dataset: DatasetRecord
    prompts: list[Prompt]
    seed: int = 0  # of the texts that are sampled
    chat_template_sha256: str | None = None
    pll: str | None = None  # how a masked model scores whole texts; None: the task has none
    save_tokens: bool = False
    perturbed: Mapping[str, list[Prompt]] = field(default_factory=dict)  # the prompts under each perturbation
    perturb_seed: int = 0
    perturbation: str | None = None  # that `prompts` are under

    @property
    def label(self) -> str:
        """What messages call it."""
        name = self.spec.name
        return name if self.perturbation is None else perturbed_name(name, self.perturbation)

    def under(self, perturbation: str) -> PreparedTask:
        """The same task with its prompts under one of its perturbations."""
        prompts = self.perturbed[perturbation]
        return replace(self, prompts=prompts, perturbed={}, perturbation=perturbation)


def num_shots(spec: TaskSpec, settings: Settings, *, for_head: bool = False) -> int:
    """Shots before each document: the task's own number, or the user's; a fine-tuned head reads none."""
    if for_head:
        return 0
    asked = settings.num_fewshot if spec.takes_shots else None
    return spec.num_fewshot if asked is None else asked


def prepare(
    spec: TaskSpec, settings: Settings, chat: ChatTemplate | None = None, *, for_head: bool = False
) -> PreparedTask:
    """Read a task's documents and render its prompts; `for_head` as a fine-tuned head reads them.

    Raises:
        DataError, TemplateError, RequestError, UsageError: They cannot be had or do not fit the task.
    """
    if for_head:
        metrics_of(spec, "classifier")  # or none is left
    try:
        require_metrics(
            spec.metrics,
            metric_options(spec),
            offline=settings.offline,
            trust_remote_code=settings.trust_remote_code,
        )
    except LmevalError as error:
        raise in_task(error, spec) from error
    where = {
        "data_root": settings.data_root,
        "offline": settings.offline,
        "allowed": settings.allowed_paths,
    }
    num_fewshot = num_shots(spec, settings, for_head=for_head)
    documents = load_documents(spec.dataset, spec.base_dir, **where)  # type: ignore[arg-type]
    shots = load_shots(spec, documents, **where) if num_fewshot else None  # type: ignore[arg-type]
    build = partial(
        build_prompts,
        spec,
        documents,
        shots,
        num_fewshot=num_fewshot,
        seed=settings.seed,
        limit=settings.limit,
        chat=chat,
        system=settings.system,
        for_head=for_head,
    )
    prompts = build()
    perturb_seed = settings.seed if settings.perturb_seed is None else settings.perturb_seed
    perturbed = {
        name: build(rendering=PerturbedRendering(name, perturb_seed))
        for name in settings.perturb
        if why_not(spec, num_fewshot, name, for_head=for_head) is None
    }
    require_groups(spec.metrics, prompts, f"task {spec.name}, key group_by in {spec.file}")
    if isinstance(spec, WRITTEN):
        in_file = f"task {spec.name} in {spec.file}"
        require_short_references(spec.metrics, spec.max_new_tokens, spec.language, prompts, in_file)
    dataset = _dataset_record(spec, documents, prompts)
    template = None if chat is None else chat.sha256
    pll = (settings.pll or spec.pll or PLL_VARIANTS[0]) if isinstance(spec, WHOLE_TEXTS) else None
    return PreparedTask(
        spec,
        num_fewshot,
        settings.limit,
        dataset,
        prompts,
        settings.seed,
        template,
        pll,
        settings.save_tokens,
        perturbed,
        perturb_seed,
    )


def _dataset_record(spec: TaskSpec, documents: Documents, prompts: Sequence[Prompt]) -> DatasetRecord:
    dataset = spec.dataset
    return DatasetRecord(
        path=dataset.path,
        name=dataset.label,
        split=dataset.split,
        revision=documents.revision or dataset.revision,
        documents_sha256=canonical_sha256([prompt.document.sha256 for prompt in prompts]),
        num_available=documents.num_available,
    )


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
        outputs, reused = _ask(requests, engine, stores, listener or Silence(), prepared.label)
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


def _ask(
    requests: Sequence[Request], engine: Engine, stores: Sequence[Outputs], listener: Listener, stage: str
) -> tuple[list[Output], int]:
    """An output for every request, and how many came from the caches among the stores."""
    keys = request_keys(engine, requests) if stores else []
    journal = next((store for store in stores if isinstance(store, Journal)), None)
    caches = [store for store in stores if store is not journal]
    before = None if journal is None else journal.begin(keys, engine.usage)
    done: dict[int, Output] = {} if before is None else before.done
    given: dict[int, Output] = {}
    if before is None or not before.has_begun:
        given = _look_up(caches, keys, done)
        done |= given
        if before is not None:
            before.give(given)
    listener.begin(stage, len(requests))
    for _ in done:
        listener.advance()
    left = frozenset(i for i in range(len(requests)) if i not in done)
    try:
        with finishing_batches():
            for index, answer in _run(requests, left, engine):
                output = (
                    answer if _is_finite(answer) else _asked_alone(requests[index], index, answer, engine)
                )
                done[index] = output
                if before is not None:
                    before.put(index, output, engine.usage)
                for cache in caches:
                    cache.put(keys[index], output)
                listener.advance(engine.usage)
    finally:
        for store in stores:
            store.commit()
    if before is not None:
        before.end(engine.usage)
    reused = len(given) if before is None else before.num_given
    return [done[i] for i in range(len(requests))], reused


def _look_up(caches: Sequence[Outputs], keys: Sequence[str], done: Mapping[int, Output]) -> dict[int, Output]:
    """What the caches have of the requests that are not done, by index."""
    found: dict[str, Output] = {}
    for cache in caches:
        found |= cache.get(
            dict.fromkeys(key for i, key in enumerate(keys) if i not in done and key not in found)
        )
    return {i: found[key] for i, key in enumerate(keys) if i not in done and key in found}


def _run(
    requests: Sequence[Request], chosen: Collection[int], engine: Engine
) -> Iterator[tuple[int, Output]]:
    """The engine's outputs with the index of their request among all."""
    score = [(i, r) for i, r in enumerate(requests) if isinstance(r, ScoreRequest)]
    write = [(i, r) for i, r in enumerate(requests) if isinstance(r, GenerationRequest)]
    with told_apart(engine.device, lambda: engine.batch_tokens):
        yield from _numbered(engine.score, score, chosen)
        yield from _numbered(engine.generate, write, chosen)
        if isinstance(engine, HeadEngine):
            ask = [(i, r) for i, r in enumerate(requests) if isinstance(r, HeadRequest)]
            yield from _numbered(engine.classify, ask, chosen)


def _numbered(
    ask: Callable[..., Iterator[tuple[int, Output]]],
    requests: Sequence[tuple[int, R]],
    chosen: Collection[int],
) -> Iterator[tuple[int, Output]]:
    """Ask all requests of a kind, or only some: then those are planned as in a run that asks all."""
    only = [place for place, (index, _) in enumerate(requests) if index in chosen]
    if not only:
        return
    try:
        options = {} if len(only) == len(requests) else {"only": only}
        for place, output in ask([request for _, request in requests], **options):
            yield requests[place][0], output
    except (RequestError, NumericError) as error:
        error.index = None if error.index is None else requests[error.index][0]
        raise
    except WorkerError as error:
        error.indices = tuple(requests[place][0] for place in error.indices)
        raise


def _is_finite(output: Output) -> bool:
    """False for a likelihood that is no number."""
    return not isinstance(output, ScoreOutput) or math.isfinite(output.loglikelihood)


def _asked_alone(request: Request, index: int, given: Output, engine: Engine) -> Output:
    """The output of a request by itself, where it is no number among others: what is none spoils its row.

    Raises:
        NumericError: It is no number by itself either. Nothing that follows could make up for it.
    """
    output = given
    if isinstance(request, ScoreRequest) and getattr(engine, "num_workers", None) is None:
        ((_, output),) = engine.score([request])
    if not _is_finite(output):
        assert isinstance(output, ScoreOutput)
        error = NumericError(f"the log-likelihood is {output.loglikelihood}", fix=NOT_FINITE)
        error.index = index
        raise error
    return output


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
