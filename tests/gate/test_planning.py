from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmeval.errors import NotComparableError
from lmeval.gate.config import Defaults, GateConfig, Margin, Rule
from lmeval.gate.planning import ASSUMED_CORRELATION, PlanLine, plan, seconds_per_document
from lmeval.gate.suite import judge_suite
from lmeval.paired import TangoDifference
from lmeval.records import DatasetRecord, canonical_sha256
from lmeval.runs import StoredRun, load_run
from tests.gate.finished import Task, chosen, finished_run, flags, read

ACC = Rule("quiz", "acc", "noninferior", Margin(0.01))
Z = 1.6448536 + 0.8416212


def run(folder: Path, seconds: float = 60.0, **tasks: Task) -> StoredRun:
    return load_run(finished_run(folder, tasks, seconds=seconds))


def one_line(run: StoredRun, rule: Rule = ACC, against: StoredRun | None = None) -> PlanLine:
    (line,) = plan(run, GateConfig((rule,)), against=against)
    return line


def test_two_runs_measure_what_the_gate_will_use(tmp_path: Path) -> None:
    base = run(tmp_path / "base", quiz=chosen(flags(1000, range(300))))
    cand = run(tmp_path / "cand", quiz=chosen(flags(1000, range(30, 330))))
    line = one_line(cand, against=base)
    judged = judge_suite(cand, base, GateConfig((ACC,))).results[0]
    assert (line.result.mde, line.result.documents_needed) == (judged.mde, judged.documents_needed)
    assert line.result.mde == pytest.approx(Z * math.sqrt(0.06 / 1000), rel=0.04)
    assert line.assumption == "measured on the two runs"
    assert not line.carries


def test_one_run_says_which_flip_rate_is_assumed(tmp_path: Path) -> None:
    line = one_line(run(tmp_path / "base", quiz=chosen(flags(1000, range(500)))))
    assert (
        line.assumption == "assumed: the two models' scores correlate at 0.8, so 10 % of the documents flip"
    )
    assert line.result.mde == pytest.approx(Z * math.sqrt(0.1 / 1000), rel=0.03)
    assert line.result.documents_needed == pytest.approx(0.1 * (Z / 0.01) ** 2, rel=0.03)


def test_a_perplexity_is_planned_on_its_log_scale(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = run(tmp_path / "base", text=read(rng.gamma(50, 2, 300).tolist()))
    rule = Rule("text", "word_ppl", "noninferior", Margin(0.01, relative=True))
    line = one_line(base, rule)
    metric = base.tasks["text"].metrics["word_ppl"].record
    assert metric.stderr is not None
    on_log_scale = metric.stderr / metric.value * math.sqrt(2 * (1 - ASSUMED_CORRELATION["log_ratio"]))
    assert line.result.mde == pytest.approx(Z * on_log_scale, rel=1e-6)
    assert line.result.margin == pytest.approx(math.log(1.01))


def test_clusters_need_more_documents(tmp_path: Path) -> None:
    clusters = [f"passage {i // 10}" for i in range(1000)]
    right = [i // 10 % 3 != 0 for i in range(1000)]
    line = one_line(run(tmp_path / "a", quiz=chosen(right, clusters)))
    alone = one_line(run(tmp_path / "b", quiz=chosen(right)))
    assert line.result.mde is not None and alone.result.mde is not None
    # ten documents that always agree are worth one; and a hundred need a little more than the root of n says
    assert 1 < line.result.mde / alone.result.mde / math.sqrt(10) < 1.15


def test_documents_that_carry_a_margin_do(tmp_path: Path) -> None:
    base = run(tmp_path / "base", quiz=chosen(flags(1000, range(500))))
    assert one_line(base, replace(ACC, margin=Margin(0.03))).carries
    assert not one_line(base, replace(ACC, margin=Margin(0.02))).carries


def test_a_bound_is_planned_by_its_distance(tmp_path: Path) -> None:
    base = run(tmp_path / "base", quiz=chosen(flags(1000, range(500))))
    line = one_line(base, Rule("quiz", "acc", "min", bound=0.45, on="ci_bound"))
    assert line.result.documents_needed == pytest.approx(0.25 * (Z / 0.05) ** 2, rel=2e-2)
    assert line.assumption == "this run's own scores"


def test_what_is_in_no_run_cannot_be_planned(tmp_path: Path) -> None:
    base = run(tmp_path / "base", quiz=chosen(flags(50)))
    with pytest.raises(NotComparableError, match='The run has no task "quizz"'):
        one_line(base, replace(ACC, task="quizz"))
    other = run(tmp_path / "other", quiz=chosen(flags(49)))
    with pytest.raises(NotComparableError, match="documents_sha256"):
        one_line(base, against=other)


def test_minutes_are_shared_out_by_what_the_tasks_made_the_model_read(tmp_path: Path) -> None:
    long = replace(
        read([9.0] * 100), samples=[replace(s, target="x" * 990) for s in read([9.0] * 100).samples]
    )
    base = run(tmp_path / "base", 3600, quiz=chosen(flags(100)), text=long)
    seconds = seconds_per_document(base)
    assert 100 * (seconds["quiz"] + seconds["text"]) == pytest.approx(3600)
    assert 15 < seconds["text"] / seconds["quiz"] < 45
    line = one_line(base)
    assert line.minutes == pytest.approx(seconds["quiz"] * 100 / 60)
    assert line.result.documents_needed is not None
    assert line.minutes_needed == pytest.approx(seconds["quiz"] * line.result.documents_needed / 60)


def test_a_partial_run_knows_how_many_documents_there_are(tmp_path: Path) -> None:
    task = chosen(flags(100, range(50)))
    hashed = canonical_sha256([sample.doc_sha256 for sample in task.samples])
    dataset = DatasetRecord("made/up", None, "test", None, hashed, 5000)
    base = run(tmp_path / "base", quiz=replace(task, changes={"limit": 100, "dataset": dataset}))
    assert (one_line(base).num_available, one_line(base).result.partial) == (5000, True)


def test_power_is_what_the_plan_promises(tmp_path: Path) -> None:
    """Equal models pass at the margin that can be shown, and those that lose twice that fail, as often as planned."""
    n, defaults = 1000, Defaults()
    base = run(tmp_path / "base", quiz=chosen(flags(n, range(n // 2))))
    mde = one_line(base).result.mde
    assert mde is not None
    rng = np.random.default_rng(0)
    passed = failed = 0
    for _ in range(200):
        gains, losses, _ = rng.multinomial(n, [0.05, 0.05, 0.9])
        passed += TangoDifference(int(gains), int(losses), n).p_not_worse(mde) <= defaults.alpha
        gains, losses, _ = rng.multinomial(n, [0.05 - mde, 0.05 + mde, 0.9])
        failed += TangoDifference(int(gains), int(losses), n).p_worse(mde) <= defaults.alpha
    assert passed / 200 == pytest.approx(defaults.power, abs=0.08)
    assert failed / 200 == pytest.approx(defaults.power, abs=0.08)
