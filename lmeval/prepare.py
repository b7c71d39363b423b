"""From a task file to prompts, with no model: documents are read, shots drawn, templates rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lmeval.documents import Documents, load_documents, load_shots
from lmeval.engine.chat import ChatTemplate
from lmeval.errors import LmevalError
from lmeval.groups import require_groups
from lmeval.metrics import require_metrics
from lmeval.metrics.lengths import require_short_references
from lmeval.perturb import perturbed_name
from lmeval.perturb.prompts import PerturbedRendering, why_not
from lmeval.prompts import build_prompts
from lmeval.records import PLL_VARIANTS, DatasetRecord, Prompt, canonical_sha256
from lmeval.requests import WHOLE_TEXTS, WRITTEN
from lmeval.scoring import in_task, metric_options, metrics_of
from lmeval.specs import TaskSpec


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
