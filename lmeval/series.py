"""A training run's checkpoints, evaluated one after the other with the same documents and prompts.

A series is a glob over local folders or a list of a hub model's revisions, in the order of their training steps.
Tasks are prepared once; one model is in memory at a time; what a finished run holds already is not computed again;
a checkpoint that cannot be evaluated is reported and the others go on. Runs are kept in
`<output>/<series>/<checkpoint>/<run id>`, so that `<output>/<series>` is the history that gate and compare read.
"""

from __future__ import annotations

import gc
import glob
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import lmeval
from lmeval.cache import ScoreCache, open_cache
from lmeval.engine.devices import choose_device
from lmeval.engine.hashes import file_sha256, weights_sha256
from lmeval.engine.loading import identity_files, load_encoder
from lmeval.engine.sources import DEMO_NAMES, ModelOptions
from lmeval.engine.steps import step_of
from lmeval.errors import ModelError, NumericError, RequestError, StoreError, UsageError
from lmeval.listener import Listener
from lmeval.records import HeadRecord, RunRecord, canonical_sha256
from lmeval.run import (
    FoundModel,
    Job,
    Keep,
    OpenJob,
    Prepared,
    find,
    load,
    prepare_tasks,
    run_opened,
    tasks_that_fit,
)
from lmeval.runs import load_run
from lmeval.store import check_writable, slug

# What one checkpoint may have and the next may not; every other error would meet them all
OF_ONE_CHECKPOINT = (ModelError, NumericError, RequestError)
STEP_NAMES = "step-1000, checkpoint-1000, iter_1000"

Listening = Callable[[], AbstractContextManager[Listener]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One model of a series."""

    name: str  # of its folder among the results
    step: int
    options: ModelOptions


@dataclass(frozen=True, slots=True)
class Series:
    """Checkpoints in the order of their steps."""

    name: str  # of its folder under the output
    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one checkpoint."""

    checkpoint: Checkpoint
    status: Literal["done", "already done", "failed"]
    record: RunRecord | None = None
    folder: Path | None = None
    error: str | None = None


def is_glob(model: str) -> bool:
    """Whether a model's name is a pattern over folders, and no folder itself."""
    return glob.has_magic(model) and not Path(model).exists()


def find_series(options: ModelOptions, revisions: Sequence[str] = ()) -> Series:
    """The checkpoints that a glob (`options.model`) or a list of revisions names, by step.

    Raises:
        UsageError: Nothing matches, a name gives no step, two give the same, or revisions of what has none.
    """
    if options.revision is not None:
        raise UsageError(
            f"--revision {options.revision} is for one model, not for a series",
            fix="leave it out; --revisions A,B,C names several of one hub id",
        )
    named = _of_revisions(options, revisions) if revisions else _of_glob(options)
    without = [name for name, step, _ in named if step is None]
    if without:
        raise UsageError(
            f"no training step in {_some(without)}; checkpoints are put in order by the step in their name",
            fix=f"narrow it down to names such as {STEP_NAMES}",
        )
    counts = Counter(step for _, step, _ in named)
    if doubled := [name for name, step, _ in named if counts[step] > 1]:
        raise UsageError(
            f"several checkpoints of one step: {_some(doubled)}", fix="narrow it down to one a step"
        )
    checkpoints = [Checkpoint(name, step, own) for name, step, own in named if step is not None]
    return Series(
        _series_name(options.model), tuple(sorted(checkpoints, key=lambda checkpoint: checkpoint.step))
    )


def _of_revisions(
    options: ModelOptions, revisions: Sequence[str]
) -> list[tuple[str, int | None, ModelOptions]]:
    model = options.model
    if is_glob(model) or Path(model).expanduser().exists() or model in DEMO_NAMES:
        raise UsageError(
            f"--revisions are those of a model on the hub, and {model} is none",
            fix="give a hub id; for checkpoints in local folders give a glob: --model 'checkpoints/step-*'",
        )
    return [
        (f"{slug(model)}__{slug(revision)}", step_of(revision), replace(options, revision=revision))
        for revision in dict.fromkeys(revisions)
    ]


def _of_glob(options: ModelOptions) -> list[tuple[str, int | None, ModelOptions]]:
    pattern = os.path.expanduser(options.model)
    paths = [path for path in map(Path, glob.glob(pattern)) if path.is_dir() or path.suffix == ".gguf"]
    if not paths:
        raise UsageError(
            f"no folder and no .gguf file matches {options.model}",
            fix=f"the pattern is read from {Path.cwd()}; quote it, so that the shell leaves it alone",
        )
    fixed = _fixed_part(pattern)
    return [
        ("__".join(path.relative_to(fixed).parts), step_of(str(path)), replace(options, model=str(path)))
        for path in paths
    ]


def _fixed_part(pattern: str) -> Path:
    """The folder above a pattern's first wildcard."""
    parts = Path(pattern).parts
    return Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def _series_name(model: str) -> str:
    return slug(str(_fixed_part(os.path.expanduser(model)).resolve())) if is_glob(model) else slug(model)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def run_series(
    job: Job, series: Series, keep: Keep, listening: Listening, report: Callable[[Outcome], None]
) -> list[Outcome]:
    """Evaluate every checkpoint that is not done; `report` is told of each as soon as it is.

    Raises:
        LmevalError: What is wrong with the tasks, the options or the results folder, or models of several types:
            nothing that one checkpoint has and another has not.
    """
    output = keep.output / series.name
    check_writable(output)
    found = _find_all(series)
    for kind in {model.kind for model in found.values() if not isinstance(model, str)}:
        tasks_that_fit(job, kind)
    prepare = _once(job)
    outcomes = []
    with open_cache(keep.cache) as cache:
        for checkpoint in series.checkpoints:
            model = found[checkpoint]
            try:
                if isinstance(model, str):
                    outcome = Outcome(checkpoint, "failed", error=model)
                else:
                    own = replace(keep, output=output, name=checkpoint.name)
                    asked = replace(job, options=model.options)
                    outcome = _evaluate(asked, checkpoint, model, prepare, own, listening, cache)
            except OF_ONE_CHECKPOINT as error:
                outcome = Outcome(checkpoint, "failed", error=str(error))
            if outcome.status != "already done":
                _free_memory()
            outcomes.append(outcome)
            report(outcome)
    return outcomes


def _find_all(series: Series) -> dict[Checkpoint, FoundModel | str]:
    """Each checkpoint's model, or why it cannot be had.

    Raises:
        UsageError: They are of several types: no task could be asked of all of them in the same way.
    """
    found: dict[Checkpoint, FoundModel | str] = {}
    kinds: dict[str, str] = {}
    for checkpoint in series.checkpoints:
        try:
            model = found[checkpoint] = find(checkpoint.options)
            kinds.setdefault(model.kind, checkpoint.name)
        except OF_ONE_CHECKPOINT as error:
            found[checkpoint] = str(error)
    if len(kinds) > 1:
        models = ", ".join(f"{name} is {kind}" for kind, name in kinds.items())
        raise UsageError(
            f"the checkpoints of a series are of one type, and these are not: {models}",
            fix="narrow the pattern down to the checkpoints of one training run",
        )
    return found


def _once(job: Job) -> Callable[[FoundModel, Listener], Prepared]:
    """A `prepare_tasks` that reads documents and prompts again only where chat template or head is another."""
    known: dict[tuple[str | None, HeadRecord | None], Prepared] = {}

    def prepare(model: FoundModel, listener: Listener) -> Prepared:
        template = None
        if job.chat:
            template = str(getattr(load_encoder(model.source, model.options).hf, "chat_template", None))
        key = (template, model.head)
        if key not in known:
            known[key] = prepare_tasks(replace(job, options=model.options), model, listener)
        return known[key]

    return prepare


def _evaluate(
    job: Job,
    checkpoint: Checkpoint,
    model: FoundModel,
    prepare: Callable[[FoundModel, Listener], Prepared],
    keep: Keep,
    listening: Listening,
    cache: ScoreCache | None,
) -> Outcome:
    begin = time.perf_counter()
    with listening() as listener:
        prepared = prepare(model, listener)
        keep = replace(keep, inputs_sha256=_inputs_sha256(job, model, prepared))
        if keep.resume and (done := _finished(keep, checkpoint)):
            return done
        opened = OpenJob(load(model, listener, cache), prepared.tasks, prepared.skipped, cache)
        _, folder = run_opened(opened, job, keep, listener, begin)
    return Outcome(checkpoint, "done", load_run(folder).record, folder)


def _inputs_sha256(job: Job, model: FoundModel, prepared: Prepared) -> str:
    """Of everything that decides the scores, as far as it is known without loading the weights."""
    source, options = model.source, model.options
    if source.revision is not None and source.folder is not None:
        weights = [source.folder.name]  # the hub's commit, which its cache names the folder after
    else:
        # what a GGUF file was converted to follows from the file, and is not there before its first run
        weight_files, config_files = identity_files(
            replace(source, folder=None) if source.gguf else source, options
        )
        weights = [weights_sha256(weight_files), file_sha256(config_files)]
    asked = asdict(replace(options, model="", revision=None, batch_tokens=None, offline=False))
    asked["device"] = choose_device(options.device).partition(":")[0]
    tasks: list[list[object]] = [
        [t.spec.sha256, t.num_fewshot, [asdict(prompt) for prompt in t.prompts]] for t in prepared.tasks
    ]
    for task, own in zip(prepared.tasks, tasks, strict=True):
        own += [[name, [asdict(prompt) for prompt in found]] for name, found in task.perturbed.items()]
    versions = [lmeval.__version__, version("torch"), version("transformers")]
    tokenizer = load_encoder(source, options).record().sha256
    return canonical_sha256([weights, tokenizer, asked, job.settings.seed, versions, tasks])


def _finished(keep: Keep, checkpoint: Checkpoint) -> Outcome | None:
    """The newest finished run of the same inputs."""
    for file in sorted((keep.output / slug(checkpoint.name)).glob("*/run.json"), reverse=True):
        try:
            record = load_run(file).record
        except StoreError:
            continue
        if record.inputs_sha256 == keep.inputs_sha256:
            return Outcome(checkpoint, "already done", record, file.parent)
    return None


def _free_memory() -> None:
    """The model that is done with goes before the next one comes."""
    from lmeval.engine.memory import release_memory

    gc.collect()
    release_memory()
