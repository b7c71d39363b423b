"""The score cache from the outside: what a second run computes, and `lmeval cache info` and `clear`."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmeval import run as run_module
from lmeval.cache import place
from lmeval.cli import cache as cache_command
from lmeval.demo import DEMO_MODELS
from tests.canned import write_task
from tests.checkpoints import write_checkpoints
from tests.cli.command import Ran, lmeval
from tests.contract import check_run, read_samples

TASKS = "demo_cloze,demo_qa,demo_minimal_pairs"


class Bench:
    """A copy of the demo model, runs of it, and how often its weights were loaded."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.model = root / "model"
        shutil.copytree(DEMO_MODELS["demo"], self.model)
        self.loaded = 0
        self.runs = 0
        real = run_module.load_engine

        def load_engine(*arguments: Any) -> Any:
            self.loaded += 1
            return real(*arguments)

        monkeypatch.setattr(run_module, "load_engine", load_engine)
        monkeypatch.delenv("LMEVAL_DATA", raising=False)

    def run(self, *arguments: str | Path, model: Path | str | None = None, tasks: str | Path = TASKS) -> Ran:
        self.runs += 1
        fixed = ("--model", model or self.model, "--tasks", tasks, "--quiet", "--output", self.output)
        ran = lmeval("run", "--limit", "4", *fixed, *arguments)
        assert ran.code == 0, ran.err
        return ran

    @property
    def output(self) -> Path:
        return self.root / f"out-{self.runs}"

    def record(self, *arguments: str | Path, **options: Any) -> dict[str, Any]:
        """The record of a run, with its samples."""
        ran = self.run(*arguments, **options)
        assert ran.err == ""
        folder = ran.folder(self.output)
        record: dict[str, Any] = json.loads((folder / "run.json").read_text())
        return record | {"samples": read_samples(folder)}

    def reused(self, *arguments: str | Path, **options: Any) -> dict[str, int]:
        tasks = self.record(*arguments, **options)["tasks"]
        return {name: task["counts"]["reused"] for name, task in tasks.items()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score_cache: Path) -> Bench:
    return Bench(tmp_path, monkeypatch)


ALL = {"demo_cloze": 4, "demo_qa": 4, "demo_minimal_pairs": 8}
NONE = dict.fromkeys(ALL, 0)


# ---- a second run ----


def test_a_second_run_computes_nothing_and_says_the_same(bench: Bench) -> None:
    first, second = bench.record(), bench.record()
    assert bench.loaded == 1  # the weights were not even read
    check_run(first)
    check_run(second)
    assert {name: task["counts"]["reused"] for name, task in first["tasks"].items()} == NONE
    assert {name: task["counts"]["reused"] for name, task in second["tasks"].items()} == ALL
    assert first["samples"] == second["samples"]
    for record in (first, second):
        for task in record["tasks"].values():
            del task["counts"]["reused"]
    assert first["tasks"] == second["tasks"]
    for part in ("model", "tokenizer", "runtime"):
        assert first[part] == second[part]
    cost = second["efficiency"]
    assert cost["path"] == first["efficiency"]["path"] == "packed"
    counts = ("seconds_model", "tokens_requested", "tokens_distinct", "tokens_computed", "tokens_generated")
    assert {cost[name] for name in counts} == {0}


def test_it_can_be_turned_off(bench: Bench, score_cache: Path) -> None:
    assert bench.reused("--no-cache") == NONE
    assert place.cache_files() == []
    assert bench.reused() == NONE
    assert bench.reused("--no-cache") == NONE
    assert bench.reused("--cache") == ALL


@pytest.mark.parametrize("model", ["demo-masked", "demo-seq2seq"])
def test_other_kinds_of_models_are_kept_too(model: str, bench: Bench) -> None:
    tasks = "demo_cloze,demo_classification"
    first, second = (bench.record("--save-tokens", model=model, tasks=tasks) for _ in range(2))
    assert bench.loaded == 1
    assert first["samples"] == second["samples"]  # tokens, ranks and alternatives among them
    assert [task["counts"]["reused"] for task in second["tasks"].values()] == [4, 8]


def test_a_task_a_document_or_a_metric_more_asks_only_for_what_is_new(bench: Bench) -> None:
    file = write_task(bench.root, "classification", metrics=["acc"])
    bench.run(tasks=file)
    write_task(bench.root, "classification", metrics=["acc", "acc_norm", "mcc"])
    assert bench.reused(tasks=file) == {"my_classification": 8}
    assert bench.reused(tasks=f"{file},demo_cloze") == {"my_classification": 8, "demo_cloze": 0}
    assert bench.reused("--limit", "6", tasks="demo_cloze") == {"demo_cloze": 4}
    assert bench.loaded == 3


# ---- what decides a score, and what does not ----


def renamed(bench: Bench) -> dict[str, Any]:
    bench.model.rename(bench.root / "renamed")
    return {"model": bench.root / "renamed"}


def copied(bench: Bench) -> dict[str, Any]:
    return {"model": shutil.copytree(bench.model, bench.root / "deep" / "copy")}


def other_template(bench: Bench) -> dict[str, Any]:
    """Not applied without --chat."""
    (bench.model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return {}


SAME: dict[str, Callable[[Bench], dict[str, Any]] | tuple[str, ...]] = {
    "batches": ("--batch-tokens", "48"),
    "seed of intervals": ("--seed", "5"),
    "no resume": ("--no-resume",),
    "device by name": ("--device", "cpu"),
    "dtype by name": ("--dtype", "float32"),
    "trust in code that is not there": ("--trust-remote-code",),
    "a renamed model": renamed,
    "a copied model": copied,
    "a chat template that is not applied": other_template,
}


@pytest.mark.parametrize("change", SAME)
def test_what_decides_no_score_finds_everything(change: str, bench: Bench) -> None:
    bench.run(tasks="demo_cloze")
    changed = SAME[change]
    arguments, options = (changed, {}) if isinstance(changed, tuple) else ((), changed(bench))
    assert bench.reused(*arguments, tasks="demo_cloze", **options) == {"demo_cloze": 4}


def edit(name: str, old: str, new: str) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        text = (bench.model / name).read_text()
        assert old in text
        (bench.model / name).write_text(text.replace(old, new, 1))

    return change


def other_weights(bench: Bench) -> None:
    write_checkpoints(bench.root / "other", {1: 0.9})
    shutil.copy(bench.root / "other" / "step-1" / "model.safetensors", bench.model / "model.safetensors")


def lower_case(bench: Bench) -> None:
    tokenizer = json.loads((bench.model / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Lowercase"}
    (bench.model / "tokenizer.json").write_text(json.dumps(tokenizer))


OTHER: dict[str, Callable[[Bench], None] | tuple[str, ...]] = {
    "window": ("--max-length", "200"),
    "dtype": ("--dtype", "bfloat16"),
    "weights": other_weights,
    "configuration": edit("config.json", "{", '{"rope_theta": 20000.0,'),
    "tokenizer": lower_case,
    "tokenizer's settings": edit("tokenizer_config.json", "{", '{"truncation_side": "left",'),
}


@pytest.mark.parametrize("change", OTHER)
def test_what_decides_every_score_asks_for_all(change: str, bench: Bench) -> None:
    asked = functools.partial(bench.reused, tasks="demo_cloze")
    asked()
    changed = OTHER[change]
    arguments = changed if isinstance(changed, tuple) else ()
    if not isinstance(changed, tuple):
        changed(bench)
    assert [asked(*arguments)["demo_cloze"] for _ in range(2)] == [0, 4]
    assert bench.loaded == 2


def test_the_engines_version_asks_for_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(tasks="demo_cloze")
    for module in ("lmeval.keys", "lmeval.cache.engines"):
        monkeypatch.setattr(f"{module}.ENGINE_VERSION", 10**6)
    assert bench.reused(tasks="demo_cloze") == {"demo_cloze": 0}


def test_what_decides_a_request_asks_for_it(bench: Bench) -> None:
    bench.run()
    assert bench.reused("--num-fewshot", "1") == {"demo_cloze": 0, "demo_qa": 0, "demo_minimal_pairs": 8}
    assert bench.reused("--save-tokens") == {"demo_cloze": 0, "demo_qa": 4, "demo_minimal_pairs": 0}
    file = write_task(bench.root, "generation", max_new_tokens=4)
    asked = functools.partial(bench.reused, tasks=file)
    assert [asked()["my_generation"] for _ in range(2)] == [0, 2]
    for changes in (
        {"max_new_tokens": 5},
        {"max_new_tokens": 4, "stop": ["!"]},
        {"max_new_tokens": 4, "decoding": {"strategy": "beam", "num_beams": 2}},
        {"max_new_tokens": 4, "decoding": {"strategy": "sample"}},
    ):
        write_task(bench.root, "generation", **changes)
        assert [asked()["my_generation"] for _ in range(2)] == [0, 2], changes
    assert asked("--seed", "1") == {"my_generation": 0}  # of sampled texts


# ---- weights that change ----


def test_weights_overwritten_in_place_are_never_served_old_scores(bench: Bench) -> None:
    """As long as before, in the same inode, and with the old time put back."""
    checkpoints = write_checkpoints(bench.root / "other", {1: 0.9, 2: 0.8})
    file = bench.model / "model.safetensors"
    seen = [bench.record(tasks="demo_cloze")]
    for step in (1, 2):
        before = file.stat()
        with file.open("r+b") as stream:
            stream.write((checkpoints / f"step-{step}" / file.name).read_bytes())
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_ino) == (before.st_size, before.st_ino)
        assert file.stat().st_mtime_ns == before.st_mtime_ns
        seen.append(bench.record(tasks="demo_cloze"))
        truth = bench.record("--no-cache", tasks="demo_cloze")
        assert seen[-1]["samples"] == truth["samples"]
        assert seen[-1]["model"]["weights_sha256"] == truth["model"]["weights_sha256"]
    assert [record["tasks"]["demo_cloze"]["counts"]["reused"] for record in seen] == [0, 0, 0]
    assert len({json.dumps(record["samples"]) for record in seen}) == 3


def test_weights_that_change_while_they_are_scored_leave_nothing_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmeval.engine.causal import CausalEngine

    real, before = CausalEngine.score, (bench.model / "model.safetensors").read_bytes()

    def overwriting(self: Any, *arguments: Any, **options: Any) -> Any:
        yield from real(self, *arguments, **options)
        os.utime(bench.model / "model.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(CausalEngine, "score", overwriting)
        ran = bench.run(tasks="demo_cloze")
    assert "warning: the weights changed while they were scored" in ran.err
    assert (bench.model / "model.safetensors").read_bytes() == before
    assert bench.reused(tasks="demo_cloze") == {"demo_cloze": 0}


def test_weights_that_change_between_two_looks_stop_the_run(bench: Bench) -> None:
    """What is kept was found for the old ones, and the rest is asked of the new ones: no run of either."""
    bench.run(tasks="demo_cloze")
    other, real = write_checkpoints(bench.root / "other", {1: 0.9}) / "step-1", run_module.load_engine

    def load_late(*arguments: Any) -> Any:
        shutil.copy(other / "model.safetensors", bench.model / "model.safetensors")
        return real(*arguments)

    run_module.load_engine = load_late  # type: ignore[assignment]
    try:
        ran = lmeval(
            "run",
            "--model",
            bench.model,
            "--tasks",
            "demo_cloze",
            "--limit",
            "6",
            "--output",
            bench.root / "late",
        )
    finally:
        run_module.load_engine = real
    assert ran.code == 2
    assert "changed while it was run" in ran.err and "fix:" in ran.err and "Traceback" not in ran.err


def test_a_damaged_cache_costs_no_run(bench: Bench) -> None:
    first = bench.record()
    (file,) = place.cache_files()
    with file.open("r+b") as stream:
        stream.write(b"\xa5" * 5000)
    ran = bench.run()
    assert ran.err.count("\n") == 1 and "is damaged and is begun anew" in ran.err
    assert read_samples(ran.folder(bench.output)) == first["samples"]
    assert bench.reused() == ALL


# ---- other commands ----


def test_a_self_test_takes_nothing_from_it_and_leaves_nothing(bench: Bench) -> None:
    bench.run(tasks="demo_minimal_pairs")
    before = json.loads(lmeval("cache", "info", "--json").out)
    test = ("--model", bench.model, "--tasks", "demo_minimal_pairs", "--limit", "12", "--quiet")
    ran = lmeval("selftest", *test, "--json", bench.root / "test.json")
    assert ran.code in (0, 10), ran.err
    after = json.loads(lmeval("cache", "info", "--json").out)
    assert after["runs"] == before["runs"] and after["entries"] == before["entries"]
    assert bench.loaded >= 3  # once for each variant, and damaged


def test_series_and_gates_share_it_with_runs(bench: Bench) -> None:
    folder = write_checkpoints(bench.root / "training", {1: 0.9, 2: 1.0})
    tasks = ("--tasks", "demo_minimal_pairs", "--limit", "40", "--quiet")
    lmeval("run", "--model", folder / "step-1", *tasks, "--output", bench.root / "a")
    lmeval("run", "--model", folder / "step-2", *tasks, "--output", bench.root / "b")
    ran = lmeval("run", "--model", f"{folder}/step-*", *tasks, "--output", bench.root / "c")
    assert ran.code == 0, ran.err
    (baseline,) = (bench.root / "a").glob("*/*")
    gated = lmeval(
        "gate", "--model", folder / "step-2", *tasks, "--baseline", baseline, "--output", bench.root / "d"
    )
    assert gated.code in (0, 10, 11), gated.err
    for output in (bench.root / "c").glob("*/*/*/run.json"), (bench.root / "d").glob("*/*/run.json"):
        for file in output:
            assert json.loads(file.read_text())["tasks"]["demo_minimal_pairs"]["counts"]["reused"] == 80


# ---- lmeval cache ----


@pytest.fixture
def filled(bench: Bench) -> Bench:
    bench.run(tasks="demo_cloze")
    bench.run(tasks="demo_minimal_pairs", model="demo-masked")
    return bench


def info() -> dict[str, Any]:
    ran = lmeval("cache", "info", "--json")
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_info_of_nothing(score_cache: Path) -> None:
    ran = lmeval("cache", "info")
    assert (ran.code, ran.err) == (0, "")
    assert f"folder    {score_cache}\n" in ran.out and "0 in 0 B, of 4.0 GiB at most" in ran.out
    assert not score_cache.exists()


def test_info_says_what_is_there(filled: Bench, score_cache: Path) -> None:
    found = info()
    assert found["folder"] == str(score_cache) and found["entries"] == 12
    assert found["limit"] == 4 * 2**30 and found["bytes"] == place.current_file().stat().st_size
    assert [(m["name"], m["entries"], m["type"]) for m in found["models"]] == [
        ("demo-masked", 8, "masked"),
        (str(filled.model), 4, "causal"),
    ]
    assert [(run["found"], run["asked"], run["kept"]) for run in found["runs"]] == [(0, 8, 8), (0, 4, 4)]
    filled.run(tasks="demo_cloze")
    text = lmeval("cache", "info").out
    assert "12 in " in text and "4 of 4 outputs found (100 %), 0 added" in text and "demo-masked" in text


def test_clear_removes_all(filled: Bench) -> None:
    ran = lmeval("cache", "clear")
    assert ran.code == 0 and "removed 12 outputs of demo-masked, " in ran.out
    assert ran.out.splitlines()[0].endswith(filled.model.name)  # a long path is cut on its left
    assert info()["entries"] == 0 and info()["models"] == [] and info()["runs"] == []
    assert filled.reused(tasks="demo_cloze") == {"demo_cloze": 0}
    assert lmeval("cache", "clear", "--json").code == 0
    assert lmeval("cache", "clear").out == "nothing to remove\n"


@pytest.mark.parametrize("how", ["path", "name", "pattern", "hash"])
def test_clear_of_one_model(how: str, filled: Bench) -> None:
    weights = next(m["weights_sha256"] for m in info()["models"] if m["type"] == "causal")
    asked = {"path": str(filled.model), "name": "model", "pattern": "mod*", "hash": weights[:8]}[how]
    removed = json.loads(lmeval("cache", "clear", "--model", asked, "--json").out)
    assert removed["entries"] == 4 and removed["models"] == [str(filled.model)]
    assert [model["name"] for model in info()["models"]] == ["demo-masked"]
    assert lmeval("cache", "clear", "--model", "no such").out == "nothing to remove\n"


def test_clear_of_what_is_old(filled: Bench) -> None:
    assert lmeval("cache", "clear", "--older-than", "1h").out == "nothing to remove\n"
    with sqlite3.connect(place.current_file()) as connection:
        connection.execute("UPDATE groups SET used = used - 7200 WHERE id = 1")
    connection.close()
    assert "removed 4 outputs" in lmeval("cache", "clear", "--older-than", "1h").out
    assert [model["name"] for model in info()["models"]] == ["demo-masked"]
    assert "removed 8 outputs" in lmeval("cache", "clear", "--older-than", "0s").out


def test_conversions_hashes_and_leaderboards_are_listed_and_cleared(score_cache: Path) -> None:
    folder = score_cache / "gguf" / "0123-transformers-5"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * 5000)
    (folder / "source.txt").write_text("tiny.gguf\n")
    (score_cache / "weights").mkdir()
    (score_cache / "weights" / ("a" * 64)).write_text("hash")
    (score_cache / "leaderboard.sqlite").write_bytes(b"x" * 100)
    (score_cache / "notes").write_text("the user's own")
    text = lmeval("cache", "info").out
    assert "GGUF      tiny.gguf, 4.9 KiB, last used " in text
    assert "beside    1 hash of weights, 100 B of scores read for leaderboards" in text
    assert lmeval("cache", "clear", "--model", "other.gguf").out == "nothing to remove\n"
    assert lmeval("cache", "clear", "--older-than", "1d").out == "nothing to remove\n"
    out = lmeval("cache", "clear").out
    assert "removed the conversion of tiny.gguf" in out and "removed 1 hash of weights" in out
    assert sorted(path.name for path in score_cache.rglob("*") if path.is_file()) == ["notes"]


def test_clear_of_a_damaged_file_begins_it_anew(filled: Bench) -> None:
    file = place.current_file()
    file.write_bytes(b"no database " * 1000)
    assert "cannot be read" in lmeval("cache", "info").out and info()["problem"]
    ran = lmeval("cache", "clear")
    assert (ran.code, ran.err) == (0, "") and not file.exists()
    assert info()["problem"] is None and info()["entries"] == 0


def test_clear_while_another_process_writes_says_so(filled: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmeval.cache.file.LOCK_SECONDS", 0.1)
    holder = sqlite3.connect(place.current_file(), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ran = lmeval("cache", "clear")
    holder.close()
    assert ran.code == 2 and "could not be cleared" in ran.err and "fix:" in ran.err


@pytest.mark.parametrize("text", ["1x", "", "-1d", "h", "1.5h", "9" * 20 + "d"])
def test_a_length_of_time_that_is_none(text: str, score_cache: Path) -> None:
    ran = lmeval("cache", "clear", "--older-than", text)
    assert ran.code == 2 and "is no length of time" in ran.err and "30d" in ran.err


def test_a_size_that_is_none_is_an_error_before_the_run(
    score_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LMEVAL_CACHE_SIZE", "much")
    for command in (
        ("cache", "info"),
        ("run", "--model", "demo", "--tasks", "demo_cloze", "--output", str(tmp_path)),
    ):
        ran = lmeval(*command)
        assert ran.code == 2 and 'LMEVAL_CACHE_SIZE "much" is no size' in ran.err


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (2**41, "2,048 GiB")],
)
def test_sizes_read_well(size: int, text: str) -> None:
    assert cache_command.size(size) == text
