"""What stands in the way of a comparison is named; what does not is a note."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmeval.baseline import save_baseline
from lmeval.compare import compare_runs, require_comparable, shared_clusters
from lmeval.compare.comparable import run_notes, task_notes
from lmeval.errors import NotComparableError, StoreError
from lmeval.prepare import Settings
from lmeval.records import RunRecord
from lmeval.runs import StoredRun, TaskScores, load_run
from tests.canned import prepared
from tests.gate.finished import chosen, finished_run, flags
from tests.table_runs import random_engine, table_run

ROWS = [{"review": f"Film {i} was so.", "label": i % 2} for i in range(12)]


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    return load_run(table_run(tmp_path / "base", [prepared(tmp_path, "classification", ROWS)]))


def other(tmp_path: Path, rows: Any = ROWS, settings: Settings | None = None, **changes: Any) -> StoredRun:
    """A run of the same task, but for what is changed."""
    folder = tmp_path / "other"
    folder.mkdir()
    return load_run(
        table_run(folder / "run", [prepared(folder, "classification", rows, settings, **changes)])
    )


def only(run: StoredRun) -> TaskScores:
    (task,) = run.tasks.values()
    return task


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "version": ({"version": 2}, ["version: 1 (baseline), 2 (candidate)", "task_sha256: "]),
    "task file": (
        {"metrics": ["acc"]},
        ["task_sha256: ", "what decides a score", "metric acc_norm: candidate does not"],
    ),
    "template": ({"context": "{{ review }} So it is"}, ["task_sha256: ", "prompts_sha256: "]),
    "documents": (
        {"rows": [*ROWS[:11], {"review": "Another.", "label": 0}]},
        [
            "documents_sha256: ",
            "1 only in the first (such as doc_id 11)",
            "1 only in the second (such as doc_id 11)",
        ],
    ),
    "order": ({"rows": ROWS[::-1]}, ["the same documents in another order", "prompts_sha256"]),
    "more documents": (
        {"rows": [*ROWS, {"review": "More.", "label": 0}]},
        ["documents: 12 (baseline), 13 (candidate)"],
    ),
    "shots": (
        {"settings": Settings(num_fewshot=2)},
        ["num_fewshot: 0 (baseline), 2 (candidate)", "prompts_sha256: "],
    ),
    "partial": (
        {"settings": Settings(limit=5)},
        [
            "documents: 12 (baseline), 5 of 12 (--limit 5) (candidate)",
            "documents_sha256: ",
            "7 only in the first",
        ],
    ),
}


@pytest.mark.parametrize("kept", ["folder", "baseline file"])
@pytest.mark.parametrize("case", CHANGES)
def test_a_difference_in_what_was_asked_is_named(
    case: str, kept: str, run: StoredRun, tmp_path: Path
) -> None:
    changes, parts = CHANGES[case]
    new = other(tmp_path, **changes)
    if kept == "baseline file":
        save_baseline(run, tmp_path / "main.json")
        run = load_run(tmp_path / "main.json")
    with pytest.raises(NotComparableError) as error:
        require_comparable(only(run), only(new))
    assert error.value.exit_code == 12
    for part in parts:
        assert part in str(error.value), f"{part!r} is not in:\n{error.value}"
    with pytest.raises(NotComparableError):
        compare_runs(run, new)


def test_a_copied_document_is_no_longer_the_same(run: StoredRun, tmp_path: Path) -> None:
    new = other(tmp_path, rows=[*ROWS[:11], ROWS[0]])
    with pytest.raises(NotComparableError, match="doc_id 11"):
        require_comparable(only(run), only(new))
    with pytest.raises(NotComparableError, match="more than once"):
        require_comparable(
            only(new),
            only(
                load_run(
                    table_run(tmp_path / "t", [prepared(tmp_path, "classification", [*ROWS[:11], ROWS[1]])])
                )
            ),
        )


def test_other_seeds_of_random_shots_are_other_prompts(tmp_path: Path) -> None:
    runs = []
    for seed in (0, 1):
        task = prepared(
            tmp_path, "classification", ROWS, Settings(num_fewshot=2, seed=seed), fewshot="random"
        )
        runs.append(load_run(table_run(tmp_path / str(seed), [task])))
    with pytest.raises(NotComparableError, match="prompts_sha256") as error:
        require_comparable(only(runs[0]), only(runs[1]))
    assert str(error.value).count("\n  ") == 2  # what differs, and the fix


def test_the_same_questions_are_comparable(run: StoredRun, tmp_path: Path) -> None:
    new = other(tmp_path, description="In other words", tags=["new"])
    require_comparable(only(run), only(new))
    for metric in only(run).metrics:
        require_comparable(only(run), only(new), metric)


RecordChange = Callable[[dict[str, Any]], Any]
EDITS: dict[str, tuple[RecordChange, str]] = {
    "unit": (
        lambda task: task["metrics"]["acc"].update(unit="0-100"),
        "unit of acc: 0-1 (baseline), 0-100 (candidate)",
    ),
    "signature": (lambda task: task["metrics"]["acc"].update(signature="new"), "signature of acc: "),
    "direction": (
        lambda task: task["metrics"]["acc"].update(higher_is_better=False),
        "higher_is_better of acc",
    ),
    "type": (lambda task: task.update(type="cloze"), "type: classification (baseline), cloze (candidate)"),
    "decoding": (
        lambda task: task.update(decoding={"num_beams": 2}),
        "decoding: {'num_beams': 1} (baseline)",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_a_difference_in_the_metric_is_named(case: str, tmp_path: Path) -> None:
    change, message = EDITS[case]
    made = chosen(flags(20), decoding={"num_beams": 1})
    base = load_run(finished_run(tmp_path / "base", {"t": made}))
    finished_run(tmp_path / "new", {"t": made})
    record = json.loads((tmp_path / "new" / "run.json").read_text())
    change(record["tasks"]["t"])
    (tmp_path / "new" / "run.json").write_text(json.dumps(record))
    with pytest.raises(NotComparableError) as error:
        require_comparable(only(base), only(load_run(tmp_path / "new")), "acc")
    assert message in str(error.value)


def test_a_cut_sample_file_is_damage_and_no_difference(run: StoredRun, tmp_path: Path) -> None:
    new = other(tmp_path)
    file = new.path / "samples" / "my_classification.jsonl"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(StoreError):
        compare_runs(run, load_run(new.path))


# ---- models of another kind ----


def perplexities(tmp_path: Path, *engines: Any) -> list[TaskScores]:
    task = prepared(tmp_path, "perplexity")
    return [only(load_run(table_run(tmp_path / f"{i}", [task], engine))) for i, engine in enumerate(engines)]


def test_a_pseudo_perplexity_is_no_perplexity(tmp_path: Path) -> None:
    real, pseudo = perplexities(tmp_path, random_engine("a"), random_engine("b", model_type="masked"))
    for metric in (None, "token_ppl", "pseudo_ppl", "bits_per_byte"):
        with pytest.raises(NotComparableError, match="pseudo-perplexity is no perplexity"):
            require_comparable(real, pseudo, metric)


def test_accuracies_of_a_masked_and_a_causal_model_compare_with_a_note(tmp_path: Path) -> None:
    task = prepared(tmp_path, "minimal_pairs")
    engines = (random_engine("a"), random_engine("b", model_type="masked"))
    a, b = (load_run(table_run(tmp_path / str(i), [task], engine)) for i, engine in enumerate(engines))
    require_comparable(only(a), only(b))
    assert "model type: causal (baseline), masked (candidate)" in run_notes(a.record, b.record)


def test_two_ways_to_score_a_masked_model_are_two_metrics(tmp_path: Path) -> None:
    a, b = perplexities(
        tmp_path, random_engine("a", model_type="masked"), random_engine("a", model_type="masked")
    )
    plls = ("original", "whole_word")
    ways = [
        replace(task, record=replace(task.record, pll=pll)) for task, pll in zip((a, b), plls, strict=True)
    ]
    older = [  # the first runs had one way for all tasks
        replace(
            task,
            record=replace(task.record, pll=None),
            run=replace(task.run, model=replace(task.run.model, pll=pll)),
        )
        for task, pll in zip((a, b), plls, strict=True)
    ]
    for pair in (ways, older):
        with pytest.raises(NotComparableError, match=r"pll: original \(baseline\), whole_word \(candidate\)"):
            require_comparable(*pair)


def test_per_token_perplexities_need_one_tokenizer(tmp_path: Path) -> None:
    a, b = perplexities(tmp_path, random_engine("a"), random_engine("b"))  # a tokenizer each
    require_comparable(a, b)  # nothing in the questions differs
    for metric in ("word_ppl", "byte_ppl", "bits_per_byte"):
        require_comparable(a, b, metric)
    with pytest.raises(NotComparableError, match=r"the tokenizers differ .* use bits_per_byte"):
        require_comparable(a, b, "token_ppl")
    (tmp_path / "same").mkdir()
    require_comparable(*perplexities(tmp_path / "same", random_engine("a"), random_engine("a")), "token_ppl")


def test_an_opaque_metric_is_refused_by_name_only(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        finished_run(tmp_path / name, {"t": chosen(flags(20))})
        record = json.loads((tmp_path / name / "run.json").read_text())
        metrics = record["tasks"]["t"]["metrics"]
        metrics["evaluate:some"] = metrics["acc"]
        (tmp_path / name / "run.json").write_text(json.dumps(record))
        runs.append(load_run(tmp_path / name))
    require_comparable(only(runs[0]), only(runs[1]))
    with pytest.raises(NotComparableError, match="cannot be compared document by document"):
        require_comparable(only(runs[0]), only(runs[1]), "evaluate:some")
    with pytest.raises(NotComparableError, match="neither run has it; they have acc"):
        require_comparable(only(runs[0]), only(runs[1]), "acck")


# ---- notes ----


def changed(record: RunRecord, part: str, **changes: Any) -> RunRecord:
    return replace(record, **{part: replace(getattr(record, part), **changes)})


def test_another_window_or_dtype_is_a_note(run: StoredRun) -> None:
    record = run.record
    assert run_notes(record, record) == ["baseline and candidate are of the same weights"]
    new = changed(
        changed(record, "runtime", max_length=64, lmeval="9"), "model", dtype="bfloat16", weights_sha256="0"
    )
    assert run_notes(record, new, ("A", "B")) == [
        "dtype: float64 (A), bfloat16 (B)",
        "window: 2147483647 (A), 64 (B)",
        f"lmeval: {record.runtime.lmeval} (A), 9 (B)",
    ]
    task = only(run)
    require_comparable(task, replace(task, run=new))


def test_partial_scores_cut_contexts_and_clusters_are_noted(tmp_path: Path) -> None:
    partial = prepared(tmp_path, "classification", ROWS, Settings(limit=6))
    a = only(load_run(table_run(tmp_path / "a", [partial], random_engine("m"))))
    b = only(
        load_run(
            table_run(
                tmp_path / "b", [replace(partial, prompts=[replace(p, cluster="x") for p in partial.prompts])]
            )
        )
    )
    record = replace(b.record, counts={"truncated": 2})
    assert task_notes(a, replace(b, record=record)) == [
        "my_classification: partial, 6 of 12 (--limit 6) documents",
        "my_classification: contexts cut from the left to fit the window: 0 (baseline), 2 (candidate)",
        "my_classification: only one run says which documents share a passage; its clusters are taken",
    ]
    assert shared_clusters(a, b) == shared_clusters(b, a) == ("0",) * 6


def test_hostile_values_are_shown_not_obeyed(tmp_path: Path) -> None:
    runs = [
        load_run(finished_run(tmp_path / name, {"t": chosen(flags(9), decoding={"x": value})}))
        for name, value in (("a", "\x1b[2J\u202e[red]"), ("b", "y" * 500))
    ]
    with pytest.raises(NotComparableError) as error:
        require_comparable(only(runs[0]), only(runs[1]))
    assert "\x1b" not in str(error.value) and "\u202e" not in str(error.value)
    assert len(str(error.value)) < 500
