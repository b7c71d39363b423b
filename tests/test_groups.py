"""Scores per group: who belongs where, what the record says, and that it comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmeval.engine.table import TableEngine
from lmeval.errors import DataError, LmevalError, TaskError
from lmeval.evaluate import evaluate
from lmeval.groups import MAX_GROUPS, NO_VALUE
from lmeval.metrics import MetricOptions, compute
from lmeval.prepare import Settings, prepare
from lmeval.records import GroupRecord, ScoreRequest
from lmeval.runs import load_run
from lmeval.store import to_json_text
from tests.canned import WRITTEN, make_task, prepared, write_rows
from tests.table_runs import random_engine, table_run

LIKELY_GOOD = TableEngine(lambda request: (-1.0 if "good" in request.target else -2.0, 1, True))


def reviews(*rows: tuple[Any, int]) -> list[dict[str, Any]]:
    """Documents of a field with a label; of label 0 LIKELY_GOOD is right."""
    return [{"review": f"Film {i}.", "label": label, "field": field} for i, (field, label) in enumerate(rows)]


def record_of(
    folder: Path, rows: Sequence[dict[str, Any]], engine: TableEngine = LIKELY_GOOD, **keys: Any
) -> Any:
    keys = {"group_by": "field", "metrics": ["acc"], **keys}
    return evaluate(prepared(folder, "classification", rows, **keys), engine)


def accuracies(groups: dict[str, GroupRecord]) -> dict[str, tuple[int, float]]:
    return {name: (group.num_documents, group.metrics["acc"].value) for name, group in groups.items()}


def test_groups_have_their_documents_scores_and_intervals(tmp_path: Path) -> None:
    rows = reviews(("b", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 1))
    record, samples = record_of(tmp_path, rows)
    assert [sample.group for sample in samples] == ["b", "a", "b", "b", "a"]
    assert list(record.groups) == ["a", "b"]
    assert accuracies(record.groups) == {"a": (2, 0.0), "b": (3, pytest.approx(2 / 3))}
    own = [sample for sample in samples if sample.group == "b"]
    assert record.groups["b"].metrics["acc"] == compute("acc", own, MetricOptions("classification"), 0)[0]
    assert record.metrics["acc"].value == 2 / 5  # every document counts the same
    assert record.group_by == "field"
    assert record.group_rule == "micro: acc is over all documents, so a group weighs by its size"


def test_a_mean_of_groups_counts_each_the_same_and_says_so(tmp_path: Path) -> None:
    rows = reviews(("b", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 1))
    record, _ = record_of(tmp_path, rows, metrics=["group_mean_acc", "acc"])
    assert record.metrics["group_mean_acc"].value == pytest.approx((0 + 2 / 3) / 2)
    assert record.metrics["acc"].value == 2 / 5
    assert set(record.groups["a"].metrics) == {"acc"}  # a group has no groups
    assert record.group_rule == "macro: group_mean_acc is the mean of the groups, whatever their size"


def test_a_template_groups_too(tmp_path: Path) -> None:
    rows = reviews(("History", 0), ("history ", 1), ("law", 0))
    record, _ = record_of(tmp_path, rows, group_by="{{ field | trim | lower }}: {{ label }}")
    assert list(record.groups) == ["history: 0", "history: 1", "law: 0"]


@pytest.mark.parametrize(
    ("value", "name"), [(None, NO_VALUE), ("  ", NO_VALUE), (7, "7"), (True, "True"), (0, "0")]
)
def test_any_plain_value_names_a_group(value: Any, name: str, tmp_path: Path) -> None:
    record, _ = record_of(tmp_path, reviews((value, 0)))
    assert list(record.groups) == [name]


def test_without_group_by_there_are_no_groups(tmp_path: Path) -> None:
    record, samples = record_of(tmp_path, reviews(("a", 0)), group_by=None)
    assert (record.group_by, record.groups, record.group_rule, samples[0].group) == (None, None, None, None)


@pytest.mark.parametrize("kind", ["perplexity", "cloze", *WRITTEN])
def test_every_type_of_task_groups(kind: str, tmp_path: Path) -> None:
    task = prepared(tmp_path, kind, group_by="{{ 'odd' if doc | length % 2 else 'even' }}")
    record, samples = evaluate(task, random_engine("one"))
    (group,) = record.groups.values()
    assert group.num_documents == len(samples)
    assert group.metrics == record.metrics  # one group is the whole


# ---- what is wrong is told before a model is run ----


def test_an_unknown_column_lists_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        record_of(tmp_path, reviews(("a", 0)), group_by="feild")
    text = str(error.value)
    assert 'group_by names the column "feild", which document 0 does not have. Did you mean "field"?' in text
    assert "Its columns: review, label, field." in text
    assert "task my_classification, key group_by" in text


def test_an_undefined_column_in_a_template_lists_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(
        LmevalError, match=r"column 'feild' is not there.*Columns are: review, label, field"
    ) as error:
        record_of(tmp_path, reviews(("a", 0)), group_by="{{ feild }}")
    assert "key group_by" in str(error.value)


@pytest.mark.parametrize(("value", "kind"), [(["a"], "a list"), ({"a": 1}, "a mapping")])
def test_a_column_of_lists_is_refused(value: Any, kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"holds {kind} in document 0"):
        record_of(tmp_path, reviews((value, 0)))


def test_a_column_that_tells_every_document_apart_is_refused(tmp_path: Path) -> None:
    rows = reviews(*((f"id-{i}", 0) for i in range(MAX_GROUPS + 1)))
    with pytest.raises(DataError, match=r"1,001 groups of 1,001 documents; allowed are 1,000"):
        record_of(tmp_path, rows)


def test_group_by_must_say_something(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match='"group_by": found an empty text'):
        make_task(tmp_path, "classification", group_by=" ")


@pytest.mark.parametrize("metric", ["group_mean_acc", "pro_anti_gap"])
def test_metrics_of_groups_need_groups(metric: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=f"{metric} is over the groups of a task; give the key group_by"):
        make_task(tmp_path, "classification", metrics=["acc", metric])


def test_a_gap_needs_pro_and_anti_before_a_model_is_run(tmp_path: Path) -> None:
    keys = {"group_by": "field", "metrics": ["acc", "pro_anti_gap"]}
    prepared(tmp_path, "classification", reviews(("pro", 0), ("anti", 0)), **keys)
    for rows in (reviews(("pro", 0)), reviews(("pro", 0), ("anti", 0), ("else", 0))):
        with pytest.raises(DataError, match='"pro" and "anti" needs documents of both groups and no other'):
            prepared(tmp_path, "classification", rows, **keys)


# ---- identity ----


def test_group_by_changes_the_hash_only_where_a_metric_reads_groups(tmp_path: Path) -> None:
    plain = make_task(tmp_path, "classification")
    assert make_task(tmp_path, "classification", group_by="field").sha256 == plain.sha256
    metrics = ["acc", "group_mean_acc"]
    one, two = (
        make_task(tmp_path, "classification", group_by=column, metrics=metrics).sha256
        for column in ("a", "b")
    )
    assert one != two


# ---- read back ----


def test_groups_and_calibration_come_back_from_a_run_folder_and_a_baseline(tmp_path: Path) -> None:
    from lmeval.baseline import save_baseline

    rows = [
        {**row, "field": f"f{i % 3}"} for i, row in enumerate(reviews(*((None, i % 2) for i in range(30))))
    ]
    keys: dict[str, Any] = {"group_by": "field", "metrics": ["acc", "group_mean_acc", "ece_adaptive"]}
    task = prepared(tmp_path, "classification", rows, **keys)
    written = evaluate(task, random_engine("r"))[0]
    run = load_run(table_run(tmp_path / "r", [task]))
    (found,) = run.record.tasks.values()
    assert found.groups == written.groups
    assert found.calibration == written.calibration
    assert found.group_rule == written.group_rule
    baseline = tmp_path / "baseline.json"
    save_baseline(run, baseline)
    again = load_run(baseline)
    assert again.record == run.record
    for name, scores in again.tasks["my_classification"].metrics.items():
        assert scores.statistics.tolist() == run.tasks["my_classification"].metrics[name].statistics.tolist()
    assert json.loads(to_json_text(run.record.to_json()))["tasks"]["my_classification"]["groups"]


# ---- several configurations ----


def mirror(folder: Path, **rows: int) -> Path:
    for name, count in rows.items():
        (folder / "some" / "pairs" / name).mkdir(parents=True)
        texts = [{"good": f"{name} {i} good", "bad": f"{name} {i} bad"} for i in range(count)]
        write_rows(folder / "some" / "pairs" / name / "train.jsonl", texts)
    return folder


SPANNING = {
    "dataset": {"path": "some/pairs", "names": ["one", "two", "three"], "split": "train"},
    "group_by": "configuration",
}


def test_a_task_may_span_configurations_and_takes_a_document_of_each_in_turn(tmp_path: Path) -> None:
    spec = make_task(tmp_path, "minimal_pairs", **SPANNING)
    root = mirror(tmp_path / "mirror", one=2, two=1, three=3)
    task = prepare(spec, Settings(data_root=root))
    order = [prompt.choices[0].split()[:2] for prompt in task.prompts if prompt.choices]
    assert order == [["one", "0"], ["two", "0"], ["three", "0"], ["one", "1"], ["three", "1"], ["three", "2"]]
    assert [prompt.document.doc_id for prompt in task.prompts] == list(range(6))
    record, _ = evaluate(task, LIKELY_GOOD)
    assert accuracies(record.groups or {}) == {"one": (2, 1.0), "three": (3, 1.0), "two": (1, 1.0)}
    assert record.dataset.name == "one+two+three"
    assert record.dataset.num_available == 6
    limited = prepare(spec, Settings(data_root=root, limit=3))
    assert [prompt.group for prompt in limited.prompts] == ["one", "two", "three"]


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    spec = make_task(tmp_path, "minimal_pairs", **SPANNING)
    root = mirror(tmp_path / "mirror", one=1, two=1)
    with pytest.raises(DataError, match=r"three"):
        prepare(spec, Settings(data_root=root, offline=True))


@pytest.mark.parametrize(
    ("dataset", "what"),
    [
        ({"path": "some/pairs", "split": "train", "names": ["a"]}, "two or more different names"),
        ({"path": "some/pairs", "split": "train", "names": ["a", "a"]}, "two or more different names"),
        ({"path": "some/pairs", "split": "train", "names": ["a", "../b"]}, "without slashes"),
        ({"path": "some/pairs", "split": "train", "name": "a", "names": ["a", "b"]}, "in place of one name"),
        ({"path": "pairs.jsonl", "names": ["a", "b"]}, "of a hub data set"),
    ],
)
def test_names_are_several_configurations_of_the_hub(
    dataset: dict[str, Any], what: str, tmp_path: Path
) -> None:
    with pytest.raises(TaskError, match=what):
        make_task(tmp_path, "minimal_pairs", dataset=dataset)


# ---- a text behind a context, and a third text ----


def test_texts_of_a_pair_may_follow_a_context(tmp_path: Path) -> None:
    asked: list[ScoreRequest] = []

    def score(request: ScoreRequest) -> tuple[float, int, bool]:
        asked.append(request)
        return -1.0, 1, True

    rows = [{"before": "It rained.", "good": "We got wet.", "bad": "We got we.", "other": "Sea of pans."}]
    keys = {"context": "{{ before }}", "good": " {{ good }}", "bad": " {{ bad }}"}
    for kind, whole in (("causal", False), ("masked", True)):
        asked.clear()
        _, samples = evaluate(
            prepared(tmp_path, "minimal_pairs", rows, **keys), TableEngine(score, model_type=kind)
        )
        assert [(r.context, r.target, r.whole_text) for r in asked] == [
            ("It rained.", " We got wet.", whole),
            ("It rained.", " We got we.", whole),
        ]
        assert samples[0].context == "It rained."
    third = {**keys, "unrelated": " {{ other }}", "metrics": ["ss", "icat", "lms"]}
    _, samples = evaluate(prepared(tmp_path, "minimal_pairs", rows, **third), TableEngine(score))
    assert samples[0].choices == (" We got wet.", " We got we.", " Sea of pans.")


def test_metrics_go_with_the_number_of_texts(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="ss needs a third text; give the key unrelated"):
        make_task(tmp_path, "minimal_pairs", metrics=["ss"])
    with pytest.raises(TaskError, match="acc is of two texts, and unrelated gives a third"):
        make_task(tmp_path, "minimal_pairs", unrelated="x", metrics=["acc"])


def test_a_group_that_leaves_a_metric_undefined_has_the_others(tmp_path: Path) -> None:
    rows = [{"text": "a b", "own": "a b", "field": "x"}, {"text": "c", "own": "   ", "field": "y"}]
    spec = make_task(tmp_path, "perplexity", rows, group_by="field", metrics=["word_ppl", "token_ppl"])
    task = prepare(spec, Settings())
    blank = replace(task.prompts[1], original="   ")  # no word in it
    record, _ = evaluate(replace(task, prompts=[task.prompts[0], blank]), random_engine("one"))
    assert record.groups is not None
    assert [set(group.metrics) for group in record.groups.values()] == [
        {"word_ppl", "token_ppl"},
        {"token_ppl"},
    ]
