"""Which run a path means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmeval.baseline import save_baseline
from lmeval.errors import StoreError
from lmeval.journal import Journal
from lmeval.runs import finished_runs, load_run
from lmeval.store import JOURNAL
from tests.canned import prepared
from tests.table_runs import table_run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two models, of which one has two runs, and a run that was cut off; the newer run has the lesser name."""
    task = prepared(tmp_path, "minimal_pairs")
    results = tmp_path / "results"
    for name, created in (("a/2", "2026-01-01"), ("a/1", "2026-01-02"), ("b/3", "2026-01-03")):
        table_run(results / name, [task])
        file = results / name / "run.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "created": created}))
    Journal(results / "a" / "9" / JOURNAL).close()
    return results


def ids(path: Path) -> list[str]:
    return [run.record.run_id for run in finished_runs(path)]


def test_a_folder_its_run_json_and_a_folder_above_one_run(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (results / "b" / "3", results / "b" / "3" / "run.json", results / "b"):
        run = load_run(path)
        assert run.record.run_id == "3" and run.path == results / "b" / "3"
    monkeypatch.chdir(results / "b" / "3")
    assert load_run(".").record.run_id == load_run("run.json").record.run_id == "3"


def test_a_models_folder_is_its_newest_run(results: Path) -> None:
    assert load_run(results / "a").record.run_id == "1"
    assert load_run(str(results / "a")).identity["created"] == "2026-01-02"


def test_a_folder_above_several_models_must_say_which(results: Path) -> None:
    with pytest.raises(StoreError, match="3 finished runs") as error:
        load_run(results)
    assert str(results / "a" / "1") in str(error.value)


def test_a_run_that_was_cut_off_is_not_finished(results: Path) -> None:
    with pytest.raises(StoreError, match="not finished"):
        load_run(results / "a" / "9")


@pytest.mark.parametrize("name", ["nowhere", "empty", "empty/file.txt", "n" * 5000, "nul\0"])
def test_what_holds_no_run_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "file.txt").write_text("text")
    with pytest.raises(StoreError) as error:
        load_run(tmp_path / name)
    assert error.value.exit_code == 2 and name[:3] in str(error.value)


def test_a_baseline_file_is_a_run(results: Path, tmp_path: Path) -> None:
    file = tmp_path / "main.json"
    save_baseline(load_run(results / "b"), file)
    assert load_run(file).record == load_run(results / "b").record


def test_finished_runs_are_sorted_by_age_and_leave_out_the_others(results: Path) -> None:
    assert ids(results) == ["2", "1", "3"]
    assert ids(results / "a") == ["2", "1"]
    assert ids(results / "b" / "3") == ["3"]
    assert ids(results / "a" / "9") == []
    with pytest.raises(StoreError, match="no such folder"):
        finished_runs(results / "nowhere")


def test_a_damaged_run_among_the_finished_is_an_error(results: Path) -> None:
    (results / "b" / "3" / "run.json").write_text("{")
    with pytest.raises(StoreError, match="not valid JSON"):
        finished_runs(results)
