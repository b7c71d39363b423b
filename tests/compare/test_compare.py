"""B - A over every shared task and metric, against formulas and libraries of others."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from lmeval.compare import Comparison, MetricComparison, compare_runs
from lmeval.errors import NotComparableError, UsageError
from lmeval.runs import StoredRun, load_run
from lmeval.store import to_json_text
from tests.canned import TASKS, prepared
from tests.gate.finished import chosen, finished_run, flags, read, written
from tests.table_runs import random_engine, table_run


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredRun, StoredRun]:
    folder = tmp_path_factory.mktemp("pair")
    tasks = [prepared(folder, kind) for kind in TASKS]
    one, two = (load_run(table_run(folder / name, tasks)) for name in ("one", "two"))
    return one, two


def metrics(found: Comparison) -> dict[tuple[str, str], MetricComparison]:
    return {(task.name, metric.name): metric for task in found.tasks for metric in task.metrics}


def runs_of(tmp_path: Path, *tasks: object) -> tuple[StoredRun, StoredRun]:
    a, b = (
        load_run(finished_run(tmp_path / f"run{i}", {"t": task}))  # type: ignore[dict-item]
        for i, task in enumerate(tasks)
    )
    return a, b


def test_every_shared_task_and_metric_is_compared(pair: tuple[StoredRun, StoredRun]) -> None:
    a, b = pair
    found = compare_runs(a, b)
    assert {key[0] for key in metrics(found)} == set(a.tasks)
    for (task, name), metric in metrics(found).items():
        before, after = a.tasks[task].metrics[name].value, b.tasks[task].metrics[name].value
        assert (metric.a, metric.b) == (before, after)
        assert metric.delta == after - before
        if metric.not_paired:
            assert name == "token_ppl" and "tokenizers differ" in metric.not_paired
            assert metric.low is metric.high is metric.p is None
            continue
        assert metric.p is not None and 0 <= metric.p <= 1
        if metric.low is None or metric.high is None:  # of four documents, where resamples miss a class
            assert "bootstrap" in metric.method
            continue
        change = after / before - 1 if metric.relative else after - before
        assert metric.low - 1e-9 <= change <= metric.high + 1e-9
    assert to_json_text(found.to_json())  # strict JSON


def test_the_other_way_round_is_the_mirror_image(pair: tuple[StoredRun, StoredRun]) -> None:
    there, back = metrics(compare_runs(*pair)), metrics(compare_runs(*pair[::-1]))
    for key, metric in there.items():
        other = back[key]
        assert metric.delta == -other.delta
        assert (metric.gains, metric.losses) == (other.losses, other.gains)
        if metric.not_paired is None and "bootstrap" not in metric.method:
            assert metric.p == pytest.approx(other.p, abs=1e-9)
            assert other.low is not None and other.high is not None
            turned = (
                (1 / (1 + other.high) - 1, 1 / (1 + other.low) - 1)
                if metric.relative
                else (-other.high, -other.low)
            )
            assert (metric.low, metric.high) == pytest.approx(turned, abs=1e-8)


def test_a_run_and_itself(pair: tuple[StoredRun, StoredRun]) -> None:
    found = compare_runs(pair[0], pair[0])
    for metric in metrics(found).values():
        assert metric.delta == 0 and metric.p == 1 and not metric.losses and not metric.gains
        assert metric.low is None or metric.high is None or metric.low <= 0 <= metric.high
    assert all(not task.worst for task in found.tasks)
    assert "A and B are of the same weights" in found.notes


def test_bits_per_byte_of_texts_of_one_length_is_the_paired_t_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    before = rng.gamma(5, 20, 60)
    after = before * rng.normal(1.01, 0.05, 60)
    found = metrics(compare_runs(*runs_of(tmp_path, read(before.tolist()), read(after.tolist()))))
    bits, words = found["t", "bits_per_byte"], found["t", "word_ppl"]
    scale = 1 / (100 * math.log(2))
    expected = scipy_stats.ttest_rel(after * scale, before * scale)
    low, high = expected.confidence_interval(0.95)
    assert bits.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (bits.low, bits.high) == pytest.approx((low, high), rel=1e-9)
    assert bits.delta == pytest.approx(float(np.mean(after - before)) * scale, rel=1e-9)
    low, high = scipy_stats.ttest_rel(after / 10, before / 10).confidence_interval(0.95)
    assert words.relative and words.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (words.low, words.high) == pytest.approx((math.exp(low) - 1, math.exp(high) - 1), rel=1e-9)
    assert (bits.gains, bits.losses) == (int((after < before).sum()), int((after > before).sum()))


def test_flips_and_their_exact_mcnemar_test(tmp_path: Path) -> None:
    lost, gained = range(30), range(40, 52)
    found = compare_runs(*runs_of(tmp_path, chosen(flags(300, gained)), chosen(flags(300, lost))))
    acc = metrics(found)["t", "acc"]
    assert (acc.gains, acc.losses) == (12, 30)
    assert acc.delta == pytest.approx(-0.06)
    assert acc.p_mcnemar == pytest.approx(scipy_stats.binomtest(12, 42, 0.5).pvalue, rel=1e-9)
    assert acc.high is not None and acc.high < 0 and acc.p is not None and acc.p < 0.02
    assert metrics(found)["t", "macro_f1"].p_mcnemar is None
    assert found.tasks[0].num_clusters is None


def test_documents_that_share_a_passage_count_as_one_draw(tmp_path: Path) -> None:
    passages = [str(i // 10) for i in range(300)]
    lost = [*range(20), *range(100, 110)]  # three whole passages
    apart = metrics(compare_runs(*runs_of(tmp_path / "1", chosen(flags(300)), chosen(flags(300, lost)))))
    made = [chosen(flags(300), passages), chosen(flags(300, lost), passages)]
    found = compare_runs(*runs_of(tmp_path / "2", *made))
    together = metrics(found)
    assert found.tasks[0].num_clusters == 30
    assert together["t", "acc"].delta == apart["t", "acc"].delta
    p, q = apart["t", "acc"].p, together["t", "acc"].p
    assert p is not None and q is not None and p < 1e-6 < 0.01 < q


def test_greedy_flips_are_counted_without_acc(tmp_path: Path) -> None:
    task = prepared(
        tmp_path, "cloze", [{"before": f"{i}", "word": "w", "after": ""} for i in range(50)], metrics=["ppl"]
    )
    a, b = (load_run(table_run(tmp_path / name, [task])) for name in ("one", "two"))
    (found,) = compare_runs(a, b).tasks
    before, after = a.tasks[found.name].is_greedy, b.tasks[found.name].is_greedy
    assert before is not None and after is not None
    assert found.greedy_gains == sum(y and not x for x, y in zip(before, after, strict=True))
    assert found.greedy_losses == sum(x and not y for x, y in zip(before, after, strict=True))
    assert found.greedy_p_mcnemar is not None and found.greedy_gains and found.greedy_losses


def test_an_opaque_metric_is_shown_without_an_interval(tmp_path: Path) -> None:
    a, b = runs_of(tmp_path, chosen(flags(50)), chosen(flags(50, [1])))
    for run in (a, b):
        record = json.loads((run.path / "run.json").read_text())
        values = record["tasks"]["t"]["metrics"]
        values["evaluate:some"] = {**values["acc"], "value": 0.25 if run is a else 0.5}
        (run.path / "run.json").write_text(json.dumps(record))
    found = metrics(compare_runs(load_run(a.path), load_run(b.path)))
    assert found["t", "evaluate:some"].delta == 0.25
    assert "for each" in (found["t", "evaluate:some"].not_paired or "")
    assert found["t", "acc"].p is not None
    with pytest.raises(NotComparableError):
        compare_runs(load_run(a.path), load_run(b.path), metric="evaluate:some")


# ---- which tasks ----


def test_tasks_of_one_run_only_are_listed_and_others_chosen(tmp_path: Path) -> None:
    made = {
        "one": chosen(flags(20)),
        "two": read([1.0, 2.0]),
        "three": written(["a b c d"] * 2, ["a b c d"] * 2),
    }
    a = load_run(finished_run(tmp_path / "a", {name: made[name] for name in ("one", "two")}))
    b = load_run(finished_run(tmp_path / "b", {name: made[name] for name in ("two", "three")}))
    both = load_run(finished_run(tmp_path / "c", made))
    found = compare_runs(a, b)
    assert [task.name for task in found.tasks] == ["two"]
    assert (found.only_a, found.only_b) == (("one",), ("three",))
    assert [t.name for t in compare_runs(a, both, tasks=["t*"]).tasks] == ["two"]
    assert [t.name for t in compare_runs(a, both, metric="acc").tasks] == ["one"]
    with pytest.raises(NotComparableError, match="one is in run A only"):
        compare_runs(a, b, tasks=["one"])
    with pytest.raises(UsageError, match=r'task "too"\. Did you mean "two"'):
        compare_runs(a, b, tasks=["too"])
    with pytest.raises(UsageError, match='metric "bits_per_bite"'):
        compare_runs(a, b, metric="bits_per_bite")


def test_runs_without_a_shared_task_are_not_comparable(tmp_path: Path) -> None:
    a = load_run(finished_run(tmp_path / "a", {"one": chosen(flags(20))}))
    b = load_run(finished_run(tmp_path / "b", {"two": chosen(flags(20))}))
    with pytest.raises(NotComparableError, match="share no task"):
        compare_runs(a, b)


def test_all_that_differs_is_told_at_once(tmp_path: Path) -> None:
    a = load_run(
        finished_run(tmp_path / "a", {"x": chosen(flags(20)), "y": read([1.0, 2.0]), "z": read([1.0])})
    )
    new = {"x": chosen(flags(20), version=2), "y": read([1.0, 2.0, 3.0]), "z": read([1.0])}
    b = load_run(finished_run(tmp_path / "b", new))
    with pytest.raises(NotComparableError) as error:
        compare_runs(a, b)
    for part in ("x: the runs", "version: 1 (A), 2 (B)", "y: the runs", "documents: 2 (A), 3 (B)", "--task"):
        assert part in str(error.value)
    assert "z" not in error.value.what.split()
    assert [task.name for task in compare_runs(a, b, tasks=["z"]).tasks] == ["z"]


def test_units_that_differ_though_the_tokenizer_is_one(tmp_path: Path) -> None:
    task = prepared(tmp_path, "perplexity")
    engine = random_engine("same")
    a = load_run(table_run(tmp_path / "a", [task], engine))
    table_run(tmp_path / "b", [task], engine)
    file = tmp_path / "b" / "samples" / "my_perplexity.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["num_tokens"] *= 2
        line["scores"].pop("token_ppl")
    file.write_text("".join(to_json_text(line) + "\n" for line in lines), encoding="utf-8")
    record = json.loads((tmp_path / "b" / "run.json").read_text())
    values = record["tasks"]["my_perplexity"]["metrics"]["token_ppl"]
    values["value"] = math.sqrt(values["value"])
    (tmp_path / "b" / "run.json").write_text(json.dumps(record))
    b = load_run(tmp_path / "b")
    found = metrics(compare_runs(a, b))
    assert "other units" in (found["my_perplexity", "token_ppl"].not_paired or "")
    assert found["my_perplexity", "word_ppl"].p == 1
    with pytest.raises(NotComparableError, match="other units"):
        compare_runs(a, b, metric="token_ppl")
