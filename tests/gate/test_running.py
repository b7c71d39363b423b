"""The gate runs the model itself: in rounds or whole, resumed, refused, and to the same verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from lmeval.betting import FINAL_SHARE
from lmeval.compare import require_comparable
from lmeval.engine.sources import ModelOptions
from lmeval.engine.table import TableEngine
from lmeval.errors import NotComparableError
from lmeval.gate import running
from lmeval.gate.config import GateConfig, Margin, Rule, SequentialSpec
from lmeval.gate.running import Opponents, run_and_judge
from lmeval.gate.suite import GateReport
from lmeval.listener import Silence
from lmeval.paired import TangoDifference
from lmeval.prepare import Settings, prepare
from lmeval.records import ScoreRequest
from lmeval.run import Job, Keep, OpenJob, run_opened
from lmeval.runs import StoredRun, load_run
from lmeval.specs import TaskSpec
from tests.canned import make_task

NUM = 600
ROWS = [{"review": f"Film {i} was so.", "label": i % 2} for i in range(NUM)]
TEXTS = [{"text": f"Text {i} says so."} for i in range(40)]
IN_ROUNDS = SequentialSpec(enabled=True, seed=0)


@dataclass
class Answers:
    """A model that is wrong about some films, and counts what it is asked."""

    wrong: Collection[int] = ()
    stop_after: int | None = None
    asked: list[int] = field(default_factory=list)

    def __call__(self, request: ScoreRequest) -> tuple[float, int, bool]:
        if request.target.startswith("Text"):
            return -8.0, 4, False
        number = int(request.context.split()[1])
        self.asked.append(number)
        if self.stop_after is not None and len(self.asked) > self.stop_after:
            raise KeyboardInterrupt
        good = (number % 2 == 0) != (number in self.wrong)
        is_best = request.target.endswith("good") == good
        return (-0.1 if is_best else -3.0), 1, is_best


def engine(answers: Answers) -> TableEngine:
    return TableEngine(answers, name=f"wrong {sorted(answers.wrong)[:9]} {len(answers.wrong)}")


def job(*specs: TaskSpec, **settings: object) -> Job:
    return Job(specs, frozenset(), ModelOptions(model="table"), Settings(**settings))  # type: ignore[arg-type]


def finished(output: Path, answers: Answers, *specs: TaskSpec, **settings: object) -> StoredRun:
    """A whole run."""
    asked = job(*specs, **settings)
    tasks = [prepare(spec, asked.settings) for spec in specs]
    opened = OpenJob(engine(answers), tasks, {})
    _, folder = run_opened(opened, asked, Keep(output), Silence(), time.perf_counter())
    return load_run(folder)


@pytest.fixture
def films(tmp_path: Path) -> TaskSpec:
    return make_task(tmp_path, "classification", ROWS, name="films", metrics=["acc", "macro_f1", "brier"])


Gate = Callable[..., tuple[GateReport, StoredRun | None]]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    def run(
        answers: Answers,
        baseline: StoredRun,
        *rules: Rule,
        specs: Collection[TaskSpec],
        sequential: SequentialSpec = IN_ROUNDS,
        anchor: StoredRun | None = None,
        output: str = "candidates",
        **settings: object,
    ) -> tuple[GateReport, StoredRun | None]:
        monkeypatch.setattr(running, "find", lambda options: SimpleNamespace(kind="causal", head=None))
        monkeypatch.setattr(running, "load", lambda found, listener, cache: engine(answers))
        config = GateConfig(tuple(rules), sequential=sequential)
        keep, opponents = Keep(tmp_path / output), Opponents(baseline, anchor)
        report, folder = run_and_judge(job(*specs, **settings), keep, opponents, config, Silence())
        return report, load_run(folder) if folder else None

    return run


def no_worse(margin: float, task: str = "films", metric: str = "acc") -> Rule:
    return Rule(task, metric, "noninferior", Margin(margin))


def shares(numbers: int, share: float) -> frozenset[int]:
    return frozenset(range(0, numbers, round(1 / share)))


def test_a_much_worse_model_fails_early_and_an_equal_one_passes(
    tmp_path: Path, films: TaskSpec, gate: Gate
) -> None:
    baseline = finished(tmp_path / "base", Answers(shares(NUM, 0.1)), films)
    damaged = Answers(shares(NUM, 0.2) | frozenset(range(1, NUM, 4)))
    report, run = gate(damaged, baseline, no_worse(0.02), specs=[films])
    (result,) = report.results
    assert run is not None and result.documents_used is not None and result.documents_total == NUM
    assert (report.verdict, report.exit_code) == ("FAIL", 10)
    assert result.documents_used == run.tasks["films"].num_documents == result.n <= 0.2 * NUM
    assert len(set(damaged.asked)) == result.documents_used
    assert result.delta is not None and result.interval is not None
    assert result.interval[0] < result.delta < result.interval[1] < -0.02
    assert result.flips and result.losses and result.method == "betting e-process by document"

    same = Answers(shares(NUM, 0.1))
    report, _ = gate(same, baseline, no_worse(0.02), specs=[films])
    assert (report.verdict, report.exit_code) == ("PASS", 0)
    assert 0.2 * NUM < len(set(same.asked)) < 0.6 * NUM


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_clear_cases_end_as_a_run_of_all_documents_does(
    tmp_path: Path, films: TaskSpec, gate: Gate, share: float
) -> None:
    baseline = finished(tmp_path / "base", Answers(), films)
    answers = Answers(shares(NUM, share) if share else ())
    early, _ = gate(answers, baseline, no_worse(0.03), specs=[films])
    whole, run = gate(answers, baseline, no_worse(0.03), specs=[films], sequential=SequentialSpec())
    assert run is not None and run.tasks["films"].num_documents == NUM
    assert early.verdict == whole.verdict == ("FAIL" if share else "PASS")


def test_the_run_says_that_it_is_in_part_and_compares_with_no_whole_one(
    tmp_path: Path, films: TaskSpec, gate: Gate
) -> None:
    baseline = finished(tmp_path / "base", Answers(), films)
    _, run = gate(Answers(), baseline, no_worse(0.03), specs=[films])
    assert run is not None
    task = run.tasks["films"]
    assert task.record.sequential is not None and task.is_partial
    assert task.record.sequential.seed == 0
    assert task.record.sequential.documents_used == task.num_documents < NUM
    assert task.record.sequential.documents_total == NUM
    assert list(task.doc_ids) == sorted(task.doc_ids)
    assert set(task.metrics) == {"acc", "macro_f1", "brier"}  # all of the task, not only what was bet on
    with pytest.raises(NotComparableError, match="documents"):
        require_comparable(baseline.tasks["films"], task)


def test_an_interrupted_gate_goes_on_and_ends_the_same(tmp_path: Path, films: TaskSpec, gate: Gate) -> None:
    wrong = frozenset(range(0, NUM, 12))
    baseline = finished(tmp_path / "base", Answers(), films)
    whole, run = gate(Answers(wrong), baseline, no_worse(0.03), specs=[films], output="at once")
    assert run is not None
    stopped = Answers(wrong, stop_after=150)
    with pytest.raises(KeyboardInterrupt):
        gate(stopped, baseline, no_worse(0.03), specs=[films], output="twice")
    rest = Answers(wrong)
    resumed, again = gate(rest, baseline, no_worse(0.03), specs=[films], output="twice")
    assert again is not None
    assert len(rest.asked) == 2 * again.tasks["films"].num_documents - 150  # nothing is asked twice
    assert again.tasks["films"].record.counts["reused"] == 0  # of this run, if of another process
    lines = [(r.path / "samples" / "films.jsonl").read_text() for r in (run, again)]
    assert lines[0] == lines[1]
    assert resumed.verdict == whole.verdict
    assert resumed.results[0].p_pass == whole.results[0].p_pass
    assert resumed.results[0].delta == whole.results[0].delta


def test_another_seed_asks_other_documents_first(tmp_path: Path, films: TaskSpec, gate: Gate) -> None:
    baseline = finished(tmp_path / "base", Answers(), films)
    asked = []
    for seed in (0, 0, 1):
        answers = Answers()
        spec = SequentialSpec(enabled=True, seed=seed)
        gate(answers, baseline, no_worse(0.03), specs=[films], sequential=spec, output=f"run {len(asked)}")
        asked.append(set(answers.asked))
    assert asked[0] == asked[1] != asked[2]
    assert min(asked[0]) < NUM / 10 and max(asked[0]) > NUM * 9 / 10  # from all over the file


def test_no_document_left_gives_the_last_word_to_the_test_of_all(
    tmp_path: Path, films: TaskSpec, gate: Gate
) -> None:
    ours, theirs = frozenset(range(0, NUM, 30)), frozenset(range(1, NUM, 30))
    baseline = finished(tmp_path / "base", Answers(theirs), films)
    report, run = gate(Answers(ours), baseline, no_worse(0.028), specs=[films])
    assert run is not None and run.tasks["films"].num_documents == NUM
    (result,) = report.results
    assert (result.gains, result.losses) == (20, 20)
    tango = TangoDifference(gains=20, losses=20, n=NUM).p_not_worse(0.028)
    assert result.p_pass == pytest.approx(tango / FINAL_SHARE, rel=1e-9)
    assert result.method.endswith("then all documents at 0.2 alpha")
    assert report.verdict == "PASS"
    # what only all of alpha would show stays open
    assert TangoDifference(gains=20, losses=20, n=NUM).p_not_worse(0.019) < 0.05
    report, _ = gate(Answers(ours), baseline, no_worse(0.019), specs=[films])
    assert (report.verdict, report.exit_code) == ("INCONCLUSIVE", 11)
    assert "all there are" in report.notes[-1]


def test_what_cannot_bet_is_run_whole_beside_what_can(tmp_path: Path, films: TaskSpec, gate: Gate) -> None:
    texts = make_task(tmp_path, "perplexity", TEXTS, name="texts", metrics=["bits_per_byte"])
    baseline = finished(tmp_path / "base", Answers(), films, texts)
    rules = [no_worse(0.03), no_worse(0.01, "texts", "bits_per_byte")]
    report, run = gate(Answers(), baseline, *rules, specs=[films, texts])
    assert run is not None
    assert run.tasks["films"].num_documents < NUM and run.tasks["films"].record.sequential is not None
    assert run.tasks["texts"].num_documents == len(TEXTS) and run.tasks["texts"].record.sequential is None
    assert [result.verdict for result in report.results] == ["PASS", "PASS"]
    assert [result.documents_used is None for result in report.results] == [False, True]
    # one rule that needs all documents of a task takes its other rules with it
    _, run = gate(Answers(), baseline, no_worse(0.03), no_worse(0.03, metric="macro_f1"), specs=[films])
    assert run is not None and run.tasks["films"].num_documents == NUM


def test_lower_is_better_and_other_bounds(tmp_path: Path, films: TaskSpec, gate: Gate) -> None:
    baseline = finished(tmp_path / "base", Answers(), films)
    report, run = gate(Answers(range(0, NUM, 2)), baseline, no_worse(0.1, metric="brier"), specs=[films])
    assert run is not None
    (result,) = report.results
    assert (
        report.verdict == "FAIL" and result.delta is not None and result.delta < -0.3
    )  # a higher Brier score
    assert result.candidate is not None and result.baseline is not None
    assert result.candidate - result.baseline == pytest.approx(-result.delta)


def test_an_anchor_is_one_more_opponent(tmp_path: Path, films: TaskSpec, gate: Gate) -> None:
    # the candidate is as good as the baseline, which has lost a quarter since the anchor
    worse = frozenset(range(0, NUM, 4))
    baseline = finished(tmp_path / "base", Answers(worse), films)
    anchor = finished(tmp_path / "anchor", Answers(), films)
    report, _ = gate(Answers(worse), baseline, no_worse(0.03), specs=[films], anchor=anchor)
    assert [(r.against, r.verdict) for r in report.results] == [("baseline", "PASS"), ("anchor", "FAIL")]
    used = [r.documents_used for r in report.results]
    assert used[0] is not None and used[1] is not None and used[1] < used[0]  # each as many as it took
    assert report.verdict == "FAIL"


def test_clusters_are_scored_and_bet_on_whole(tmp_path: Path, gate: Gate) -> None:
    rows = [{**row, "page": f"page {i // 4}"} for i, row in enumerate(ROWS)]
    pages = make_task(tmp_path, "classification", rows, name="pages", metrics=["acc"], cluster="{{ page }}")
    baseline = finished(tmp_path / "base", Answers(), pages)
    wrong = frozenset(i for i in range(NUM) if i % 16 < 4)  # every fourth page
    report, run = gate(Answers(wrong), baseline, no_worse(0.02, "pages"), specs=[pages])
    assert run is not None
    (result,) = report.results
    assert result.method == "betting e-process by cluster" and report.verdict == "FAIL"
    assert {clusters.count(c) for clusters in [run.tasks["pages"].clusters] for c in clusters} == {4}
    assert result.n == 4 * (result.num_clusters or 0) < NUM


def test_what_cannot_be_compared_is_refused_before_the_model_is_loaded(
    tmp_path: Path, films: TaskSpec, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = finished(tmp_path / "base", Answers(), films)
    answers = Answers()
    report, run = gate(answers, baseline, no_worse(0.03), specs=[films], limit=100)
    assert run is None and not answers.asked and not list((tmp_path / "candidates").glob("*/*"))
    assert (report.verdict, report.exit_code) == ("NOT_COMPARABLE", 12)
    assert "--limit 100" in str(report.results[0].problem)
    other = make_task(
        tmp_path, "classification", ROWS, name="films", metrics=["acc"], choices=[" good", " bad"]
    )
    report, run = gate(answers, baseline, no_worse(0.03), specs=[other])
    assert run is None and "task_sha256" in str(report.results[0].problem)
    (tmp_path / "other").mkdir()
    changed = make_task(
        tmp_path / "other", "classification", [*ROWS[:-1], {"review": "Film 1000 was so.", "label": 1}], name="films",
        metrics=["acc", "macro_f1", "brier"],
    )  # fmt: skip
    report, run = gate(answers, baseline, no_worse(0.03), specs=[changed])
    assert run is None and "documents_sha256" in str(report.results[0].problem)
    report, run = gate(answers, baseline, no_worse(0.03, "absent"), specs=[films])
    assert run is None and 'no task "absent"' in str(report.results[0].problem)
    with pytest.raises(NotComparableError, match="none of the tasks"):
        gate(answers, baseline, specs=[make_task(tmp_path, "minimal_pairs", name="pairs")])
    assert not answers.asked


def test_a_metric_that_is_computed_otherwise_is_found_in_the_first_round(
    tmp_path: Path, films: TaskSpec, gate: Gate
) -> None:
    baseline = finished(tmp_path / "base", Answers(), films)
    file = baseline.path / "run.json"
    record = json.loads(file.read_text())
    record["tasks"]["films"]["metrics"]["acc"]["signature"] = "match:by_hand"
    file.write_text(json.dumps(record))
    answers = Answers()
    with pytest.raises(NotComparableError, match="signature of acc: match:by_hand"):
        gate(answers, load_run(baseline.path), no_worse(0.03), specs=[films])
    assert len(set(answers.asked)) < NUM / 10


def test_default_rules_are_those_of_the_tasks_that_are_asked(
    tmp_path: Path, films: TaskSpec, gate: Gate
) -> None:
    texts = make_task(tmp_path, "perplexity", TEXTS, name="texts", metrics=["bits_per_byte"])
    baseline = finished(tmp_path / "base", Answers(), films, texts)
    report, _ = gate(Answers(), baseline, specs=[texts])
    assert [result.rule.task for result in report.results] == ["texts"]
    assert report.verdict == "PASS"


def test_fail_is_corrected_for_all_rules_and_pass_is_not(tmp_path: Path, films: TaskSpec, gate: Gate) -> None:
    baseline = finished(tmp_path / "base", Answers(), films)
    worse = Answers(frozenset(range(0, NUM, 9)))
    alone, one = gate(worse, baseline, no_worse(0.02), specs=[films], output="alone")
    copies = [
        make_task(tmp_path, "classification", ROWS, name=f"films_{i}", metrics=["acc"]) for i in range(9)
    ]
    wide = finished(tmp_path / "wide", Answers(), films, *copies)
    rules = [no_worse(0.02), *(no_worse(0.5, spec.name) for spec in copies)]  # the others pass at once
    among, ten = gate(worse, wide, *rules, specs=[films, *copies], output="among")
    assert one is not None and ten is not None
    assert [result.verdict for result in among.results] == ["FAIL"] + ["PASS"] * 9
    assert ten.tasks["films"].num_documents > one.tasks["films"].num_documents
    assert {ten.tasks[spec.name].num_documents for spec in copies} == {32}
    assert alone.verdict == among.verdict == "FAIL"
