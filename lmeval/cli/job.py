"""From a command's options to the job, or the model, that they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmeval.cli.options import JobFlags, ModelFlags
from lmeval.errors import UsageError
from lmeval.perturb import parse_perturbations
from lmeval.task import find_tasks

if TYPE_CHECKING:
    from lmeval.engine.sources import ModelOptions
    from lmeval.run import Job


def make_job(
    model: str,
    tasks: str,
    flags: JobFlags,
    *,
    device_map: str | None = None,
    perturb: str | None = None,
    perturb_seed: int | None = None,
    save_tokens: bool = False,
) -> Job:
    """The job that a command's options ask for.

    Raises:
        UsageError, TaskError: An option makes no sense, or there is no such task.
    """
    if flags.limit is not None and flags.limit < 1:
        raise UsageError(
            f"--limit {flags.limit} leaves no documents", fix="give 1 or more, or leave it out for all"
        )
    perturbations = parse_perturbations(perturb)
    selectors = [name.strip() for name in tasks.split(",") if name.strip()]
    specs = find_tasks(selectors, flags.tasks_dir or ())
    from lmeval.prepare import Settings
    from lmeval.run import Job

    pll = None if flags.pll is None else flags.pll.value
    options = model_options(
        model,
        flags,
        pll=pll,
        device_map=device_map,
        batch_tokens=parse_batch_tokens(flags.batch_tokens),
        labels=parse_labels(flags.labels),
    )
    settings = Settings(
        num_fewshot=flags.num_fewshot,
        limit=flags.limit,
        seed=flags.seed,
        system=flags.system,
        pll=pll,
        perturb=perturbations,
        perturb_seed=perturb_seed,
        data_root=flags.data_root,
        offline=flags.offline,
        allowed_paths=(*(flags.tasks_dir or ()), *(flags.allow_path or ())),
        trust_remote_code=flags.trust_remote_code,
        save_tokens=save_tokens,
    )
    return Job(specs, frozenset(selectors), options, settings, chat=flags.chat)


def model_options(model: str, flags: ModelFlags, **others: Any) -> ModelOptions:
    """What an engine is loaded by; `others` are fields of it that not all commands have options for."""
    from lmeval.engine.sources import ModelOptions

    return ModelOptions(
        model=model,
        revision=flags.revision,
        model_type=flags.model_type.value,
        dtype=flags.dtype.value,
        device=flags.device,
        adapter=flags.adapter,
        max_length=flags.max_length,
        trust_remote_code=flags.trust_remote_code,
        allow_pickle=flags.allow_pickle,
        offline=flags.offline,
        **others,
    )


def parse_labels(text: str | None) -> tuple[str, ...] | None:
    """The names in --labels.

    Raises:
        UsageError: One is empty, or there twice.
    """
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(
            f'--labels "{text}" has an empty name, or one twice', fix="name each output once: --labels no,yes"
        )
    return names


def parse_batch_tokens(text: str) -> int | None:
    """The value of --batch-tokens; None for auto.

    Raises:
        UsageError: It is neither auto nor a number of at least 1.
    """
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(
            f'--batch-tokens "{text}" is neither auto nor a number of at least 1',
            fix="leave it out: auto fits the device",
        )
    return int(text)
