from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, norm

from lmeval.errors import NotComparableError, StoreError
from lmeval.runs import load_run
from lmeval.trends import (
    DocumentChanges,
    document_changes,
    neighbour_noise,
    read_history,
    series_trends,
    signal,
    sparkline,
    theil_sen,
)
from tests.checkpoints import history, history_run
from tests.gate.finished import chosen, flags, read

RNG = np.random.default_rng(7)


def slopes_of(x: np.ndarray, y: np.ndarray) -> list[float]:
    pairs = itertools.combinations(range(len(x)), 2)
    return sorted((y[j] - y[i]) / (x[j] - x[i]) for i, j in pairs)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13])
def test_the_slope_is_the_median_of_all_pairs(n: int) -> None:
    x, y = np.cumsum(RNG.uniform(0.5, 2, n)), RNG.normal(size=n)
    assert theil_sen(x, y).value == pytest.approx(float(np.median(slopes_of(x, y))), abs=1e-9)


@pytest.mark.parametrize("n", [5, 8, 13])
def test_its_interval_leaves_out_what_kendalls_test_rejects(n: int) -> None:
    x, y = np.arange(n, dtype=float), RNG.normal(size=n)
    found = theil_sen(x, y)
    slopes = slopes_of(x, y)
    # Sen 1968: the ranks (N -+ z sd) / 2 of the N slopes, sd that of Kendall's statistic
    reach = norm.ppf(0.975) * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low, high = round((len(slopes) - reach) / 2), round((len(slopes) + reach) / 2)
    assert found.low == pytest.approx(slopes[max(low - 1, 0)], abs=1e-9)
    assert found.high == pytest.approx(slopes[min(high, len(slopes) - 1)], abs=1e-9)
    # well inside, Kendall's test accepts; outside, it rejects
    assert found.low is not None and found.high is not None
    assert kendalltau(x, y - (found.low + found.high) / 2 * x).pvalue > 0.05
    assert kendalltau(x, y - (slopes[-1] + 1) * x).pvalue < 0.05


def test_fewer_than_five_checkpoints_have_no_interval() -> None:
    found = theil_sen(np.arange(4.0), np.arange(4.0))
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_noise_is_the_scatter_around_neighbours_and_blind_to_a_straight_trend() -> None:
    x, y = np.cumsum(RNG.uniform(0.5, 2, 9)), RNG.normal(size=9)
    squares = []
    for i in range(1, 8):
        a = (x[i + 1] - x[i]) / (x[i + 1] - x[i - 1])
        squares.append((a * y[i - 1] + (1 - a) * y[i + 1] - y[i]) ** 2 / (a * a + (1 - a) ** 2 + 1))
    expected = math.sqrt(sum(squares) / 7)
    assert neighbour_noise(x, y) == pytest.approx(expected, abs=1e-9)
    assert neighbour_noise(x, y + 100 * x - 3) == pytest.approx(expected, abs=1e-9)
    assert neighbour_noise(x[:2], y[:2]) is None


def test_noise_estimates_the_standard_deviation_of_a_checkpoint() -> None:
    x = np.arange(20_000.0)
    assert neighbour_noise(x, RNG.normal(0, 0.3, 20_000)) == pytest.approx(0.3, rel=0.03)


def test_no_single_checkpoint_sets_the_signal() -> None:
    assert signal(np.array([0.0, 0.0, 9.0, 0.0, 0.0, 0.0])) == 0
    assert signal(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])) == 3
    assert signal(np.array([1.0, 4.0])) == 3


def test_documents_are_counted_by_what_became_of_them() -> None:
    courses = {
        "learned": ["0001", "0111"],
        "forgotten": ["1000"],
        "flipping": ["0100", "1011", "0101"],
        "always": ["1111"],
        "never": ["0000", "0000"],
    }
    right = np.array([[float(c) for c in course] for own in courses.values() for course in own]).T
    assert document_changes(right) == DocumentChanges(**{name: len(own) for name, own in courses.items()})


def test_a_line_of_heights() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([2.0, 2.0]) == "▄▄"
    assert sparkline([1.0, 0.0]) == "█▁"


def test_a_series_of_runs(tmp_path: Path) -> None:
    wrong = [range(60), range(40), range(30, 50), range(10), range(5)]
    runs = [{"a": chosen(flags(100, list(w))), "p": read([80.0 - 5 * i] * 30)} for i, w in enumerate(wrong)]
    found = series_trends(history(tmp_path, runs))
    assert found.steps == (100, 200, 300, 400, 500)
    assert (found.per, found.left_out) == ("doubling", {})
    by_name = {trend.metric: trend for trend in found.trends}
    assert list(by_name) == ["acc", "macro_f1", "word_ppl", "bits_per_byte"]
    acc = by_name["acc"]
    assert acc.values == (0.4, 0.6, 0.8, 0.9, 0.95)
    assert acc.best == 4
    x = np.log2([100, 200, 300, 400, 500])
    assert acc.slope.value == pytest.approx(float(np.median(slopes_of(x, np.array(acc.values)))), abs=1e-9)
    # learned: documents 10 to 39 and 50 to 59; 0 to 9 and 40 to 49 were right, then wrong, in between
    assert acc.changes == DocumentChanges(learned=40, forgotten=0, flipping=20, always=40, never=0)
    assert by_name["macro_f1"].changes is None
    ppl = by_name["word_ppl"]
    assert ppl.log_scale and ppl.best == 4 and not ppl.higher_is_better
    logs = np.log(ppl.values)
    assert ppl.slope.value == pytest.approx(float(np.median(slopes_of(x, logs))), abs=1e-9)
    json.dumps(found.to_json())


def test_steps_close_to_each_other_are_counted_in_thousands(tmp_path: Path) -> None:
    for step, share in ((10_000, 50), (11_000, 40), (13_000, 20)):
        history_run(tmp_path, step, {"a": chosen(flags(100, range(share)))})
    found = series_trends(tmp_path)
    assert found.per == "1,000 steps"
    assert found.trends[0].slope.value == pytest.approx(0.1)


def test_tasks_that_not_all_checkpoints_have_are_named(tmp_path: Path) -> None:
    both = {"a": chosen(flags(50)), "p": read([80.0] * 30)}
    history(tmp_path, [both, {"a": chosen(flags(50))}])
    found = series_trends(tmp_path)
    assert {trend.task for trend in found.trends} == {"a"}
    assert found.left_out == {"p": "not in the run of step 200"}


def test_runs_of_other_questions_are_refused(tmp_path: Path) -> None:
    history(tmp_path / "n", [{"a": chosen(flags(50))}, {"a": chosen(flags(60))}])
    with pytest.raises(NotComparableError, match="step 100") as error:
        series_trends(tmp_path / "n")
    assert "documents" in str(error.value)
    history(tmp_path / "t", [{"a": chosen(flags(50))}, {"b": chosen(flags(50))}])
    with pytest.raises(NotComparableError, match="share no task"):
        series_trends(tmp_path / "t")


def test_a_history_is_in_the_order_of_steps_and_takes_the_newest_run_of_each(tmp_path: Path) -> None:
    tasks = {"a": chosen(flags(50))}
    for step in (1000, 200, 90):
        history_run(tmp_path, step, tasks)
    history_run(tmp_path, None, tasks, "no-step")
    again = history_run(tmp_path, 200, tasks, "step-200-again")
    record = json.loads((again / "run.json").read_text())
    record["created"] = "2026-02-01T00:00:00+00:00"
    (again / "run.json").write_text(json.dumps(record))
    found = read_history(tmp_path)
    assert [run.record.model.step for run in found] == [90, 200, 1000]
    assert found[1].path == load_run(again).path


def test_tasks_evaluated_one_after_the_other_are_one_history(tmp_path: Path) -> None:
    for name, task in (("first", "a"), ("second", "b")):
        run = history_run(tmp_path, 200, {task: chosen(flags(50))}, name)
        record = json.loads((run / "run.json").read_text())
        record["model"]["weights_sha256"] = "the same"
        (run / "run.json").write_text(json.dumps(record))
    (found,) = read_history(tmp_path)
    assert set(found.tasks) == {"a", "b"}


def test_two_training_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    tasks = {"a": chosen(flags(50))}
    history_run(tmp_path, 200, tasks)
    other = history_run(tmp_path, 200, tasks, "other")
    record = json.loads((other / "run.json").read_text())
    record["model"]["id"] = "another/step-200"
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(NotComparableError, match="step 200 has runs of two models"):
        read_history(tmp_path)


def test_a_folder_without_steps_is_no_history(tmp_path: Path) -> None:
    history_run(tmp_path, None, {"a": chosen(flags(50))}, "plain")
    with pytest.raises(StoreError, match="none of the 1 finished runs"):
        read_history(tmp_path)
