from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from lmeval.gate.config import Defaults, GateConfig, Level, Margin, OnInconclusive, Rule
from lmeval.gate.result import RuleResult, Verdict
from lmeval.gate.suite import (
    EXIT_CODES,
    GateReport,
    bind_rules,
    conclude,
    default_margin,
    judge_suite,
    suite_verdict,
)
from lmeval.runs import StoredRun, load_run
from tests.gate.finished import Task, chosen, finished_run, flags, read, written

ACC = Rule("quiz", "acc", "noninferior", Margin(0.01))
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


def run(folder: Path, **tasks: Task) -> StoredRun:
    return load_run(finished_run(folder, tasks))


def result(
    p_pass: float = 1.0,
    p_fail: float = 1.0,
    level: Level = "error",
    on: OnInconclusive = "fail",
    **changes: object,
) -> RuleResult:
    rule = replace(ACC, level=level, on_inconclusive=on)
    found = RuleResult(rule, "baseline", "INCONCLUSIVE", p_pass=p_pass, p_fail=p_fail)
    return replace(found, **changes)  # type: ignore[arg-type]


# ---- one verdict, one exit code ----


def test_the_exit_codes_of_the_contract() -> None:
    assert EXIT_CODES == {"PASS": 0, "FAIL": 10, "INCONCLUSIVE": 11, "NOT_COMPARABLE": 12}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_exit_code_is_the_verdict(verdict: Verdict) -> None:
    assert GateReport(verdict, (), GateConfig(), {}).exit_code == EXIT_CODES[verdict]


def test_the_gravest_binding_verdict_wins_whatever_else_there_is() -> None:
    order: tuple[Verdict, ...] = ("NOT_COMPARABLE", "FAIL", "INCONCLUSIVE", "PASS")
    for verdicts in itertools.product(VERDICTS, repeat=3):
        results = [result(verdict=verdict) for verdict in verdicts]
        assert suite_verdict(results) == min(verdicts, key=order.index)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_rule_that_warns_changes_nothing(verdict: Verdict) -> None:
    passed = result(verdict="PASS")
    assert suite_verdict([passed, result(verdict=verdict, level="warn")]) == "PASS"


@pytest.mark.parametrize(("on", "verdict"), [("fail", "INCONCLUSIVE"), ("warn", "PASS"), ("pass", "PASS")])
def test_what_an_inconclusive_rule_does_is_the_files_to_say(on: OnInconclusive, verdict: Verdict) -> None:
    assert suite_verdict([result(on=on), result(verdict="PASS")]) == verdict


@pytest.mark.parametrize("on", ["warn", "pass"])
def test_only_inconclusive_rules_are_let_through(on: OnInconclusive) -> None:
    for verdict in ("FAIL", "NOT_COMPARABLE"):
        assert suite_verdict([result(verdict=verdict, on=on)]) == verdict


# ---- corrections ----


def verdicts(results: Sequence[RuleResult]) -> list[Verdict]:
    return [found.verdict for found in conclude(results, GateConfig()).results]


def test_fail_is_corrected_and_pass_is_not() -> None:
    assert verdicts([result(p_fail=0.03)]) == ["FAIL"]
    assert verdicts([result(p_fail=0.03)] * 10) == ["INCONCLUSIVE"] * 10
    assert verdicts([result(p_pass=0.03)] * 10) == ["PASS"] * 10


def test_holm_steps_down() -> None:
    # 3 x 0.01, then 2 x 0.02, then 1 x 0.04
    report = conclude([result(p_fail=p) for p in (0.04, 0.01, 0.02)], GateConfig())
    assert [found.p_fail_adjusted for found in report.results] == pytest.approx([0.04, 0.03, 0.04])
    assert report.verdict == "FAIL"


def test_rules_that_warn_are_a_family_of_their_own() -> None:
    results = [result(p_fail=0.03), *[result(p_fail=0.04, level="warn")] * 2]
    assert verdicts(results) == ["FAIL", "INCONCLUSIVE", "INCONCLUSIVE"]


def test_a_caveat_that_forbids_a_claim_makes_it_inconclusive() -> None:
    blocked = [result(p_pass=0.001, blocked=True), result(p_fail=0.001, blocked=True)]
    assert verdicts(blocked) == ["INCONCLUSIVE", "INCONCLUSIVE"]


def test_rules_on_point_estimates_are_no_tests_to_correct_for() -> None:
    point = result(p_pass=None, p_fail=None, verdict="FAIL")  # type: ignore[arg-type]
    assert verdicts([result(p_fail=0.04), point, point]) == ["FAIL", "FAIL", "FAIL"]


def test_ten_rules_with_nothing_wrong_seldom_raise_an_alarm() -> None:
    rng = np.random.default_rng(0)
    alarms = sum(
        conclude([result(p_fail=p) for p in row], GateConfig()).verdict == "FAIL"
        for row in rng.random((400, 10)).tolist()
    )
    assert alarms / 400 <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5  # uncorrected: 0.40


def test_the_level_is_the_files() -> None:
    config = GateConfig(defaults=Defaults(alpha=0.01))
    assert conclude([result(p_fail=0.03)], config).verdict == "INCONCLUSIVE"


# ---- which rules there are ----


def test_globs_bind_every_task_of_either_run(tmp_path: Path) -> None:
    base = run(tmp_path / "base", blimp_a=chosen(flags(5)), blimp_b=chosen(flags(5)), quiz=chosen(flags(5)))
    cand = run(tmp_path / "cand", blimp_b=chosen(flags(5)), blimp_c=chosen(flags(5)))
    rule = replace(ACC, task="blimp_*", metric=None)
    bound = bind_rules(GateConfig((rule,)), cand, base)
    assert [found.task for found in bound] == ["blimp_a", "blimp_b", "blimp_c"]
    assert {found.metric for found in bound} == {"acc"}


def test_a_task_missing_from_either_run_is_never_skipped(tmp_path: Path) -> None:
    base = run(tmp_path / "base", blimp_a=chosen(flags(5)), blimp_b=chosen(flags(5)))
    cand = run(tmp_path / "cand", blimp_b=chosen(flags(5)), blimp_c=chosen(flags(5)))
    report = judge_suite(cand, base, GateConfig((replace(ACC, task="blimp_*"),)))
    assert report.verdict == "NOT_COMPARABLE"
    problems = {found.rule.task: found.problem for found in report.results}
    assert problems["blimp_a"] == 'the candidate has no task "blimp_a". It has blimp_b, blimp_c'
    assert (problems["blimp_c"] or "").startswith('the baseline has no task "blimp_c"')
    assert problems["blimp_b"] is None


@pytest.mark.parametrize(
    ("task", "metric", "problem"),
    [
        ("quizz", "acc", 'the candidate has no task "quizz". Did you mean "quiz"? It has quiz'),
        ("blimp_*", "acc", 'no task matches "blimp_*"; the candidate has quiz'),
        (
            "quiz",
            "accc",
            'the candidate has no metric "accc" of quiz. Did you mean "acc"? It has acc, macro_f1',
        ),
    ],
)
def test_a_rule_about_what_is_in_no_run(tmp_path: Path, task: str, metric: str, problem: str) -> None:
    one, two = (run(tmp_path / name, quiz=chosen(flags(5))) for name in "ab")
    rule = replace(ACC, task=task, metric=metric)
    report = judge_suite(two, one, GateConfig((rule,)))
    assert (report.verdict, report.results[0].problem) == ("NOT_COMPARABLE", problem)
    warned = judge_suite(two, one, GateConfig((replace(rule, level="warn"), ACC)))
    assert [found.verdict for found in warned.results] == ["NOT_COMPARABLE", "INCONCLUSIVE"]
    assert warned.verdict == "INCONCLUSIVE"


def test_a_task_that_the_model_could_not_do_says_why(tmp_path: Path) -> None:
    base = run(tmp_path / "base", quiz=chosen(flags(5)), summary=chosen(flags(5)))
    folder = finished_run(
        tmp_path / "cand", {"quiz": chosen(flags(5))}, skipped={"summary": "it writes no text"}
    )
    report = judge_suite(load_run(folder), base, GateConfig())
    assert report.verdict == "NOT_COMPARABLE"
    assert report.results[1].problem == "the candidate has left out the task summary: it writes no text"


def test_a_bound_needs_no_baseline(tmp_path: Path) -> None:
    cand = run(tmp_path / "cand", quiz=chosen(flags(500)))
    bound = Rule("quiz", "acc", "min", bound=0.9, on="ci_bound")
    assert judge_suite(cand, None, GateConfig((bound,))).verdict == "PASS"
    report = judge_suite(cand, None, GateConfig((bound, ACC)))
    assert report.verdict == "NOT_COMPARABLE"
    assert report.results[1].problem == "no baseline is given"


# ---- default rules ----


def test_default_rules_are_about_the_main_metric_of_each_task_of_the_baseline(tmp_path: Path) -> None:
    texts = [f"one two three four {i}" for i in range(20)]
    tasks = {
        "quiz": chosen(flags(20)),
        "text": read([100.0 + i for i in range(20)]),
        "mt": written(texts, texts),
    }
    base, cand = run(tmp_path / "base", **tasks), run(tmp_path / "cand", **tasks, new=chosen(flags(5)))
    report = judge_suite(cand, base, GateConfig())
    assert [(found.rule.task, found.rule.metric, str(found.rule.margin)) for found in report.results] == [
        ("quiz", "acc", "0.01"),
        ("text", "word_ppl", "1 %"),
        ("mt", "bleu", "1"),
    ]
    assert any("default rules" in note for note in report.notes)
    assert any("the baseline does not have them: new" in note for note in report.notes)
    bits = base.tasks["text"].metrics["bits_per_byte"]
    assert str(default_margin(bits)) == "0.5 %"


# ---- anchors, partial runs, notes ----


def test_slow_decay_passes_the_baseline_and_fails_the_anchor(tmp_path: Path) -> None:
    n = 3000
    first, before, now = (
        run(tmp_path / str(lost), quiz=chosen(flags(n, range(lost)))) for lost in (0, 95, 100)
    )
    assert judge_suite(now, before, GateConfig((ACC,))).verdict == "PASS"
    report = judge_suite(now, before, GateConfig((ACC,)), anchor=first)
    assert [(found.against, found.verdict) for found in report.results] == [
        ("baseline", "PASS"),
        ("anchor", "FAIL"),
    ]
    assert report.verdict == "FAIL"
    assert set(report.runs) == {"candidate", "baseline", "anchor"}


def test_partial_runs_of_the_same_limit_are_judged_and_labelled(tmp_path: Path) -> None:
    part = chosen(flags(400))
    dataset = {"path": "made/up", "name": None, "split": "test", "revision": None}

    def limited(folder: str, limit: int, available: int) -> StoredRun:
        from lmeval.records import DatasetRecord, canonical_sha256

        samples = part.samples[:limit]
        hashed = canonical_sha256([sample.doc_sha256 for sample in samples])
        record = DatasetRecord(**dataset, documents_sha256=hashed, num_available=available)  # type: ignore[arg-type]
        return run(
            tmp_path / folder,
            quiz=replace(part, samples=samples, changes={"limit": limit, "dataset": record}),
        )

    one, same, other, whole = (
        limited("a", 400, 900),
        limited("b", 400, 900),
        limited("c", 300, 900),
        limited("d", 400, 400),
    )
    report = judge_suite(same, one, GateConfig((ACC,)))
    assert (report.verdict, report.results[0].partial) == ("PASS", True)
    assert any("partial, 400 of 900" in note for note in report.notes)
    for different in (other, whole):
        report = judge_suite(different, one, GateConfig((ACC,)))
        assert report.verdict == "NOT_COMPARABLE"
        assert "documents: 400 of 900" in (report.results[0].problem or "")


def test_a_run_against_itself_says_so(tmp_path: Path) -> None:
    one = run(tmp_path / "one", quiz=chosen(flags(500)))
    report = judge_suite(one, one, GateConfig((ACC,)))
    assert report.verdict == "PASS"
    assert any("the same run" in note for note in report.notes)


def test_a_file_of_warnings_says_that_it_cannot_fail(tmp_path: Path) -> None:
    one, two = run(tmp_path / "a", quiz=chosen(flags(50))), run(tmp_path / "b", quiz=chosen([False] * 50))
    report = judge_suite(two, one, GateConfig((replace(ACC, level="warn"),)))
    assert [found.verdict for found in report.results] == ["FAIL"]
    assert report.verdict == "PASS"
    assert "every rule is at level warn: this gate cannot fail" in report.notes
