from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from lmeval.errors import NotComparableError, UsageError
from lmeval.gate.config import Defaults, Margin, Rule
from lmeval.gate.result import RuleResult
from lmeval.gate.rules import cut_end, cut_start, judge, make_difference, margin_of_difference
from lmeval.metrics.base import mean_of
from lmeval.paired import (
    StepNoise,
    TangoDifference,
    detectable_flip_margin,
    flip_documents_needed,
)
from lmeval.runs import StoredRun, TaskScores, load_run
from tests.gate.finished import Task, chosen, finished_run, flags, read, written

DEFAULTS = Defaults()
ACC = Rule("quiz", "acc", "noninferior", Margin(0.01))


def run(folder: Path, **tasks: Task) -> StoredRun:
    return load_run(finished_run(folder, tasks))


def judged(
    folder: Path, rule: Rule, before: Task, after: Task, noise: StepNoise | None = None, **defaults: float
) -> RuleResult:
    baseline, candidate = run(folder / "base", quiz=before), run(folder / "cand", quiz=after)
    levels = DEFAULTS.model_copy(update=defaults)
    return judge(rule, candidate.tasks["quiz"], baseline.tasks["quiz"], levels, noise=noise)


def answers(n: int, lost: int = 0, gained: int = 0) -> tuple[Task, Task]:
    """Two runs of n documents, of which so many flip; a fifth is wrong in both."""
    wrong = range(n - n // 5, n)
    before = flags(n, [*wrong, *range(lost, lost + gained)])
    after = flags(n, [*wrong, *range(lost)])
    return chosen(before), chosen(after)


@pytest.mark.parametrize(
    ("n", "lost", "gained", "verdict"),
    [
        (2000, 10, 10, "PASS"),
        (2000, 0, 0, "PASS"),
        (200, 0, 0, "INCONCLUSIVE"),  # no flips at all: 1 point is shown only at n >= 268
        (500, 10, 9, "INCONCLUSIVE"),
        (500, 30, 0, "FAIL"),
        (2000, 60, 10, "FAIL"),
    ],
)
def test_accuracy_has_three_verdicts(tmp_path: Path, n: int, lost: int, gained: int, verdict: str) -> None:
    result = judged(tmp_path, ACC, *answers(n, lost, gained))
    assert result.verdict == verdict
    assert (result.gains, result.losses, result.n) == (gained, lost, n)
    assert result.delta == pytest.approx((gained - lost) / n, abs=1e-12)
    assert result.candidate is not None and result.baseline is not None
    assert result.delta == pytest.approx(result.candidate - result.baseline, abs=1e-12)


def test_the_figures_are_those_of_the_paired_test(tmp_path: Path) -> None:
    result = judged(tmp_path, ACC, *answers(800, 20, 12), alpha=0.1)
    expected = TangoDifference(12, 20, 800)
    assert result.p_pass == pytest.approx(expected.p_not_worse(0.01), rel=1e-6)
    assert result.p_fail == pytest.approx(expected.p_worse(0.01), rel=1e-6)
    assert result.interval == pytest.approx(expected.interval(0.8), abs=1e-6)
    assert "Tango" in result.method
    # the exact one-sided probability of at most 12 gains among 32 flips
    assert result.p_mcnemar == pytest.approx(sum(math.comb(32, k) for k in range(13)) / 2**32, rel=1e-9)


def test_no_significant_drop_is_no_pass(tmp_path: Path) -> None:
    result = judged(tmp_path, ACC, *answers(200, 6, 2))  # 2 points worse, McNemar's p above 0.05
    assert result.p_mcnemar is not None and result.p_mcnemar > 0.05
    assert result.verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("lost", "gained", "margin", "verdict"),
    [(5, 60, 0.0, "PASS"), (60, 5, 0.0, "FAIL"), (20, 21, 0.0, "INCONCLUSIVE"), (5, 60, 0.1, "FAIL")],
)
def test_superiority(tmp_path: Path, lost: int, gained: int, margin: float, verdict: str) -> None:
    rule = Rule("quiz", "acc", "superior", Margin(margin))
    assert judged(tmp_path, rule, *answers(1000, lost, gained)).verdict == verdict


def noisy_texts(n: int, drop: float) -> tuple[Task, Task]:
    rng = np.random.default_rng(5)
    nats = rng.gamma(20, 5, n)
    return read(nats.tolist()), read((nats * (1 + drop) + rng.normal(0, 0.2, n)).tolist())


@pytest.mark.parametrize(
    ("metric", "drop", "verdict"),
    [
        ("bits_per_byte", 0.0, "PASS"),
        ("bits_per_byte", 0.03, "FAIL"),
        ("word_ppl", 0.0, "PASS"),
        ("word_ppl", 0.01, "FAIL"),  # 1 % more nats a word: the perplexity is e^0.1 times as high
    ],
)
def test_perplexities_take_a_share_as_margin(tmp_path: Path, metric: str, drop: float, verdict: str) -> None:
    rule = Rule("quiz", metric, "noninferior", Margin(0.01, relative=True))
    result = judged(tmp_path, rule, *noisy_texts(400, drop))
    assert result.verdict == verdict
    assert result.baseline is not None
    expected = math.log(1.01) if metric == "word_ppl" else 0.01 * result.baseline
    assert result.margin == pytest.approx(expected, rel=1e-12)
    assert result.log_scale == (metric == "word_ppl")


def test_a_share_of_bits_per_byte_is_tested_as_two_ratios_of_one_sample(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    before = rng.gamma(20, 5, 300)
    after = before * 1.003 + rng.normal(0, 0.05, 300)
    rule = Rule("quiz", "bits_per_byte", "noninferior", Margin(0.005, relative=True))
    result = judged(tmp_path, rule, read(before.tolist()), read(after.tolist()))
    # all texts have 100 bytes: the ratio is a mean, and the test a t-test of 1.005 b - c
    expected = scipy_stats.ttest_1samp((1.005 * before - after) / 100 / math.log(2), 0, alternative="greater")
    assert result.p_pass == pytest.approx(expected.pvalue, rel=1e-6)
    assert result.delta is not None and result.interval is not None and result.margin is not None
    assert result.delta == pytest.approx((before - after).mean() / 100 / math.log(2), rel=1e-9)
    assert (result.interval[0] > -result.margin) == (result.p_pass < 0.05)


def test_a_relative_margin_keeps_its_error_where_models_are_almost_alike() -> None:
    """Simulated at the margin: half a per cent worse on every document, and little else."""
    rng = np.random.default_rng(1)
    rule = Rule("t", "bits_per_byte", "noninferior", Margin(0.005, relative=True))
    passed = naive = 0
    for _ in range(1000):
        before = rng.normal(1, 0.3, 400)
        after = before + 0.005 + rng.normal(0, 0.002, 400)
        baseline, candidate = (in_memory(values) for values in (before, after))
        margin = margin_of_difference(rule, baseline.metrics["bits_per_byte"])
        passed += make_difference(rule, candidate, baseline).p_not_worse(margin) <= 0.05
        naive += scipy_stats.ttest_1samp(before - after, -margin, alternative="greater").pvalue <= 0.05
    assert passed / 1000 <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
    assert naive / 1000 > 0.1  # the margin taken as a fixed number


def in_memory(values: np.ndarray) -> TaskScores:
    """A task whose texts all have the same bytes, without a folder."""
    metric = SimpleNamespace(
        name="bits_per_byte",
        interval="ratio",
        ideal=None,
        higher_is_better=False,
        value=float(values.mean()),
        statistics=np.column_stack([values, np.ones(len(values))]),
        aggregate=mean_of,
        distance=None,
    )
    return SimpleNamespace(metrics={"bits_per_byte": metric}, clusters=(None,) * len(values))  # type: ignore[return-value]


def test_superior_by_a_share_of_bits_per_byte(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    before = rng.gamma(20, 5, 300)
    rule = Rule("quiz", "bits_per_byte", "superior", Margin(0.02, relative=True))
    for gain, verdict in ((0.03, "PASS"), (0.01, "FAIL")):
        after = before * (1 - gain) + rng.normal(0, 0.05, 300)
        folder = tmp_path / verdict
        assert judged(folder, rule, read(before.tolist()), read(after.tolist())).verdict == verdict


def test_lower_is_better_is_turned_round(tmp_path: Path) -> None:
    rule = Rule("quiz", "bits_per_byte", "noninferior", Margin(0.1))
    result = judged(tmp_path, rule, *noisy_texts(100, 0.05))
    assert result.candidate is not None and result.baseline is not None
    assert result.candidate > result.baseline
    assert result.delta == pytest.approx(result.baseline - result.candidate, rel=1e-9)


def test_corpus_metrics_are_bootstrapped(tmp_path: Path) -> None:
    references = [f"one two three four {i % 9}" for i in range(200)]
    worse = [text if i % 3 else "nothing of it is right" for i, text in enumerate(references)]
    rule = Rule("quiz", "bleu", "noninferior", Margin(1.0))
    result = judged(tmp_path, rule, written(references, references), written(worse, references))
    assert result.verdict == "FAIL"
    assert "bootstrap" in result.method
    same = judged(tmp_path / "again", rule, written(references, references), written(worse, references))
    assert (same.interval, same.p_fail) == (result.interval, result.p_fail)  # seeded


# ---- clusters, noise ----


def flips_by_passage(num_passages: int, size: int, lost: Sequence[int]) -> tuple[Task, Task]:
    """Whole passages are lost at once."""
    clusters = [f"passage {i // size}" for i in range(num_passages * size)]
    gone = [i for i in range(num_passages * size) if i // size in lost]
    return chosen(flags(len(clusters)), clusters), chosen(flags(len(clusters), gone), clusters)


def test_documents_of_one_passage_are_not_independent(tmp_path: Path) -> None:
    before, after = flips_by_passage(40, 10, [3, 11, 20])
    rule = replace(ACC, margin=Margin(0.04))
    auto = judged(tmp_path / "auto", rule, before, after)
    none = judged(tmp_path / "none", replace(rule, cluster="none"), before, after)
    assert (auto.num_clusters, none.num_clusters) == (40, None)
    assert auto.p_fail is not None and none.p_fail is not None
    assert none.p_fail < 0.05 < auto.p_fail  # thirty independent losses, or three
    assert auto.mde is not None and none.mde is not None and auto.mde > 1.5 * none.mde


def test_step_noise_widens_the_interval(tmp_path: Path) -> None:
    before, after = answers(3000, 60, 5)
    sharp = judged(tmp_path / "sharp", ACC, before, after)
    noisy = judged(tmp_path / "noisy", ACC, before, after, StepNoise(0.01**2, 4, 5))
    assert sharp.verdict == "FAIL" and noisy.verdict == "INCONCLUSIVE"
    assert sharp.interval is not None and noisy.interval is not None
    assert noisy.interval[0] < sharp.interval[0] and sharp.interval[1] < noisy.interval[1]


# ---- point estimates and bounds ----


@pytest.mark.parametrize(
    ("kind", "margin", "verdict"),
    [
        ("max_drop", Margin(0.02), "PASS"),
        ("max_drop", Margin(0.009), "FAIL"),
        ("max_relative_drop", Margin(0.02, relative=True), "PASS"),
        ("max_relative_drop", Margin(0.011, relative=True), "FAIL"),  # 1 point of 80
    ],
)
def test_drops_ask_only_where_the_estimate_lies(
    tmp_path: Path, kind: str, margin: Margin, verdict: str
) -> None:
    rule = Rule("quiz", "acc", kind, margin)  # type: ignore[arg-type]
    result = judged(tmp_path, rule, *answers(100, 1, 0))
    assert result.verdict == verdict
    assert result.method.startswith("point estimate")
    assert (result.p_pass, result.p_fail) == (None, None)


def bounded(folder: Path, rule: Rule, task: Task) -> RuleResult:
    candidate = run(folder, quiz=task)
    return judge(rule, candidate.tasks["quiz"], None, DEFAULTS)


@pytest.mark.parametrize(
    ("n", "kind", "bound", "on", "verdict"),
    [
        (100, "min", 0.75, "value", "PASS"),
        (100, "min", 0.81, "value", "FAIL"),
        (100, "max", 0.81, "value", "PASS"),
        (100, "min", 0.75, "ci_bound", "INCONCLUSIVE"),
        (1000, "min", 0.75, "ci_bound", "PASS"),
        (1000, "min", 0.85, "ci_bound", "FAIL"),
        (1000, "max", 0.85, "ci_bound", "PASS"),
        (1000, "max", 0.75, "ci_bound", "FAIL"),
    ],
)
def test_bounds(tmp_path: Path, n: int, kind: str, bound: float, on: str, verdict: str) -> None:
    rule = Rule("quiz", "acc", kind, bound=bound, on=on)  # type: ignore[arg-type]
    result = bounded(tmp_path / "cand", rule, chosen(flags(n, range(n // 5))))
    assert result.verdict == verdict
    assert result.candidate == 0.8
    assert (result.p_pass is None) == (on == "value")


def test_a_bound_is_on_the_metrics_own_scale_whichever_way_is_up(tmp_path: Path) -> None:
    task = read(np.random.default_rng(1).gamma(20, 5, 300).tolist())
    value = run(tmp_path / "look", quiz=task).tasks["quiz"].metrics["word_ppl"].value
    rule = Rule("quiz", "word_ppl", "max", bound=value * 2, on="ci_bound")
    assert bounded(tmp_path / "below", rule, task).verdict == "PASS"
    above = replace(rule, bound=value / 2)
    assert bounded(tmp_path / "above", above, task).verdict == "FAIL"


def test_one_document_has_no_interval_and_no_claim(tmp_path: Path) -> None:
    rule = Rule("quiz", "bits_per_byte", "max", bound=5.0, on="ci_bound")
    result = bounded(tmp_path / "cand", rule, read([100.0]))
    assert (result.verdict, result.blocked) == ("INCONCLUSIVE", True)
    assert "has no interval: there is no spread" in result.caveats[0]


# ---- margins ----


def metric_of(folder: Path, task: Task, name: str) -> object:
    return run(folder, quiz=task).tasks["quiz"].metrics[name]


def test_an_absolute_margin_of_a_perplexity_is_a_share_of_the_baselines(tmp_path: Path) -> None:
    metric = metric_of(tmp_path / "r", read([100.0, 120.0]), "word_ppl")
    rule = Rule("quiz", "word_ppl", "noninferior", Margin(5.0))
    expected = math.log((metric.value + 5) / metric.value)  # type: ignore[attr-defined]
    assert margin_of_difference(rule, metric) == pytest.approx(expected, rel=1e-12)  # type: ignore[arg-type]


def test_superior_by_a_share_is_so_much_lower(tmp_path: Path) -> None:
    metric = metric_of(tmp_path / "r", read([100.0, 120.0]), "word_ppl")
    rule = Rule("quiz", "word_ppl", "superior", Margin(0.05, relative=True))
    assert margin_of_difference(rule, metric) == pytest.approx(-math.log(0.95), rel=1e-12)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="lower by 200 % and above 0"):
        margin_of_difference(replace(rule, margin=Margin(2.0, relative=True)), metric)  # type: ignore[arg-type]


@pytest.mark.parametrize("margin", [1.0, 2.0])
def test_a_margin_as_wide_as_the_range_is_refused(tmp_path: Path, margin: float) -> None:
    rule = replace(ACC, margin=Margin(margin), line=7)
    with pytest.raises(UsageError, match="decides nothing: acc lies between 0 and 1") as error:
        judged(tmp_path, rule, *answers(10))
    assert "line 7" in str(error.value) and f"write {margin / 100:g}" in str(error.value)


@pytest.mark.parametrize("bound", [30.0, -0.1])
def test_a_bound_outside_the_range_is_refused(tmp_path: Path, bound: float) -> None:
    rule = Rule("quiz", "acc", "min", bound=bound)
    with pytest.raises(UsageError, match="decides nothing"):
        bounded(tmp_path / "cand", rule, chosen(flags(10)))


def test_a_share_of_nothing_is_not_comparable(tmp_path: Path) -> None:
    metric = metric_of(tmp_path / "r", chosen([False] * 5), "acc")
    rule = Rule("quiz", "acc", "noninferior", Margin(0.01, relative=True))
    with pytest.raises(NotComparableError, match="that is 0"):
        margin_of_difference(rule, metric)  # type: ignore[arg-type]


# ---- what cannot be compared ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version: 1 (baseline), 2 (candidate)"),
        ({"task_sha256": "f" * 64}, "task_sha256"),
        ({"num_fewshot": 5}, "num_fewshot: 0 (baseline), 5 (candidate)"),
    ],
)
def test_other_questions_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    before, after = answers(50)
    result = judged(tmp_path, ACC, before, replace(after, changes=changes))
    assert result.verdict == "NOT_COMPARABLE"
    assert message in (result.problem or "")


def test_other_documents_are_named(tmp_path: Path) -> None:
    result = judged(tmp_path, ACC, chosen(flags(50)), chosen(flags(49)))
    assert result.verdict == "NOT_COMPARABLE"
    assert "documents_sha256" in (result.problem or "") and "doc_id 49" in (result.problem or "")


# ---- what the documents can show ----


def test_mde_and_documents_needed_belong_together(tmp_path: Path) -> None:
    result = judged(tmp_path, ACC, *answers(1000, 50, 50))
    assert result.mde == detectable_flip_margin(0.1, 1000)
    # (1.645 + 0.842) sqrt(0.1 / 1000), and a little more: under its hypothesis Tango's variance is wider
    assert result.mde == pytest.approx(2.4865 * math.sqrt(0.1 / 1000), rel=0.03)
    assert result.documents_needed == flip_documents_needed(0.1, 0.01)
    shown = judged(tmp_path / "again", replace(ACC, margin=Margin(result.mde)), *answers(1000, 50, 50))
    assert shown.documents_needed == pytest.approx(1000, abs=1)


def test_other_methods_are_planned_by_their_standard_error(tmp_path: Path) -> None:
    rule = Rule("quiz", "bits_per_byte", "noninferior", Margin(0.01))
    result = judged(tmp_path, rule, *noisy_texts(400, 0.0))
    assert result.interval is not None and result.mde is not None
    half = (result.interval[1] - result.interval[0]) / 2
    stderr = half / scipy_stats.t.ppf(0.95, 399)
    assert result.mde == pytest.approx((1.6448536 + 0.8416212) * stderr, rel=0.05)
    assert result.documents_needed == math.ceil(400 * (result.mde / 0.01) ** 2)


def test_step_noise_and_clusters_count_as_fewer_documents(tmp_path: Path) -> None:
    before, after = answers(3000, 60, 5)
    plain = judged(tmp_path / "plain", ACC, before, after)
    noisy = judged(tmp_path / "noisy", ACC, before, after, StepNoise(0.01**2, 4, 5))
    assert plain.mde is not None and noisy.mde is not None and noisy.mde > 2 * plain.mde


def test_no_flips_do_not_show_everything(tmp_path: Path) -> None:
    result = judged(tmp_path, ACC, *answers(200))
    assert result.documents_needed == 268
    assert result.mde == pytest.approx(2.7055 / 202.7055, rel=1e-3)


# ---- flips ----


def test_the_worst_flips_come_with_their_prompts(tmp_path: Path) -> None:
    result = judged(tmp_path, ACC, *answers(500, 9, 2))
    assert len(result.flips) == 3
    assert all(flip.change == -1 and flip.prompt for flip in result.flips)
    assert {(flip.baseline, flip.candidate, flip.expected) for flip in result.flips} == {
        (" yes", " no", " yes")
    }


def test_long_texts_are_cut_where_the_least_is_lost() -> None:
    assert cut_start("shots question", 9) == "…question"
    assert cut_end("answer and more", 7) == "answer…"
    assert cut_start("short", 5) == cut_end("short", 5) == "short"
