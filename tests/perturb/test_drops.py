"""Drops: paired, oriented, with intervals that cover what they claim; and nothing changed where nothing is asked."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmeval.engine.table import TableEngine
from lmeval.evaluate import evaluate, run_fingerprint
from lmeval.metrics import MetricOptions, compute
from lmeval.perturb.drops import drop, evaluate_perturbed
from lmeval.prepare import PreparedTask, Settings, prepare
from lmeval.records import DropRecord, MetricValue, Sample, ScoreRequest
from tests.canned import TASKS, make_task
from tests.table_runs import random_engine

CHOICES = MetricOptions(task_type="classification")
WORDS = ["harbour", "morning", "tower", "nobody", "quietly", "beside", "river", "winter", "number", "written"]
ROWS = [
    {"review": f"The {WORDS[n % 10]} stood near the {WORDS[n * 3 % 10]}, film {n}.", "label": n % 2}
    for n in range(60)
]


def prepared(folder: Path, *perturb: str, kind: str = "classification", **keys: Any) -> PreparedTask:
    rows = ROWS if kind == "classification" else None
    spec = make_task(folder, kind, rows, **keys)
    return prepare(spec, Settings(perturb=perturb))


def sample(number: int, right: bool, cluster: str | None = None, nats: float | None = None) -> Sample:
    """A document of two choices that is right or wrong, or a target of so many nats."""
    common: dict[str, Any] = {"doc_id": number, "doc_sha256": f"{number:064x}", "cluster": cluster}
    if nats is not None:
        return Sample(**common, loglikelihood=-nats, is_greedy=right, num_tokens=1, num_bytes=4)
    return Sample(**common, choices=(" a", " b"), label=0, loglikelihood=(-1.0 if right else -3.0, -2.0))


def value_of(metric: str, samples: list[Sample], options: MetricOptions = CHOICES) -> MetricValue:
    return compute(metric, samples, options, 0)[0]


def drop_of(
    metric: str, plain: list[Sample], changed: list[Sample], options: MetricOptions = CHOICES
) -> DropRecord:
    values = (value_of(metric, samples, options) for samples in (plain, changed))
    return drop(metric, *values, plain, changed, options, 0)


# ---- what a drop is ----


def test_a_drop_is_the_perturbed_value_less_the_plain_one() -> None:
    plain = [sample(n, n < 80) for n in range(100)]
    changed = [sample(n, n < 60) for n in range(100)]
    found = drop_of("acc", plain, changed)
    assert found.value == pytest.approx(-0.20)
    assert found.ci_low is not None and found.ci_high is not None
    assert found.ci_low < -0.20 < found.ci_high < 0
    assert found.p_worse is not None and found.p_worse < 1e-4
    back = drop_of("acc", changed, plain)
    assert (back.value, back.ci_low, back.ci_high) == pytest.approx((0.20, -found.ci_high, -found.ci_low))
    assert back.p_worse is not None and back.p_worse > 0.999


def test_what_is_the_better_the_lower_is_turned() -> None:
    plain, changed = [sample(n, True) for n in range(50)], [sample(n, n % 2 == 0) for n in range(50)]
    brier = drop_of("brier", plain, changed)
    assert brier.value == pytest.approx(value_of("brier", plain).value - value_of("brier", changed).value)
    assert brier.value < 0 and not brier.relative


def test_a_perplexitys_drop_is_a_share_of_it() -> None:
    options = MetricOptions(task_type="cloze")
    draws = np.random.default_rng(0).uniform(1, 3, 40)
    plain = [sample(n, True, nats=float(x)) for n, x in enumerate(draws)]
    changed = [sample(n, True, nats=float(x) + 0.1 + n % 2 / 10) for n, x in enumerate(draws)]
    found = drop_of("ppl", plain, changed, options)
    before, after = (value_of("ppl", samples, options).value for samples in (plain, changed))
    assert found.relative
    assert found.value == pytest.approx(-(after / before - 1)) and found.value < 0
    assert found.ci_low is not None and found.ci_high is not None and found.stderr is not None
    assert found.ci_low < found.value < found.ci_high < 0
    # the delta method: of exp(x), exp(x) times the standard error of x
    differences = np.log([math.exp(0.1 + n % 2 / 10) for n in range(40)])
    stderr = float(differences.std(ddof=1)) / math.sqrt(40) * after / before
    assert found.stderr == pytest.approx(stderr, rel=1e-6)


def test_clusters_widen_the_interval() -> None:
    right = [n // 10 % 2 == 0 for n in range(100)]

    def width(clustered: bool) -> float:
        plain = [sample(n, True, cluster=str(n // 10) if clustered else None) for n in range(100)]
        changed = [sample(n, r, cluster=plain[n].cluster) for n, r in enumerate(right)]
        found = drop_of("acc", plain, changed)
        assert found.ci_low is not None and found.ci_high is not None
        return found.ci_high - found.ci_low

    assert width(clustered=True) > 2 * width(clustered=False)


def test_one_document_has_no_interval() -> None:
    found = drop_of("brier", [sample(0, True)], [sample(0, False)])
    assert (found.stderr, found.ci_low, found.ci_high) == (None, None, None)


def test_metrics_without_statistics_have_a_drop_and_no_interval() -> None:
    before = dataclasses.replace(value_of("acc", [sample(0, True)]), value=0.7)
    after = dataclasses.replace(before, value=0.6)
    found = drop("evaluate:thing", before, after, [], [], CHOICES, 0)
    assert found.value == pytest.approx(-0.1) and found.ci_low is None and "evaluate" in found.ci_method


def test_of_a_metric_with_an_ideal_nearer_is_better() -> None:
    """A share of 0.9 falls to 0.6: by 0.3 nearer to 0.5; one that falls to 0.2 is as near as 0.8."""
    options = MetricOptions(task_type="minimal_pairs")
    plain = [sample(n, n < 90) for n in range(100)]
    for share, nearer in ((60, 0.3), (20, 0.1)):
        found = drop_of("pct_stereotype", plain, [sample(n, n < share) for n in range(100)], options)
        assert found.value == pytest.approx(nearer)
        assert found.ci_low is not None and found.ci_high is not None
        assert found.ci_low < nearer < found.ci_high
    farther = drop_of("pct_stereotype", [sample(n, n < 60) for n in range(100)], plain, options)
    assert farther.value == pytest.approx(-0.3) and farther.p_worse is not None and farther.p_worse < 0.01


# ---- simulation ----


def test_the_interval_covers_the_true_drop() -> None:
    """Documents right with 0.8; a perturbation loses 15 % of those and wins 5 % of the others: -0.11 in truth."""
    truth, size, repetitions = -0.8 * 0.15 + 0.2 * 0.05, 150, 600
    draws = np.random.default_rng(20)
    covered = 0
    for _ in range(repetitions):
        right = draws.random(size) < 0.8
        changed = np.where(right, draws.random(size) >= 0.15, draws.random(size) < 0.05)
        found = drop_of(
            "acc",
            [sample(n, bool(r)) for n, r in enumerate(right)],
            [sample(n, bool(r)) for n, r in enumerate(changed)],
        )
        assert found.ci_low is not None and found.ci_high is not None
        covered += found.ci_low <= truth <= found.ci_high
    error = math.sqrt(0.95 * 0.05 / repetitions)
    assert abs(covered / repetitions - 0.95) < 3 * error


def test_the_interval_of_a_perplexitys_drop_covers_the_truth() -> None:
    """Nats of a document grow by a gamma of mean 0.2: the perplexity by e^0.2 in truth."""
    options, size, repetitions = MetricOptions(task_type="cloze"), 120, 500
    draws = np.random.default_rng(21)
    truth, covered = -math.expm1(0.2), 0
    for _ in range(repetitions):
        nats = draws.gamma(4, 0.5, size)
        more = draws.gamma(4, 0.05, size)
        found = drop_of(
            "ppl",
            [sample(n, True, nats=float(x)) for n, x in enumerate(nats)],
            [sample(n, True, nats=float(x)) for n, x in enumerate(nats + more)],
            options,
        )
        assert found.ci_low is not None and found.ci_high is not None
        covered += found.ci_low <= truth <= found.ci_high
    error = math.sqrt(0.95 * 0.05 / repetitions)
    assert abs(covered / repetitions - 0.95) < 3 * error


def test_no_effect_is_found_where_there_is_none(tmp_path: Path) -> None:
    """A model that answers at random: its drops are noise, and p below 0.05 about as rare as it says."""
    small = [0, 0]
    task = prepared(tmp_path, "case", metrics=["acc"])
    for run in range(60):
        record, _ = evaluate_perturbed(task, random_engine(f"model {run}"))
        assert record.perturbed is not None
        p = record.perturbed["case"].drops["acc"].p_worse
        assert p is not None
        small[p < 0.05] += 1
    assert small[1] <= 9  # 3 expected; 9 or fewer with probability 0.999


# ---- a task under perturbations ----


def forgetful(request: ScoreRequest) -> tuple[float, int, bool]:
    """Right as long as the context has no word in capitals."""
    label = int("".join(filter(str.isdigit, request.context))) % 2
    lost = any(word.isupper() and len(word) > 1 for word in request.context.split())
    liked = (" good", " poor")[label]
    return (-1.0 if (request.target == liked) != lost else -2.0), 1, False


def test_a_task_is_scored_plain_and_under_each_perturbation(tmp_path: Path) -> None:
    task = prepared(tmp_path, "case", "typos", "shuffle_choices", metrics=["acc", "brier"])
    record, samples = evaluate_perturbed(task, TableEngine(forgetful))
    assert list(samples) == [
        f"my_classification{name}" for name in ("", "+case", "+typos", "+shuffle_choices")
    ]
    plain, own = evaluate(task, TableEngine(forgetful))
    assert dataclasses.replace(record, perturbed=None) == plain and samples["my_classification"] == own
    assert record.perturbed is not None
    case = record.perturbed["case"]
    in_capitals = [
        any(word.isupper() and len(word) > 1 for word in found.context.split())
        for found in samples["my_classification+case"]
    ]
    assert record.metrics["acc"].value == 1.0
    assert case.metrics["acc"].value == pytest.approx(1 - sum(in_capitals) / len(ROWS))
    assert case.drops["acc"].value == pytest.approx(-sum(in_capitals) / len(ROWS))
    assert case.num_changed == sum(
        a.context != b.context for a, b in zip(own, samples["my_classification+case"], strict=True)
    )
    assert record.perturbed["shuffle_choices"].drops["acc"].value == 0
    assert record.perturbed["shuffle_choices"].num_changed == len(ROWS)
    assert len({found.prompts_sha256 for found in record.perturbed.values()} | {record.prompts_sha256}) == 4


@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_of_task_has_its_drops(kind: str, tmp_path: Path) -> None:
    spec = make_task(tmp_path, kind)
    task = prepare(spec, Settings(perturb=("typos", "case", "whitespace", "punctuation")))
    model_type = "seq2seq" if kind == "translation" else "causal"
    record, samples = evaluate_perturbed(task, random_engine("m", model_type=model_type))
    if kind in ("perplexity", "memorization"):
        assert record.perturbed is None and list(samples) == [spec.name]
        return
    assert record.perturbed is not None and list(record.perturbed) == [
        "typos",
        "case",
        "whitespace",
        "punctuation",
    ]
    for found in record.perturbed.values():
        assert list(found.metrics) == list(found.drops) == list(record.metrics)
        assert all(math.isfinite(value.value) for value in found.drops.values())


def test_no_perturbation_changes_nothing(tmp_path: Path) -> None:
    spec = make_task(tmp_path, "classification", ROWS)
    without, empty = prepare(spec, Settings()), prepare(spec, Settings(perturb=(), perturb_seed=7))
    engine = random_engine("m")
    assert run_fingerprint(engine, [without]) == run_fingerprint(engine, [empty])
    both = [evaluate_perturbed(task, random_engine("m")) for task in (without, empty)]
    texts = [
        json.dumps([dataclasses.asdict(record), [s.to_json() for s in samples[spec.name]]])
        for record, samples in both
    ]
    assert texts[0] == texts[1]
    assert both[0][0].perturbed is None


def test_the_seed_is_the_runs_unless_one_is_given(tmp_path: Path) -> None:
    spec = make_task(tmp_path, "classification", ROWS)
    given = [
        prepare(spec, Settings(seed=seed, perturb=("typos",), perturb_seed=own))
        for seed, own in ((1, None), (5, 1), (1, 2))
    ]
    texts = [[prompt.context for prompt in task.perturbed["typos"]] for task in given]
    assert texts[0] == texts[1] != texts[2]
    assert [task.perturb_seed for task in given] == [1, 1, 2]
    engine = random_engine("m")
    assert len({run_fingerprint(engine, [task]) for task in (given[0], given[2])}) == 2
