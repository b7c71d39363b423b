"""A baseline is replaced only after a gate, and forgets neither whom it replaced nor its anchor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmeval.baseline import load_baseline, promote, save_baseline
from lmeval.errors import NotComparableError, StoreError, UsageError
from lmeval.gate.config import GateConfig
from lmeval.gate.formats import json_text
from lmeval.gate.suite import judge_suite
from lmeval.runs import StoredRun, load_run
from tests.gate.finished import chosen, finished_run, flags, read

N = 1000


def run(tmp_path: Path, name: str, wrong: range = range(0), **changes: Any) -> StoredRun:
    made = {"t": chosen(flags(N, wrong), **changes), "u": read([float(50 + i % 7) for i in range(100)])}
    return load_run(finished_run(tmp_path / name, made))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_baseline(run(tmp_path, "first"), tmp_path / "main.json")
    return tmp_path / "main.json"


def test_a_candidate_that_passes_takes_its_place(file: Path, tmp_path: Path) -> None:
    before = json.loads(file.read_text())
    new = run(tmp_path, "second", range(2))
    done = promote(new, file, GateConfig())
    assert (done.verdict, done.exit_code, done.promoted) == ("PASS", 0, True)
    held = load_baseline(file)
    assert held.record == new.record
    (entry,) = held.history
    assert entry["run_id"] == "first" and entry["replaced_by"] == "second"
    assert entry["verdict"] == "PASS" and entry["forced"] is False
    assert entry["file_sha256"] == before["sha256"]
    assert held.anchor is not None and held.anchor.record.run_id == "first"  # the first that is replaced


def test_the_anchor_stays_whoever_follows(file: Path, tmp_path: Path) -> None:
    first = load_baseline(file)
    for name in ("second", "third", "fourth"):
        assert promote(run(tmp_path, name), file, GateConfig()).promoted
    held = load_baseline(file)
    assert [entry["run_id"] for entry in held.history] == ["third", "second", "first"]
    assert held.anchor is not None and held.anchor.record == first.record
    assert held.anchor.anchor is None
    statistics = [run.tasks["t"].metrics["acc"].statistics.tolist() for run in (held.anchor, first)]
    assert statistics[0] == statistics[1]


def test_slow_decay_does_not_pass_the_anchor(file: Path, tmp_path: Path) -> None:
    """Each step loses a little less than the margin of a point."""
    verdicts = [
        promote(run(tmp_path, f"step{i}", range(3 * i)), file, GateConfig()).promoted for i in range(1, 9)
    ]
    assert verdicts[0] and not verdicts[-1]
    held = load_baseline(file)
    assert held.anchor is not None and held.anchor.record.run_id == "first"


@pytest.mark.parametrize(("wrong", "verdict", "code"), [(60, "FAIL", 10), (8, "INCONCLUSIVE", 11)])
def test_a_candidate_that_does_not_pass_changes_nothing(
    wrong: int, verdict: str, code: int, file: Path, tmp_path: Path
) -> None:
    before = file.read_bytes()
    done = promote(run(tmp_path, "worse", range(wrong)), file, GateConfig())
    assert (done.verdict, done.exit_code, done.promoted) == (verdict, code, False)
    assert done.report is not None and done.report.exit_code == code
    assert file.read_bytes() == before


def test_force_is_recorded(file: Path, tmp_path: Path) -> None:
    done = promote(run(tmp_path, "worse", range(60)), file, GateConfig(), force=True)
    assert (done.verdict, done.exit_code, done.promoted) == ("FAIL", 0, True)
    held = load_baseline(file)
    assert held.record.run_id == "worse"
    assert held.history[0]["verdict"] == "FAIL" and held.history[0]["forced"] is True
    assert held.anchor is not None and held.anchor.record.run_id == "first"


def test_another_task_version_is_not_comparable_and_can_only_be_forced(file: Path, tmp_path: Path) -> None:
    new = run(tmp_path, "new", version=2)
    assert promote(new, file, GateConfig()).exit_code == 12
    assert promote(new, file, GateConfig(), force=True).promoted
    assert load_baseline(file).history[0]["verdict"] == "NOT_COMPARABLE"


def test_what_no_rule_looks_at_is_not_lost_either(file: Path, tmp_path: Path) -> None:
    rule = tmp_path / "gate.yaml"
    rule.write_text("version: 1\ngates:\n  - {task: t, metric: acc, rule: {noninferior: {margin: 0.05}}}\n")
    from lmeval.gate.config import load_gate_file

    config = load_gate_file(rule)
    less = load_run(finished_run(tmp_path / "less", {"t": chosen(flags(N))}))
    with pytest.raises(NotComparableError, match="u: the candidate does not have it"):
        promote(less, file, config)
    changed = {"t": chosen(flags(N)), "u": read([50.0] * 90)}
    with pytest.raises(NotComparableError, match="u: documents: 100"):
        promote(load_run(finished_run(tmp_path / "changed", changed)), file, config)
    assert load_baseline(file).record.run_id == "first"


def test_the_baseline_itself_is_no_candidate(file: Path) -> None:
    with pytest.raises(UsageError, match="holds already"):
        promote(load_run(file), file, GateConfig(), force=True)


# ---- a report of an earlier gate ----


def report(
    tmp_path: Path, candidate: StoredRun, baseline: StoredRun, anchor: StoredRun | None = None
) -> Path:
    path = tmp_path / "gate.json"
    path.write_text(json_text(judge_suite(candidate, baseline, GateConfig(), anchor=anchor)))
    return path


def test_a_report_stands_in_for_the_gate(file: Path, tmp_path: Path) -> None:
    new = run(tmp_path, "second")
    done = promote(new, file, GateConfig(), gate_report=report(tmp_path, new, load_baseline(file)))
    assert done.promoted and done.report is None
    third = run(tmp_path, "third")
    held = load_baseline(file)
    with pytest.raises(NotComparableError, match="another anchor: none"):
        promote(third, file, GateConfig(), gate_report=report(tmp_path, third, held))
    assert promote(third, file, GateConfig(), gate_report=report(tmp_path, third, held, held.anchor)).promoted


def test_a_report_that_does_not_pass_or_is_of_others_is_refused(file: Path, tmp_path: Path) -> None:
    base, new, worse = load_baseline(file), run(tmp_path, "second"), run(tmp_path, "worse", range(60))
    done = promote(worse, file, GateConfig(), gate_report=report(tmp_path, worse, base))
    assert (done.exit_code, done.promoted) == (10, False)
    with pytest.raises(NotComparableError, match="another candidate: second"):
        promote(run(tmp_path, "third"), file, GateConfig(), gate_report=report(tmp_path, new, base))
    with pytest.raises(NotComparableError, match="another baseline: worse"):
        promote(new, file, GateConfig(), gate_report=report(tmp_path, new, worse))
    for text in ("{}", '{"verdict": "PASS"}', '{"verdict": "FINE", "runs": {}}', "[]"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(StoreError, match="no report of the gate"):
            promote(new, file, GateConfig(), gate_report=tmp_path / "bad.json")


# ---- saving ----


def test_nothing_is_overwritten_by_save(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(StoreError, match="exists and is not overwritten"):
        save_baseline(run(tmp_path, "second"), file)
    assert file.read_bytes() == before


def test_an_anchor_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "main.json"
    save_baseline(run(tmp_path, "now"), file, run(tmp_path, "then"))
    anchor = load_baseline(file).anchor
    assert anchor is not None and anchor.record.run_id == "then"
    promote(run(tmp_path, "next"), file, GateConfig())
    anchor = load_baseline(file).anchor
    assert anchor is not None and anchor.record.run_id == "then"
    save_baseline(load_run(file), tmp_path / "copy.json")
    assert (tmp_path / "copy.json").read_bytes() == file.read_bytes()  # history and anchor too


def test_damaged_samples_are_not_saved(tmp_path: Path) -> None:
    made = run(tmp_path, "run")
    lines = made.path / "samples" / "t.jsonl"
    lines.write_text(lines.read_text()[:-40])
    with pytest.raises(StoreError):
        save_baseline(load_run(made.path), tmp_path / "main.json")
    assert not (tmp_path / "main.json").exists()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        save_baseline(run(tmp_path, "run"), tmp_path / "file" / "main.json")


def test_the_folder_of_a_baseline_is_made(tmp_path: Path) -> None:
    save_baseline(run(tmp_path, "run"), tmp_path / "baselines" / "of" / "main.json")
    assert (tmp_path / "baselines" / "of" / "main.json").is_file()


def test_only_a_baseline_file_is_one(tmp_path: Path) -> None:
    made = run(tmp_path, "run")
    for path in (made.path, made.path / "run.json", tmp_path / "nowhere"):
        with pytest.raises(StoreError):
            load_baseline(path)
