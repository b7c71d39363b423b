from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmeval import series as series_module
from lmeval.engine.sources import ModelOptions
from lmeval.engine.table import TableEngine
from lmeval.errors import ModelError, UsageError
from lmeval.listener import Silence
from lmeval.prepare import Settings
from lmeval.records import ScoreRequest
from lmeval.run import FoundModel, Job, Keep
from lmeval.runs import load_run
from lmeval.series import Outcome, Series, find_series, is_glob, run_series
from tests.canned import make_task

HUB = ModelOptions("org/model")


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "config.json").write_text("{}")
    return root


def steps(found: Series) -> list[int]:
    return [checkpoint.step for checkpoint in found.checkpoints]


# ---- which checkpoints there are ----


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    folders(tmp_path / "run", "step-1000", "step-20", "step-300")
    (tmp_path / "run" / "step-7.txt").write_text("a file beside them")
    found = find_series(ModelOptions(str(tmp_path / "run" / "step-*")))
    assert found.name == "run"
    assert [c.name for c in found.checkpoints] == ["step-20", "step-300", "step-1000"]
    assert steps(found) == [20, 300, 1000]
    assert [c.options.model for c in found.checkpoints] == [
        str(tmp_path / "run" / f"step-{n}") for n in (20, 300, 1000)
    ]


def test_wildcards_may_lie_above_the_last_part(tmp_path: Path) -> None:
    folders(tmp_path / "run", "step-20/hf", "step-3/hf")
    found = find_series(ModelOptions(str(tmp_path / "run" / "step-*" / "hf")))
    assert (found.name, steps(found)) == ("run", [3, 20])
    assert [c.name for c in found.checkpoints] == ["step-3__hf", "step-20__hf"]


def test_a_pattern_without_a_folder_is_named_after_where_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders(tmp_path / "training", "checkpoint-1", "checkpoint-2"))
    assert find_series(ModelOptions("checkpoint-[12]")).name == "training"


def test_revisions_are_checkpoints_of_one_model() -> None:
    found = find_series(HUB, ["step3000", "step0", "step200-tokens1B", "step0"])
    assert (found.name, steps(found)) == ("org__model", [0, 200, 3000])
    assert [c.name for c in found.checkpoints] == [
        "org__model__step0",
        "org__model__step200-tokens1B",
        "org__model__step3000",
    ]
    assert [c.options for c in found.checkpoints] == [
        replace(HUB, revision=name) for name in ("step0", "step200-tokens1B", "step3000")
    ]


def test_only_a_pattern_that_is_no_folder_is_a_glob(tmp_path: Path) -> None:
    folders(tmp_path, "odd[1]")
    assert not is_glob(str(tmp_path / "odd[1]"))
    assert is_glob(str(tmp_path / "odd*"))
    assert not is_glob("org/model") and not is_glob("demo")


REFUSED: dict[str, tuple[Sequence[str], str, Sequence[str], str]] = {
    "nothing there": ((), "no-*", (), "no folder and no .gguf file matches"),
    "a name without a step": (("step-1", "final"), "*", (), "no training step in final"),
    "many names without a step": (("a", "b", "c", "d"), "*", (), "no training step in a, b, c and 1 more"),
    "two of one step": (
        ("step-10", "step_10", "step-2"),
        "*",
        (),
        "several checkpoints of one step: step-10, step_10",
    ),
    "revisions of a folder": (("step-1",), "step-1", ("a",), "--revisions are those of a model on the hub"),
    "revisions of a pattern": (("step-1",), "step-*", ("a",), "--revisions are those of a model on the hub"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_series_is_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, model, revisions, message = REFUSED[case]
    monkeypatch.chdir(folders(tmp_path, *names))
    with pytest.raises(UsageError, match=message):
        find_series(ModelOptions(model), revisions)


def test_revisions_need_steps_and_exclude_a_revision() -> None:
    with pytest.raises(UsageError, match="no training step in org__model__main"):
        find_series(HUB, ["main", "step1"])
    with pytest.raises(UsageError, match="--revision main is for one model"):
        find_series(replace(HUB, revision="main"), ["step1"])
    with pytest.raises(UsageError, match="of a model on the hub, and demo is none"):
        find_series(ModelOptions("demo"), ["step1"])


# ---- how they are evaluated, with engines of canned answers ----


class World:
    """Checkpoints whose engines are tables; what is loaded, prepared and alive is counted."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = folders(root / "run", "step-1", "step-2", "step-10")
        for name in ("step-1", "step-2", "step-10"):
            (self.root / name / "model.safetensors").write_bytes(name.encode())
        self.kinds: dict[str, str] = {}
        self.broken: set[str] = set()
        self.loaded: list[str] = []
        self.asked: list[str] = []
        self.interrupt_at: int | None = None
        self.prepared = 0
        self.alive: list[int] = []
        self.templates: dict[str, str] = {}
        self._engines: list[weakref.ref[TableEngine]] = []
        self.spec = make_task(root, "minimal_pairs")
        real = series_module.prepare_tasks

        def prepare(job: Job, found: FoundModel, listener: Silence) -> Any:
            self.prepared += 1
            return real(replace(job, chat=False), found, listener)

        monkeypatch.setattr(series_module, "find", self.find)
        monkeypatch.setattr(series_module, "load", self.load)
        monkeypatch.setattr(series_module, "load_encoder", self.encoder)
        monkeypatch.setattr(series_module, "prepare_tasks", prepare)
        monkeypatch.setenv("LMEVAL_CACHE", str(root / "cache"))

    def find(self, options: ModelOptions) -> FoundModel:
        from lmeval.engine.sources import find_model

        source = find_model(options)
        return FoundModel(options, source, None, self.kinds.get(Path(source.name).name, "causal"))

    def encoder(self, source: Any, options: ModelOptions) -> Any:
        template = self.templates.get(Path(source.name).name)
        return SimpleNamespace(
            hf=SimpleNamespace(chat_template=template), record=lambda: SimpleNamespace(sha256="t")
        )

    def load(self, found: FoundModel, listener: Silence, cache: None = None) -> TableEngine:
        name = Path(found.source.name).name
        self.alive.append(sum(engine() is not None for engine in self._engines))
        self.loaded.append(name)
        if name in self.broken:
            raise ModelError(f"the weights of {name} do not load: cut off")

        def score(request: ScoreRequest) -> tuple[float, int, bool]:
            self.asked.append(name)
            if len(self.asked) == self.interrupt_at:
                raise KeyboardInterrupt
            return (float("nan") if name in self.kinds.get("nan", "") else -1.0), 1, False

        engine = TableEngine(score, name=name)
        engine.model = replace(engine.model, weights_sha256=name)
        self._engines.append(weakref.ref(engine))
        return engine

    def run(self, *, resume: bool = True, chat: bool = False, limit: int | None = None) -> list[Outcome]:
        options = ModelOptions(str(self.root / "step-*"))
        job = Job((self.spec,), frozenset(), options, Settings(limit=limit), chat=chat)
        keep = Keep(self.root.parent / "out", resume=resume)
        told: list[Outcome] = []
        outcomes = run_series(job, find_series(options), keep, lambda: nullcontext(Silence()), told.append)
        assert told == outcomes
        return outcomes


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def statuses(outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {outcome.checkpoint.name: outcome.status for outcome in outcomes}


def test_tasks_are_prepared_once_and_one_model_is_in_memory_at_a_time(world: World) -> None:
    outcomes = world.run()
    assert statuses(outcomes) == {"step-1": "done", "step-2": "done", "step-10": "done"}
    assert world.loaded == ["step-1", "step-2", "step-10"]
    assert world.prepared == 1
    assert world.alive == [0, 0, 0]
    for outcome in outcomes:
        assert outcome.folder is not None
        assert outcome.folder.parent == world.root.parent / "out" / "run" / outcome.checkpoint.name
        assert load_run(outcome.folder).record == outcome.record


def test_other_chat_templates_are_other_prompts(world: World) -> None:
    world.templates = {"step-1": "a", "step-2": "b", "step-10": "a"}
    world.run(chat=True)
    assert world.prepared == 2


def test_what_is_done_is_not_loaded_again(world: World) -> None:
    first = world.run()
    world.loaded.clear()
    again = world.run()
    assert set(statuses(again).values()) == {"already done"}
    assert world.loaded == []
    assert [outcome.record for outcome in again] == [outcome.record for outcome in first]
    world.run(limit=2)
    assert world.loaded == ["step-1", "step-2", "step-10"]
    world.loaded.clear()
    world.run(resume=False)
    assert world.loaded == ["step-1", "step-2", "step-10"]


def test_new_weights_under_an_old_name_are_evaluated(world: World) -> None:
    world.run()
    world.loaded.clear()
    (world.root / "step-2" / "model.safetensors").write_bytes(b"trained again")
    assert statuses(world.run()) == {"step-1": "already done", "step-2": "done", "step-10": "already done"}
    assert world.loaded == ["step-2"]


def test_an_interrupted_series_goes_on_where_it_stopped(world: World) -> None:
    world.interrupt_at = 9  # three pairs a checkpoint: in the middle of the second
    with pytest.raises(KeyboardInterrupt):
        world.run()
    asked = len(world.asked)
    world.interrupt_at = None
    outcomes = world.run()
    assert statuses(outcomes) == {"step-1": "already done", "step-2": "done", "step-10": "done"}
    assert outcomes[1].record is not None
    assert outcomes[1].record.tasks["my_minimal_pairs"].counts["reused"] == 0  # its own journal is no cache
    assert len(world.asked) - asked == 18 - 6 - 2


def break_weights(world: World) -> None:
    world.broken.add("step-2")


def break_scores(world: World) -> None:
    world.kinds["nan"] = "step-2"


def break_folder(world: World) -> None:
    (world.root / "step-2" / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_weights, "the weights of step-2 do not load: cut off"),
        (break_scores, "the log-likelihood is nan"),
        (break_folder, "holds no config.json"),
    ],
)
def test_a_broken_checkpoint_stops_no_other(
    world: World, damage: Callable[[World], None], message: str
) -> None:
    damage(world)
    outcomes = world.run()
    assert statuses(outcomes) == {"step-1": "done", "step-2": "failed", "step-10": "done"}
    assert message in (outcomes[1].error or "")
    assert outcomes[1].record is None
    assert world.alive == [0] * len(world.alive)
    world.broken.clear()
    world.kinds.clear()
    (world.root / "step-2" / "config.json").write_text("{}")
    assert statuses(world.run()) == {"step-1": "already done", "step-2": "done", "step-10": "already done"}


def test_models_of_several_types_are_no_series(world: World) -> None:
    world.kinds["step-10"] = "masked"
    with pytest.raises(UsageError, match="step-1 is causal, step-10 is masked"):
        world.run()
    assert world.loaded == []


def test_a_task_that_the_models_cannot_do_stops_before_weights(world: World, tmp_path: Path) -> None:
    world.kinds = dict.fromkeys(("step-1", "step-2", "step-10"), "masked")
    world.spec = make_task(tmp_path, "qa")
    with pytest.raises(ModelError, match="masked"):
        world.run()
    assert world.loaded == []
