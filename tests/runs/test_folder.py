"""A run folder comes back as it was measured, and every damage is an error that says where."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmeval.errors import NotComparableError, StoreError
from lmeval.evaluate import evaluate
from lmeval.journal import Journal
from lmeval.metrics import MetricOptions, find_metric, statistics
from lmeval.prepare import PreparedTask
from lmeval.records import MetricValue, Sample, canonical_sha256, read_by_model
from lmeval.runs import load_run
from lmeval.runs.folder import read_folder
from lmeval.store import to_json_text
from tests.canned import TASKS, prepared
from tests.table_runs import random_engine, table_run


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedTask]:
    folder = tmp_path_factory.mktemp("tasks")
    return [prepared(folder, kind) for kind in TASKS]


@pytest.fixture
def folder(tmp_path: Path, tasks: list[PreparedTask]) -> Path:
    return table_run(tmp_path / "m" / "run", tasks)


def test_every_metric_of_every_type_comes_back_as_it_was_computed(
    folder: Path, tasks: list[PreparedTask]
) -> None:
    run = load_run(folder)
    assert list(run.tasks) == [task.spec.name for task in tasks]
    for task in tasks:
        record, samples = evaluate(task, random_engine(folder.name))
        found = run.tasks[task.spec.name]
        assert to_json_text(asdict(found.record)) == to_json_text(asdict(record))
        assert found.doc_sha256 == tuple(prompt.document.sha256 for prompt in task.prompts)
        assert found.doc_ids == tuple(range(len(task.prompts)))
        assert found.clusters == (None,) * len(task.prompts)
        assert found.samples(range(len(samples))) == samples
        options = MetricOptions(**record.metric_options)
        for name, metric in found.metrics.items():
            np.testing.assert_array_equal(metric.statistics, statistics(name, samples, options))
            value = metric.aggregate(metric.statistics.sum(axis=0, keepdims=True))[0]
            assert value == pytest.approx(metric.value, rel=1e-12)
            assert (metric.interval, metric.unit) == (find_metric(name).interval, find_metric(name).unit)


def test_is_greedy_is_known_of_a_cloze_without_choices(folder: Path) -> None:
    run = load_run(folder)
    greedy = run.tasks["my_cloze"].is_greedy
    assert (
        greedy is not None
        and greedy.tolist() == (run.tasks["my_cloze"].metrics["acc"].statistics[:, 0] == 1).tolist()
    )
    assert run.tasks["my_cloze_choices"].is_greedy is None


def test_samples_are_read_when_they_are_asked_for(folder: Path) -> None:
    for file in (folder / "samples").iterdir():
        file.unlink()
    run = load_run(folder)
    assert run.tasks["my_cloze"].metrics["acc"].value >= 0
    with pytest.raises(StoreError, match="samples cannot be read"):
        _ = run.tasks["my_cloze"].doc_ids


def test_clusters_are_numbered_by_what_is_together(tmp_path: Path) -> None:
    rows = [
        {"before": f"{page} {i}", "word": "left", "after": ".", "page": page}
        for i, page in enumerate("bacab ")
    ]
    task = prepared(tmp_path, "cloze", rows, cluster="{{ page | trim }}")
    run = load_run(table_run(tmp_path / "run", [task]))
    assert run.tasks["my_cloze"].clusters == ("0", "1", None, "1", "0", None)


def test_a_metric_of_the_evaluate_library_is_there_but_opaque(folder: Path) -> None:
    def add(run: dict[str, Any]) -> None:
        metrics = run["tasks"]["my_cloze"]["metrics"]
        metrics["evaluate:some"] = metrics["future_metric"] = {**metrics["acc"], "value": 0.5}

    edit_run(folder, add)
    task = load_run(folder).tasks["my_cloze"]
    for name, why in (
        ("evaluate:some", "one number for all documents"),
        ("future_metric", "no metric of that name"),
    ):
        metric = task.metrics[name]
        assert metric.value == 0.5 and metric.interval is None
        with pytest.raises(NotComparableError, match=why):
            _ = metric.statistics
    assert task.metrics["acc"].statistics.shape == (3, 2)


def test_hostile_texts_come_back(tmp_path: Path) -> None:
    before = "[red]\x1b[2J\r\n\u202ekcab \u2028 \x85 naïve \U0001f600"
    rows = [
        {"before": before, "word": "left\u2029", "after": ""},
        {"before": "b", "word": "near", "after": ""},
    ]
    task = prepared(tmp_path, "cloze", rows)
    run = load_run(table_run(tmp_path / "run", [task]))
    (sample,) = run.tasks["my_cloze"].samples([0]) or []
    assert sample.context == before and sample.target == " left\u2029"


# ---- damage ----


def edit_run(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    run = json.loads((folder / "run.json").read_text())
    change(run)
    (folder / "run.json").write_text(json.dumps(run))


def edit_line(folder: Path, task: str, number: int, **changes: Any) -> None:
    file = folder / "samples" / f"{task}.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[number] = to_json_text({**json.loads(lines[number]), **changes}) + "\n"
    file.write_text("".join(lines), encoding="utf-8")


RunChange = Callable[[dict[str, Any]], Any]
DAMAGED_RECORDS: dict[str, tuple[RunChange, str]] = {
    "newer": (lambda run: run.update(schema_version=2), "newer lmeval: its schema is 2, this one reads 1"),
    "older": (lambda run: run.update(schema_version=0), "no run record of schema 1"),
    "text for a version": (lambda run: run.update(schema_version="1"), "no run record"),
    "no model": (lambda run: run.pop("model"), '"model" is missing'),
    "no window": (lambda run: run["runtime"].pop("max_length"), '"runtime.max_length" is missing'),
    "no value": (
        lambda run: run["tasks"]["my_cloze"]["metrics"]["acc"].pop("value"),
        "my_cloze.metrics.acc.value",
    ),
    "no metrics": (lambda run: run["tasks"]["my_cloze"].update(metrics={}), "has no metrics"),
    "tasks a list": (lambda run: run.update(tasks=[]), '"tasks" is'),
    "documents a text": (lambda run: run["tasks"]["my_cloze"].update(num_documents="many"), "num_documents"),
    "a task that names a path": (
        lambda run: run["tasks"].update({"../../etc/passwd": run["tasks"]["my_cloze"]}),
        "no task name",
    ),
}


@pytest.mark.parametrize("case", DAMAGED_RECORDS)
def test_a_damaged_record_is_refused(case: str, folder: Path) -> None:
    change, message = DAMAGED_RECORDS[case]
    edit_run(folder, change)
    with pytest.raises(StoreError, match=re.escape(message)) as error:
        load_run(folder)
    assert error.value.exit_code == 2 and "run.json" in str(error.value)


def test_unknown_keys_are_passed_over(folder: Path) -> None:
    edit_run(folder, lambda run: run["model"].update(new_key=[1]))
    assert load_run(folder).tasks["my_cloze"].num_documents == 3


BYTES = {
    "cut": (lambda raw: raw[: len(raw) // 2], "not valid JSON"),
    "empty": (lambda raw: b"", "not valid JSON"),
    "nul": (lambda raw: bytes(len(raw)), "NUL bytes"),
    "latin-1": (lambda raw: raw + b"\xe9", "not UTF-8"),
    "nan": (lambda raw: b'{"schema_version": NaN}', "NaN is no number"),
    "deep": (lambda raw: b"[" * 100_000, "nested too deep"),
    "a list": (lambda raw: b"[1]", "no run record"),
}


@pytest.mark.parametrize("case", BYTES)
def test_a_run_json_that_is_not_ours_is_refused(case: str, folder: Path) -> None:
    change, message = BYTES[case]
    file = folder / "run.json"
    file.write_bytes(change(file.read_bytes()))
    for path in (folder, file):
        with pytest.raises(StoreError, match=message):
            load_run(path)


LineChange = Callable[[list[bytes]], list[bytes]]
DAMAGED_SAMPLES: dict[str, tuple[LineChange, str]] = {
    "one less": (lambda lines: lines[:-1], "holds 2 samples; run.json says 3 documents"),
    "one more": (lambda lines: [*lines, lines[0]], "holds 4 samples"),
    "none": (lambda lines: [], "holds 0 samples"),
    "cut in a line": (lambda lines: [*lines[:-1], lines[-1][:-20]], "my_cloze.jsonl:3"),
    "cut at its end": (lambda lines: [*lines[:-1], lines[-1][:-1]], "was cut"),
    "no JSON": (lambda lines: [lines[0], b"{,}\n", lines[2]], "my_cloze.jsonl:2"),
    "no object": (lambda lines: [lines[0], b"[]\n", lines[2]], "my_cloze.jsonl:2"),
    "a blank line": (lambda lines: [lines[0], b"\n", *lines[1:]], "my_cloze.jsonl:2"),
    "nul": (lambda lines: [lines[0], bytes(len(lines[1]) - 1) + b"\n", lines[2]], "NUL bytes"),
    "latin-1": (lambda lines: [lines[0], b'{"doc_id": "\xe9"}\n', lines[2]], "not UTF-8"),
    "infinity": (
        lambda lines: [
            re.sub(rb'"loglikelihood": [-0-9.e]+', b'"loglikelihood": -Infinity', lines[0]),
            *lines[1:],
        ],
        "no number",
    ),
    "no doc_id": (lambda lines: [lines[0].replace(b'"doc_id"', b'"doc"'), *lines[1:]], '"doc_id" is missing'),
    "another order": (lambda lines: lines[::-1], "documents_sha256 differs"),
    "another hash": (
        lambda lines: [re.sub(rb'"doc_sha256": "..', b'"doc_sha256": "00', lines[0]), *lines[1:]],
        "documents_sha256 differs",
    ),
    "no hash": (
        lambda lines: [re.sub(rb'"doc_sha256": ".', b'"doc_sha256": "Z', lines[0]), *lines[1:]],
        "no SHA-256",
    ),
    "another prompt": (
        lambda lines: [lines[0].replace(b"turned", b"burned"), *lines[1:]],
        "prompts_sha256 differs",
    ),
}


@pytest.mark.parametrize("case", DAMAGED_SAMPLES)
def test_a_damaged_sample_file_is_refused(case: str, folder: Path) -> None:
    change, message = DAMAGED_SAMPLES[case]
    file = folder / "samples" / "my_cloze.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    changed = change(lines)
    assert changed != lines
    file.write_bytes(b"".join(changed))
    with pytest.raises(StoreError, match=re.escape(message)) as error:
        _ = load_run(folder).tasks["my_cloze"].doc_ids
    assert "my_cloze.jsonl" in str(error.value)


EDITS: dict[str, tuple[str, dict[str, Any]]] = {
    "likelihood": ("my_cloze", {"loglikelihood": -0.5}),
    "greedy": ("my_cloze", {"is_greedy": None}),
    "choices": ("my_classification", {"loglikelihood": [-9.0, -8.0, -7.0]}),
    "label": ("my_classification", {"label": 5}),
    "bytes": ("my_perplexity", {"num_bytes": 10**6}),
    "words": ("my_perplexity", {"num_words": None}),
    "prediction": ("my_translation", {"prediction": "one two three four five"}),
    "references": ("my_summarization", {"references": []}),
}


@pytest.mark.parametrize("case", EDITS)
def test_samples_that_do_not_give_the_recorded_value_are_refused(case: str, folder: Path) -> None:
    task, changes = EDITS[case]
    edit_line(folder, task, 0, **changes)
    scores = load_run(folder).tasks[task]
    with pytest.raises(StoreError) as error:
        _ = [metric.statistics for metric in scores.metrics.values()]
    assert error.value.exit_code == 2 and f"{task}.jsonl" in str(error.value)


def test_an_exchange_that_leaves_the_sums_alone_is_seen(folder: Path) -> None:
    file = folder / "samples" / "my_perplexity.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    values = [line["loglikelihood"] for line in lines]
    edit_line(folder, "my_perplexity", 0, loglikelihood=values[1])
    edit_line(folder, "my_perplexity", 1, loglikelihood=values[0])
    with pytest.raises(StoreError, match="its line says"):
        _ = load_run(folder).tasks["my_perplexity"].metrics["word_ppl"].statistics


def test_a_value_edited_in_the_record_is_seen(folder: Path) -> None:
    edit_run(folder, lambda run: run["tasks"]["my_cloze"]["metrics"]["ppl"].update(value=1.5))
    task = load_run(folder).tasks["my_cloze"]
    with pytest.raises(StoreError, match=r"the record says 1\.5"):
        _ = task.metrics["ppl"].statistics
    assert task.metrics["acc"].statistics.shape == (3, 2)  # what was not asked for is not held against it


# ---- size ----


def test_many_thousand_lines_are_read_in_seconds(tmp_path: Path, folder: Path) -> None:
    """The prompts are long and are not kept."""
    n = 30_000
    record = load_run(folder).record
    task = record.tasks["my_cloze"]
    samples = [
        Sample(
            i,
            f"{i:064x}",
            context="It was said that the sea " * 8,
            target=" left",
            loglikelihood=-i / n,
            is_greedy=True,
        )
        for i in range(n)
    ]
    big = replace(
        task,
        num_documents=n,
        dataset=replace(
            task.dataset, num_available=n, documents_sha256=canonical_sha256([s.doc_sha256 for s in samples])
        ),
        prompts_sha256=canonical_sha256([read_by_model(sample) for sample in samples]),
        metrics={"acc": replace(task.metrics["acc"], value=1.0, num_documents=n)},
    )
    target = tmp_path / "big"
    (target / "samples").mkdir(parents=True)
    (target / "run.json").write_text(json.dumps(replace(record, tasks={"my_cloze": big}).to_json()))
    with (target / "samples" / "my_cloze.jsonl").open("w") as stream:
        stream.writelines(json.dumps(sample.to_json()) + "\n" for sample in samples)
    begin = time.perf_counter()
    scores = load_run(target).tasks["my_cloze"]
    assert scores.metrics["acc"].statistics.shape == (n, 2)
    assert time.perf_counter() - begin < 20  # measured on two cores: 4 s for 100,000
    (last,) = scores.samples([n - 1]) or []
    assert last.doc_id == n - 1 and last.context.endswith("the sea ")


def test_the_first_runs_recorded_no_metric_options(folder: Path) -> None:
    edit_run(folder, lambda run: run["tasks"]["my_cloze"].pop("metric_options"))
    assert load_run(folder).tasks["my_cloze"].metrics["acc"].statistics.shape == (3, 2)


def test_options_of_a_newer_lmeval_are_an_error(folder: Path) -> None:
    edit_run(folder, lambda run: run["tasks"]["my_cloze"]["metric_options"].update(unheard_of=1))
    with pytest.raises(StoreError, match="unheard_of"):
        _ = load_run(folder).tasks["my_cloze"].metrics["acc"].statistics


def test_read_folder_needs_no_journal(folder: Path) -> None:
    Journal(folder / "journal.jsonl").close()
    assert isinstance(read_folder(folder / "run.json").record.tasks["my_cloze"].metrics["acc"], MetricValue)
