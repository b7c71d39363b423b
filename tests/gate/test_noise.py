from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from lmeval.errors import NotComparableError, UsageError
from lmeval.gate.config import GateConfig, Margin, Rule
from lmeval.gate.noise import history_noise, judge_with_history, noise_variance, step_noise
from lmeval.runs import StoredRun, load_run
from lmeval.trends import read_history
from simulations import step_noise as simulation
from tests.checkpoints import history, history_run
from tests.gate.finished import Task, chosen, flags, read

RNG = np.random.default_rng(11)
ASKED = [("a", "acc")]
N = 1000


def with_wrong(*counts: int) -> list[dict[str, Task]]:
    """Runs that get so many documents wrong, nested in each other."""
    return [{"a": chosen(flags(N, range(count)))} for count in counts]


def runs(folder: Path, tasks: Sequence[Mapping[str, Task]]) -> list[StoredRun]:
    return read_history(history(folder, tasks))


def test_the_variance_is_that_of_a_regression_less_the_documents() -> None:
    for k in (2, 3, 7):
        deltas, stderrs = RNG.normal(0, 0.02, k), RNG.uniform(0.001, 0.003, k)
        gaps = RNG.integers(1, 5, k) * 100.0
        _, left, _, _ = np.linalg.lstsq(gaps[:, None], deltas, rcond=None)
        total = float(left[0]) / (k - 1)
        variance, df = noise_variance(deltas, stderrs, gaps)
        documents = float(np.mean(stderrs**2))
        assert variance == pytest.approx(total - documents, abs=1e-9)
        assert df == pytest.approx((k - 1) * ((total - documents) / total) ** 2, abs=1e-9)


def test_of_equal_steps_it_is_the_sample_variance() -> None:
    deltas = RNG.normal(0, 0.02, 6)
    variance, df = noise_variance(deltas, np.zeros(6), np.full(6, 100.0))
    assert variance == pytest.approx(float(deltas.var(ddof=1)), abs=1e-9)
    assert df == pytest.approx(5)


def test_a_trend_is_no_noise_and_documents_may_explain_all() -> None:
    gaps = np.array([1.0, 3.0, 2.0, 1.0])
    assert noise_variance(0.01 * gaps, np.zeros(4), gaps)[0] == pytest.approx(0, abs=1e-12)
    assert noise_variance(np.array([0.01, -0.01, 0.01, 0.0]), np.full(4, 0.02), gaps) == (0.0, 3.0)


def test_step_noise_of_finished_runs(tmp_path: Path) -> None:
    counts = [500, 480, 490, 430, 450, 440]
    found = step_noise(runs(tmp_path, with_wrong(*counts)), "a", "acc", 5)
    deltas = -np.diff(counts[1:]) / N
    flips = np.abs(deltas)  # the wrong documents lie in each other: a change flips so many and no more
    variances = (flips - deltas**2) / (N - 1)
    total = float(deltas.var(ddof=1))
    expected = total - float(variances.mean())
    assert found.variance == pytest.approx(expected, abs=1e-9)
    assert found.df == pytest.approx(3 * (expected / total) ** 2, abs=1e-9)
    assert (found.num_checkpoints, found.added) == (5, pytest.approx(1.2 * expected))


def test_perplexities_are_on_the_log_scale(tmp_path: Path) -> None:
    nats = [80.0, 79.0, 79.5, 78.0]
    history_runs = runs(tmp_path, [{"p": read([value] * 30)} for value in nats])
    found = step_noise(history_runs, "p", "word_ppl", 4)
    logs = -np.diff(np.array(nats) / 10)  # ten words a document
    assert found.variance == pytest.approx(float(logs.var(ddof=1)), abs=1e-9)


def test_the_candidate_and_what_came_after_it_are_left_out(tmp_path: Path) -> None:
    all_runs = runs(tmp_path, with_wrong(500, 480, 490, 470, 480, 100, 900))
    candidate = all_runs[5]
    found = history_noise(all_runs, candidate, ASKED)
    assert found.steps == (100, 200, 300, 400, 500)
    assert found.noise["a", "acc"] == step_noise(all_runs[:5], "a", "acc")
    without_step = load_run(history_run(tmp_path / "more", None, with_wrong(100)[0], "candidate"))
    assert history_noise(all_runs, without_step, ASKED).steps == (300, 400, 500, 600, 700)
    (note,) = found.notes
    assert "steps 100, 200, 300, 400, 500" in note
    assert f"a acc {found.noise['a', 'acc'].variance ** 0.5:.4f}" in note


def test_too_few_checkpoints_are_refused(tmp_path: Path) -> None:
    all_runs = runs(tmp_path, with_wrong(500, 480, 490, 470))
    with pytest.raises(
        UsageError, match="the history has 3 checkpoints before step 400; step noise takes at least 4"
    ):
        history_noise(all_runs, all_runs[-1], ASKED)
    with pytest.raises(UsageError, match="--steps 3 is too few"):
        history_noise(all_runs, all_runs[-1], ASKED, 3)


def test_a_history_of_other_questions_is_refused(tmp_path: Path) -> None:
    candidate = load_run(history_run(tmp_path, 900, with_wrong(100)[0], "candidate"))
    other = [{"b": chosen(flags(N))}] * 4
    with pytest.raises(NotComparableError, match="step 100 has no task a"):
        history_noise(runs(tmp_path / "other", other), candidate, ASKED)
    fewer = [{"a": chosen(flags(N - 1))}] * 4
    with pytest.raises(NotComparableError, match="documents"):
        history_noise(runs(tmp_path / "fewer", fewer), candidate, ASKED)


def test_noise_keeps_an_ordinary_step_from_being_a_regression(tmp_path: Path) -> None:
    """The score jumps by three points from step to step, and the last one down is no more than that."""
    all_runs = runs(tmp_path, with_wrong(500, 470, 500, 465, 495, 470, 500))
    candidate = all_runs[-1]
    config = GateConfig((Rule("a", "acc", "noninferior", Margin(0.01)),))
    report = judge_with_history(candidate, all_runs, config)
    baseline = next(result for result in report.results if result.against == "baseline")
    assert baseline.delta == pytest.approx(-0.03)
    assert (report.verdict, baseline.verdict) == ("INCONCLUSIVE", "INCONCLUSIVE")
    from lmeval.gate.suite import judge_suite

    assert judge_suite(candidate, all_runs[-2], config).verdict == "FAIL"


def test_losing_a_little_at_every_step_fails_the_anchor(tmp_path: Path) -> None:
    """A point of margin, and eight tenths lost at each of eight steps: never a FAIL against the last checkpoint."""
    all_runs = runs(tmp_path, with_wrong(*(8 * step for step in range(9))))
    config = GateConfig((Rule("a", "acc", "noninferior", Margin(0.01)),))
    report = judge_with_history(all_runs[-1], all_runs, config)
    verdicts = {result.against: result.verdict for result in report.results}
    assert verdicts["anchor"] == report.verdict == "FAIL"
    assert verdicts["baseline"] != "FAIL"
    assert any("first checkpoint, step 100" in note for note in report.notes)
    named = judge_with_history(all_runs[-1], all_runs, config, anchor=all_runs[-2])
    assert named.verdict != "FAIL"
    assert not any("first checkpoint" in note for note in named.notes)


def test_the_simulation_alarms_as_often_as_its_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "REPLICATIONS", 300)
    without, corrected, passed, passed_corrected = simulation.rates(
        simulation.World(0.5, "independent"), 5, 1
    )
    assert 0.14 <= without <= 0.29
    assert corrected <= 0.08
    assert passed >= 0.14 and passed_corrected <= 0.08
